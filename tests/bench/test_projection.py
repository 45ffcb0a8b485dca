"""Contrasts in a subject's own activations: along a direction, against directions drawn at random."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ethos import steering
from ethos.bench.claim import BEYOND_CONTEXT, Bench, unscored_if_nan
from ethos.bench.items import Crossed, Triple
from ethos.bench.projection import DEPTH, LEAST_ROWS, projection, projections
from ethos.data.recorded import NOTHING, PoleRow
from ethos.records import user
from ethos.units import ScoreCache

ROWS = [
    PoleRow(id=str(i), trait="care", prompt=f"What of {i}?", chosen=f"Ask them {i}.", rejected=f"Push them {i}!")
    for i in range(LEAST_ROWS)
]
RECORDED = NOTHING._replace(poles=ROWS)


def crossed(name: str, a: str, b: str, r1: str = "Run out now.", r2: str = "Have a look.") -> Crossed:
    return Crossed(id=name, split="familiar", kind="urgency", a=a, b=b, r1=r1, r2=r2, fact="f")


FIRE = crossed("fire", "The house is on fire.", "The house is on sale.")
POLE = Triple(id="t", split="familiar", trait="care", prompt="What now?", chosen="Ask her.", opposite="Push her.")


def test_the_projection_by_hand() -> None:
    """Along a contrast itself: |d| over the root mean square of random components, which is |d| / √D."""
    contrast = np.zeros(400)
    contrast[0] = 3.0
    assert projection(contrast, 5 * contrast) == pytest.approx(20.0, rel=0.2)
    assert projection(contrast, -contrast) == -projection(contrast, contrast)
    assert projection(2 * contrast, contrast) == pytest.approx(projection(contrast, contrast))
    across = np.roll(contrast, 1)
    assert projection(contrast, across) == 0
    assert projection(contrast, contrast + across) == pytest.approx(projection(contrast, contrast) / 2**0.5)
    assert projection(np.zeros(400), contrast) == 0


def test_a_random_direction_projects_to_one_in_the_root_mean_square() -> None:
    rng = np.random.default_rng(1)
    contrast = rng.normal(size=50)
    found = [projection(contrast, direction) for direction in rng.normal(size=(2000, 50))]
    assert float(np.sqrt(np.mean(np.square(found)))) == pytest.approx(1.0, abs=0.15)


def test_a_crossed_contrast_in_activations_by_hand(bench: Bench) -> None:
    """From every reply's own forward pass and the vector of the recorded rows."""
    bench = bench._replace(recorded=RECORDED)
    loaded, chat = bench.loaded, bench.loaded.chat
    (layer,) = steering.layers_at(loaded.model, [DEPTH])

    def mean(prompt: str, reply: str) -> np.ndarray:
        found = steering.mean_activations(loaded.model, [chat.reply([user(prompt)], reply)])
        return found[layer].double().numpy()  # type: ignore[no-any-return]

    good = [chat.reply([user(row.prompt)], row.chosen) for row in ROWS]
    bad = [chat.reply([user(row.prompt)], row.rejected) for row in ROWS]
    vector = steering.persona_vectors(loaded.model, good, bad)[layer].double().numpy()
    one = FIRE
    wise = (mean(one.a, one.r1) - mean(one.a, one.r2) + mean(one.b, one.r2) - mean(one.b, one.r1)) / 2
    pole = mean(POLE.prompt, POLE.chosen) - mean(POLE.prompt, POLE.opposite or "")
    across, along = projections(bench, [one], [POLE])
    assert (across.item, across.readout) == ("fire", "projection")
    assert across.value == pytest.approx(projection(wise, vector), abs=1e-3)
    assert (along.item, along.readout) == ("t", "pole projection")
    assert along.value == pytest.approx(projection(pole, vector), abs=1e-3)
    assert abs(projection(wise, vector)) > 1e-3  # so that the test can fail


def test_what_a_reply_is_by_itself_cancels(bench: Bench) -> None:
    """Equal situations, or equal replies, leave nothing to project."""
    same = [crossed("s", "Help!", "Help!"), crossed("r", "Help!", "No.", "Go.", "Go.")]
    assert [score.value for score in projections(bench._replace(recorded=RECORDED), same, [])] == [0, 0]


def test_swapping_the_situations_turns_the_sign_and_swapping_poles_too(bench: Bench) -> None:
    bench = bench._replace(recorded=RECORDED)
    turned = crossed("turned", FIRE.b, FIRE.a)
    one, other = projections(bench, [FIRE, turned], [])
    assert one.value == pytest.approx(-other.value, abs=1e-4)  # type: ignore[operator]
    swapped = [row.model_copy(update={"chosen": row.rejected, "rejected": row.chosen}) for row in ROWS]
    (back,) = projections(bench._replace(recorded=NOTHING._replace(poles=swapped)), [FIRE], [])
    assert one.value == pytest.approx(-back.value, abs=1e-4)  # type: ignore[operator]


def test_too_few_recorded_rows_leave_a_reason(bench: Bench) -> None:
    few = bench._replace(recorded=NOTHING._replace(poles=ROWS[:-1]))
    (score,) = projections(few, [FIRE], [])
    assert (score.value, score.reason) == (None, "5 recorded pole rows, and 6 are needed for a persona vector")


def test_kept_numbers_are_the_same_and_are_not_computed_again(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ScoreCache(tmp_path / "kept.sqlite", "tiny")
    bench = bench._replace(recorded=RECORDED)
    kept = bench._replace(loaded=bench.loaded._replace(cache=cache))
    first = projections(kept, [FIRE], [POLE])
    assert first == projections(bench, [FIRE], [POLE])
    monkeypatch.setattr(steering, "activations", lambda *_: pytest.fail("a pass was made"))
    assert projections(kept, [FIRE], [POLE]) == first
    cache.close()


def test_an_item_beyond_the_context_is_unscored(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ethos.scoring.context", lambda model: 100)
    long = crossed("long", "Help! " * 30, "No. " * 40)
    one, other = map(unscored_if_nan, projections(bench._replace(recorded=RECORDED), [FIRE, long], []))
    assert one.value is not None
    assert (other.value, other.reason) == (None, BEYOND_CONTEXT)


def test_means_of_replies_are_those_of_each_alone(bench: Bench) -> None:
    loaded = bench.loaded
    sequences = [loaded.chat.reply([user(prompt)], text) for prompt in ("A?", "Be?") for text in ("Yes.", "No, no.")]
    together = steering.reply_means(loaded.model, sequences, 1)
    for row, sequence in zip(together, sequences, strict=True):
        torch.testing.assert_close(row, steering.mean_activations(loaded.model, [sequence])[1], atol=1e-4, rtol=1e-4)
