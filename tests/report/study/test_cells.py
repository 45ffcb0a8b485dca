"""Finished cells are read into shifts: paired by item and split, every file once."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made import Made, made_study

from ethos.bench.battery import CLAIMS
from ethos.bench.claim import Deciding
from ethos.design import cells
from ethos.errors import DataError
from ethos.measuring import SCORES
from ethos.report.study import cells as module
from ethos.report.study.cells import Done, Scored, alike, line_shifts, lines_of, names, own_values, pooled, read_cells
from ethos.report.study.comparing import SAME
from ethos.report.study.page import write_study


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return made_study(tmp_path_factory.mktemp("cells"), {"a": 0.3, "b": 0.0}, claims=("knows_when", "carries_over"))


@pytest.fixture(scope="module")
def done(made: Made) -> list[Done]:
    root, plan, _ = made
    return read_cells(root, cells(plan.study))


def test_a_file_that_cells_share_is_read_once(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    root, plan, _ = made
    read: list[Path] = []
    real = module.current_scores
    monkeypatch.setattr(module, "current_scores", lambda folder, claim: (read.append(folder), real(folder, claim))[1])
    read_cells(root, cells(plan.study))
    assert (
        len(read) == len(set(read)) == 2 * (1 + 1 + 3 + 3 * 2)
    )  # a claim: base, prompted, neutral and two arms a seed


def test_arms_and_controls_stand_beside_one_another(done: list[Done]) -> None:
    assert names(done) == ["a", "b", "prompted", "neutral"]
    shifts = line_shifts(done, "knows_when", CLAIMS["knows_when"].deciding[0])
    assert set(shifts) == {(name, seed) for name in names(done) for seed in (0, 1, 2)}
    means = {name: pooled(shifts, name) for name in names(done)}
    for name, mean in {"a": 0.3, "b": 0.0, "prompted": 0.06, "neutral": 0.002}.items():
        estimate = means[name]
        assert estimate is not None
        assert estimate.mean == pytest.approx(mean, abs=0.03)
        assert estimate.low <= estimate.mean <= estimate.high


def test_a_line_that_pools_splits_is_followed_by_each_of_them() -> None:
    labels = [part.label for part in lines_of("carries_over")]
    assert labels[:4] == ["crossed, all but pressure", "crossed, domain", "crossed, format", "crossed, role"]
    assert len(labels) == 8
    assert [part.label for part in lines_of("knows_when")] == ["crossed", "won"]


def test_the_pooled_line_is_the_mean_of_its_splits(done: list[Done]) -> None:
    first, *splits = [line_shifts(done, "carries_over", part) for part in lines_of("carries_over")[:4]]
    for key in first:
        assert set(first[key]) == {item for split in splits for item in split[key]}
        means = [np.mean(list(split[key].values())) for split in splits]
        assert np.mean(list(first[key].values())) == pytest.approx(np.mean(means))


def test_arms_that_no_item_tells_apart_are_named_together(tmp_path: Path) -> None:
    root, plan, _ = made_study(tmp_path, {"sft": 0.1, "dpo": 0.1, "dpo-again": 0.1}, seeds=(0, 1))
    for seed in (0, 1):
        assert alike(read_cells(root, cells(plan.study))) == []
        for claim in plan.study.common.bench.claims:
            source, copy = (root / "store" / "measured" / claim / f"{arm}-{seed}" for arm in ("dpo", "dpo-again"))
            shutil.copy(source / SCORES, copy / SCORES)
    assert alike(read_cells(root, cells(plan.study))) == [["dpo", "dpo-again"]]
    text = write_study(root, plan, [(cell, "finished") for cell in cells(plan.study)]).read_text()
    assert f"<b>dpo, dpo-again</b> {SAME}" in text
    assert f"**dpo, dpo-again** {SAME}" in (root / "study.md").read_text()


def scored(values: dict[str, dict[str, float | None]]) -> Scored:
    return Scored({("x", split): found for split, found in values.items()}, {})


def test_an_item_is_paired_within_its_split_before_its_splits_are_averaged() -> None:
    before = scored({"one": {"i": 1.0, "j": 1.0}, "two": {"i": 5.0, "j": None}})
    after = scored({"one": {"i": 2.0, "j": None}, "two": {"i": 9.0, "j": 7.0}})
    assert module._item_shifts(before, after, Deciding("x", "x")) == {"i": 2.5}  # (1 + 4) / 2; of j nothing is paired
    assert module._item_shifts(before, after, Deciding("x", "x", ("two",))) == {"i": 4.0}


@contextmanager
def holding(path: Path, text: str) -> Iterator[None]:
    """Inside the `with` a file of the shared study says something else."""
    before = path.read_text()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(before)


def test_an_empty_score_file_is_a_claim_without_items(made: Made) -> None:
    root, plan, _ = made
    (cell, *_) = cells(plan.study)
    with holding(root / "store" / "measured" / "knows_when" / f"a-{cell.seed}" / "scores.jsonl", ""):
        (read,) = read_cells(root, [cell])
    assert read.scored["trained"]["knows_when"].values == {}
    shifts = line_shifts([read], "knows_when", CLAIMS["knows_when"].deciding[0])
    assert pooled(shifts, "a") is None
    assert pooled(shifts, "prompted") is not None


def test_scores_of_a_claim_that_has_changed_since_are_refused(made: Made) -> None:
    root, plan, _ = made
    (cell, *_) = cells(plan.study)
    with (
        holding(root / "store" / "measured" / "knows_when" / f"a-{cell.seed}" / "key.json", '{"version": 0}'),
        pytest.raises(DataError, match="measured by version 0 of knows_when, which is at"),
    ):
        read_cells(root, [cell])


def test_a_readout_of_its_own_is_compared_with_nobody(done: list[Done]) -> None:
    own = own_values(done, "knows_when", "crossed")
    shifts = line_shifts(done, "knows_when", CLAIMS["knows_when"].deciding[0])
    base = done[0].scored["base"]["knows_when"].of("crossed")
    assert own["a", 0] == pytest.approx({item: base[item] + shift for item, shift in shifts["a", 0].items()})


@given(st.dictionaries(st.sampled_from("abcdef"), st.one_of(st.none(), st.floats(-1, 1)), min_size=1))
def test_unscored_items_have_no_shift(values: dict[str, float | None]) -> None:
    zeros = scored({"s": dict.fromkeys(values, 0.0)})
    found = module._item_shifts(zeros, scored({"s": values}), Deciding("x", "x"))
    assert found == {item: value for item, value in values.items() if value is not None}
