"""Two ways to one number: correlated where both vary, by hand where they are known."""

import json
import shutil
from pathlib import Path

import pytest

from ethos.agreement import LEAST, correlated, derived_agree, readouts_agree, retests
from ethos.bench.battery import CLAIMS
from ethos.bench.claim import Score
from ethos.config import read_config
from ethos.manifest import BASE, Manifest, read_manifest
from ethos.measuring import SCORES
from ethos.pipeline import run_experiment
from ethos.records import to_jsonl
from ethos.store import KEY, Run

HOW = {"claim": "c", "names": ("one", "other"), "over": "items"}


def rows(readout: str, values: list[float], split: str = "familiar") -> list[Score]:
    return [Score(item=str(i), split=split, readout=readout, value=value) for i, value in enumerate(values)]


def test_a_correlation_by_hand_over_what_both_sides_have() -> None:
    one = {str(i): float(i) for i in range(8)}
    (found,) = correlated(one, {name: -2 * value for name, value in one.items() if name != "7"}, **HOW)
    assert (found.correlation, found.num) == (pytest.approx(-1.0), 7)
    assert list(correlated(one, dict.fromkeys(one, 1.0), **HOW)) == []
    assert list(correlated(dict(list(one.items())[: LEAST - 1]), one, **HOW)) == []


def test_readouts_of_one_claim_are_compared_over_items_and_over_subjects() -> None:
    margin = [0.1, -0.2, 0.4, 0.0, 0.3, -0.1, 0.2]

    def subject(shift: float, by_letter: float) -> dict[str, list[Score]]:
        moved = [value + shift for value in margin]
        return {"decides_well": [*rows("margin", moved), *rows("letter", [by_letter - value for value in margin])]}

    base = subject(0.0, 0.0)
    others = [subject(shift / 10, 3 * shift) for shift in (1, 2, -3, 4, 0, 6)]
    items, subjects = readouts_agree(base, [base, *others])
    assert (items.over, items.correlation, items.num) == ("items of base", pytest.approx(-1.0), 7)
    assert (subjects.over, subjects.correlation, subjects.num) == ("subjects' shifts", pytest.approx(1.0), 6)


def test_a_sampled_readout_is_compared_with_itself_under_another_seed(tiny_run: Path, tmp_path: Path) -> None:
    """What is not sampled comes out the same, and says nothing."""
    manifests: dict[Path, Manifest] = {}
    for seed, sampled in enumerate(([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.1, 0.2, 0.3, 0.4, 0.6, 0.5])):
        folder = tmp_path / str(seed) / "shows"
        folder.mkdir(parents=True)
        same = rows("crossed", [0.1, 0.5, 0.2, 0.4, 0.3, 0.0])
        (folder / SCORES).write_text(to_jsonl([*same, *rows("deliberated", sampled)]))
        (folder / KEY).write_text(json.dumps({"version": CLAIMS["shows_the_character"].version}))
        manifests[tmp_path / str(seed)] = read_manifest(tiny_run).model_copy(
            update={"measured": {BASE: {"shows_the_character": "shows"}}}
        )
    (found,) = retests(manifests)
    assert (found.one, found.other, found.correlation) == ("deliberated", "again", pytest.approx(1 - 6 * 2 / 210))


def test_derived_items_are_set_beside_written_ones_on_the_same_subjects(tiny_toml: Path, tmp_path: Path) -> None:
    """Measured on demand, once, and only for runs that kept the derived items out of training."""
    few = Path(shutil.copytree(tiny_toml.parent, tmp_path / "files")) / "few.toml"
    mine = few.with_name("virtuous-reasoner.toml")
    few.rename(mine)
    few.with_suffix("").rename(mine.with_suffix(""))
    config = read_config(tiny_toml, ["bench.items=derived", 'bench.claims=["knows_when"]', f"constitution={mine}"])
    root = tmp_path / "run"
    run_experiment(config, Run(root))
    manifests = {root: read_manifest(root)}
    assert list(derived_agree(manifests, measured=False)) == []
    before = len(list((root / "measured" / "knows_when").iterdir()))
    assert list(derived_agree(manifests, measured=True)) == []  # three subjects are too few for a correlation
    after = list((root / "measured" / "knows_when").iterdir())
    assert len(after) == 2 * before
