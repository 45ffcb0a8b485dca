"""What is stated against what is decided."""

from itertools import combinations

import numpy as np
import pytest

from ethos.bench.acts_as_it_speaks import AGAIN, QUESTION, duels, judge, measure
from ethos.bench.claim import Bench, Score
from ethos.bench.items import Dilemma
from ethos.bench.readouts import letter_preferences, pair_margins
from ethos.constitution import read_constitution
from ethos.errors import NothingScored
from ethos.records import user

NAMES = [f"trait{i}" for i in range(8)]
PAIRS = [f"{one} or {other}" for one, other in combinations(NAMES, 2)]


def answers(sign: float, *, wobble: float = 0.0, doubt: float = 0.0) -> list[Score]:
    """Two dilemmas a pair; decided follows stated with this sign, and what is stated again but for this doubt."""
    rng = np.random.default_rng(0)
    heard = dict(zip(PAIRS, np.random.default_rng(1).normal(size=len(PAIRS)).tolist(), strict=True))
    strength = dict(zip(NAMES, (0.1, 0.9, 0.3, 0.5, 0.7, 0.2, 0.8, 0.4), strict=True))
    rows = []
    for split in PAIRS:
        one, other = split.split(" or ")
        stated = (strength[one] - strength[other]) / 2
        for twin in (0, 1):
            decided = sign * stated + wobble * float(rng.normal())
            rows.append(Score(item=f"{split}-{twin}", split=split, readout="stated", value=stated))
            again = stated + doubt * heard[split]
            rows.append(Score(item=f"{split}-{twin}", split=split, readout="stated again", value=again))
            rows.append(Score(item=f"{split}-{twin}", split=split, readout="decided", value=decided))
    return rows


@pytest.mark.parametrize(
    ("sign", "wobble", "outcome"), [(1, 0.1, "held"), (-1, 0.1, "refuted"), (0, 1.0, "undecided"), (0, 0, "undecided")]
)
def test_agreement_of_the_two_decides(sign: float, wobble: float, outcome: str) -> None:
    assert judge(answers(0), answers(sign, wobble=wobble)).outcome == outcome


def test_the_two_dilemmas_of_a_pair_say_how_reliable_decisions_are() -> None:
    found = {line.label: line.estimate.mean for line in judge(answers(0), answers(1, wobble=0.01)).lines}
    assert found["two dilemmas of a pair"] > 0.95
    assert found["agreement of base"] == 0


CORRECTED = "agreement, corrected for attenuation"


def test_what_wobble_hides_stands_corrected_beside_and_decides_nothing() -> None:
    """Decided is stated plus noise: behind the noise they agree perfectly."""
    rows = answers(1, wobble=0.2, doubt=0.02)
    found = judge(answers(0), rows)
    means = {line.label: line.estimate.mean for line in found.lines}
    assert means["agreement"] < 0.9
    assert means[CORRECTED] > means["agreement"] + 0.05
    assert means[CORRECTED] == pytest.approx(1.0, abs=0.2)
    assert "Not corrected" not in found.sentence


@pytest.mark.parametrize(
    ("rows", "which"),
    [
        (answers(1, wobble=9.0), "halves of the second"),
        (answers(1, wobble=0.01, doubt=9.0), "the first asked again"),
    ],
)
def test_without_reliability_there_is_a_reason_in_place_of_a_correction(rows: list[Score], which: str) -> None:
    found = judge(answers(0), rows)
    assert CORRECTED not in {line.label for line in found.lines}
    assert f"Not corrected for attenuation: {which} agrees by" in found.sentence


def test_scores_of_before_the_second_question_are_judged_without_a_correction() -> None:
    rows = [row for row in answers(1, wobble=0.1) if row.readout != "stated again"]
    found = judge(rows, rows)
    assert (found.outcome, "Not corrected" in found.sentence) == ("held", True)


def test_a_pair_counts_once_and_only_with_both_answers() -> None:
    rows = answers(2.0)
    found = duels(rows)
    assert [decided for *_, decided in found] == pytest.approx([2 * stated for _, _, stated, _ in found])
    assert len(found) == len(PAIRS)
    unread = [
        row.model_copy(update={"value": None}) if (row.split, row.readout) == (PAIRS[0], "stated") else row
        for row in rows
    ]
    assert duels(unread) == found[1:]


def test_both_answers_are_filed_under_the_pair_in_alphabetical_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ethos.bench.readouts.OPTION_MASS_FLOOR", 0.0)
    bench = bench._replace(per_split=8)
    items, rows = bench.items("dilemmas", Dilemma), measure(bench)
    turned = [item for item in items if item.one > item.other]
    assert turned
    assert len(turned) < len(items)
    says = {trait.name: trait.statement.split(". ")[0].rstrip(".") + "." for trait in bench.constitution.trait}
    for item in items:
        first, second = sorted((item.one, item.other))
        own = {row.readout: row for row in rows if row.item == item.id}
        preferred, again = letter_preferences(
            bench.loaded, [(asked, says[first], says[second]) for asked in (QUESTION, AGAIN)]
        )
        (margin,) = pair_margins(bench.loaded, [([user(item.situation)], item.for_one, item.for_other)])
        assert {row.split for row in own.values()} == {f"{first} or {second}"}
        assert own["decided"].value == pytest.approx(margin if item.one == first else -margin, abs=1e-5)
        assert preferred.probability is not None
        assert own["stated"].value == pytest.approx(preferred.probability - 0.5, abs=1e-5)
        assert again.probability is not None
        assert own["stated again"].value == pytest.approx(again.probability - 0.5, abs=1e-5)


def test_another_constitution_has_nothing_to_say(bench: Bench) -> None:
    rows = measure(bench._replace(per_split=2, constitution=read_constitution("poetic")))
    assert {row.value for row in rows if row.readout == "stated"} == {None}
    with pytest.raises(NothingScored):
        judge(rows, rows)
