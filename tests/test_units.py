"""Units: the same numbers whatever they are asked with, kept or not, and none where there can be none."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedModel

from ethos import scoring
from ethos.chat import Rendered
from ethos.errors import ModelError, StoreError
from ethos.units import TOGETHER, ScoreCache, Unit, score_units, unit

OPENING = (1, 9, 9, 4)


def about(
    prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], opening: tuple[int, ...] = OPENING
) -> Unit:
    """Every reply after every prompt."""
    return unit(
        opening,
        [
            Rendered((*opening, *prompt, *reply), (*[False] * (len(opening) + len(prompt)), *[True] * len(reply)))
            for prompt in prompts
            for reply in replies
        ],
    )


UNITS = [about([[20 + i, 30], [20 + i, 31, 32]], [[40, 41 + i, 42], [50, 51]]) for i in range(7)]


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> PreTrainedModel:
    """Weights large enough that a wrong position or a wrong context is seen."""
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in loaded.parameters():
            if weight.dim() == 2:
                weight.normal_(std=0.3)
    return loaded.eval()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[ScoreCache]:
    cache = ScoreCache(tmp_path / "scores.sqlite", "me")
    yield cache
    cache.close()


def as_bytes(scores: Sequence[Sequence[np.ndarray]]) -> list[bytes]:
    return [numbers.tobytes() for unit in scores for numbers in unit]


def read_by(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sequences of each pass from now on."""
    passes: list[int] = []
    real = scoring.score

    def counted(*args: object, **kwargs: object) -> object:
        passes.append(len(args[1]))  # type: ignore[arg-type]
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "score", counted)
    return passes


def test_a_unit_scores_its_sequences_as_an_ordinary_pass_does(model: PreTrainedModel) -> None:
    for asked, scores in zip(UNITS, score_units(model, UNITS, None), strict=True):
        assert asked.opening == OPENING
        for sequence, found in zip(asked.sequences, scores, strict=True):
            with torch.no_grad():
                logprobs = model(input_ids=torch.tensor([sequence.tokens])).logits[0].log_softmax(-1)
            places = [place for place, on in enumerate(sequence.mask) if on]
            expected = [float(logprobs[place - 1, sequence.tokens[place]]) for place in places]
            assert found == pytest.approx(expected, abs=1e-4)


@settings(max_examples=20)
@given(st.lists(st.sampled_from(range(len(UNITS))), max_size=9), st.sets(st.sampled_from(range(len(UNITS)))))
def test_a_unit_has_the_same_bytes_in_any_company_and_over_any_cache(
    model: PreTrainedModel, tmp_path_factory: pytest.TempPathFactory, asked: list[int], before: set[int]
) -> None:
    alone = [as_bytes(score_units(model, [one], None)) for one in UNITS]
    cache = ScoreCache(tmp_path_factory.mktemp("kept") / "scores.sqlite", "me")
    score_units(model, [UNITS[place] for place in before], cache)
    found = score_units(model, [UNITS[place] for place in asked], cache)
    assert as_bytes(found) == [numbers for place in asked for numbers in alone[place]]
    cache.close()


def test_what_is_kept_is_not_read_again_and_one_more_costs_one(
    model: PreTrainedModel, kept: ScoreCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = read_by(model, monkeypatch)
    first = score_units(model, UNITS[:-1], kept)
    assert passes == [4] * (len(UNITS) - 1)
    again = score_units(model, UNITS, kept)
    assert passes == [4] * len(UNITS)
    assert as_bytes(again)[: len(as_bytes(first))] == as_bytes(first)


def test_a_kill_loses_at_most_the_units_since_the_last_transaction(model: PreTrainedModel, kept: ScoreCache) -> None:
    many = [about([[20, 30 + i]], [[40, 41]]) for i in range(TOGETHER + 1)]
    broken = about([[20, 300]], [[40, 41]])  # a token that there is not
    with pytest.raises(IndexError):
        score_units(model, [*many, broken], kept)
    found = [kept.get(one.key()) is not None for one in many]
    assert found == [True] * TOGETHER + [False]


def test_another_subject_has_numbers_of_its_own(model: PreTrainedModel, kept: ScoreCache) -> None:
    score_units(model, UNITS[:1], kept)
    other = ScoreCache(kept.path, "another")
    assert kept.get(UNITS[0].key()) is not None
    assert other.get(UNITS[0].key()) is None
    other.close()


def test_a_key_tells_apart_all_that_decides_the_digits() -> None:
    (sequence, *rest) = UNITS[0].sequences
    tokens, mask = sequence
    changed = [
        UNITS[0]._replace(opening=OPENING[:2]),
        UNITS[0]._replace(sequences=tuple(rest)),
        UNITS[0]._replace(sequences=(Rendered((*tokens[:-1], 77), mask), *rest)),
        UNITS[0]._replace(sequences=(Rendered(tokens, (*mask[:-1], False)), *rest)),
    ]
    assert len({one.key() for one in (UNITS[0], *changed)}) == 5
    assert UNITS[0]._replace().key() == UNITS[0].key()


def test_an_opening_that_a_sequence_does_not_begin_with_is_no_opening(model: PreTrainedModel) -> None:
    apart = unit((7, 7), UNITS[0].sequences)
    assert apart.opening == ()
    for one, other in zip(*score_units(model, [apart, UNITS[0]], None), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_what_exceeds_the_context_is_no_number_and_its_neighbours_are(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = about([[20]], [[40, 41], [50] * 40])
    monkeypatch.setattr(model.config, "max_position_embeddings", 30)
    ((short, long),) = score_units(model, [asked], None)
    assert np.isfinite(short).all()
    assert len(long) == 40
    assert all(map(math.isnan, long))


def test_a_model_that_says_nan_is_refused(tiny_base: Path) -> None:
    broken: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    with torch.no_grad():
        broken.get_output_embeddings().weight[5] = math.nan
    with pytest.raises(ModelError, match="log-probabilities that are not numbers"):
        score_units(broken, UNITS[:1], None)


def test_a_damaged_cache_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "scores.sqlite").write_text("not a database, but some text that is longer than its header " * 20)
    with pytest.raises(StoreError, match="cannot use the score cache"):
        ScoreCache(tmp_path / "scores.sqlite", "me")
