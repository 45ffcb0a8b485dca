"""A tiny study, really run: shared work is done once, a kill loses nothing, and the plan holds."""

import csv
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import few_rows
from ethos.bench.claim import Deciding
from ethos.errors import ConfigError, DataError
from ethos.plan import render_grid
from ethos.store import KEY
from ethos.study import STORE, Study, StudyError, cells, finished, preregister, read_plan, read_study, run_study, slug
from ethos.study_report import CONTROL, RESULTS, better_up, difference, grid, winner, write_study

ROOT = Path(__file__).parent.parent
TINY = """
name = "tiny-study"
primary = "knows_when"
smallest_effect = 0.5
seeds = [0, 1]
constitutions = ["{constitution}"]
[[hypotheses]]
text = "Contrasts beat | likelihood."
better = "dpo"
than = "sft"
[[hypotheses]]
text = "Readers will see."
[common]
model = "{model}"
[common.mixture]
crossed = 4
poles = 0
voice = 0
replay = 2
[common.neutral.optimisation]
max_tokens = 5000
learning_rate = 1e-2
[common.bench]
claims = ["knows_when", "leaves_other_requests_alone"]
per_split = 2
[[arms]]
name = "sft"
[[arms.stages]]
method = "sft"
[arms.stages.optimisation]
max_tokens = 2000
learning_rate = 1e-2
[[arms]]
name = "dpo"
[[arms.stages]]
method = "sft"
[arms.stages.optimisation]
max_tokens = 2000
learning_rate = 1e-2
[[arms.stages]]
method = "preference"
[arms.stages.optimisation]
max_tokens = 2000
learning_rate = 1e-2
"""


@pytest.fixture(scope="module")
def file(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    path = folder / "study.toml"
    path.write_text(TINY.format(model=tiny_base, constitution=few_rows(folder)))
    return path


@pytest.fixture(scope="module")
def done(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study."""
    root = tmp_path_factory.mktemp("done") / "study"
    run_study(read_study(file), root)
    return root


def scores(root: Path) -> dict[str, bytes]:
    """Every artefact of the store that is not a time, by its name."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted((root / STORE).rglob("*"))
        if path.is_file()
        and path.name != "timing.json"
        and "requests.sqlite" not in path.name
        and ".locks" not in path.parts
    }


def test_what_cells_share_is_made_once(done: Path, file: Path) -> None:
    made = {
        stage: len(list((done / STORE / stage).glob(f"*/{KEY}"))) for stage in ("data", "sft", "preference", "neutral")
    }
    assert made == {"data": 2, "sft": 2, "preference": 2, "neutral": 2}  # the arms share their first stage
    subjects = len(list((done / STORE / "measured" / "knows_when").glob(f"*/{KEY}")))
    assert subjects == 2 + 2 * 3  # base and prompted; a seed: neutral and two trained
    assert all(finished(done, cell) for cell in cells(read_study(file)))


def test_a_finished_study_computes_nothing(done: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ethos.study.run_experiment", lambda *_: pytest.fail("a cell was run again"))
    run_study(read_study(file), done)


def test_a_pool_of_processes_makes_the_same_bytes(done: Path, file: Path, tmp_path: Path) -> None:
    run_study(read_study(file), tmp_path, workers=2)
    assert scores(tmp_path) == scores(done)


def test_a_killed_study_resumes_to_the_same_bytes(done: Path, file: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ethos", "study", "run", str(file), "--out", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    began = time.monotonic()
    while not any((tmp_path / STORE).glob("preference/*.partial")):
        assert process.poll() is None
        assert time.monotonic() - began < 120
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run_study(read_study(file), tmp_path)
    assert scores(tmp_path) == scores(done)


def test_a_changed_plan_is_refused_and_an_amended_one_is_told(done: Path, file: Path, tmp_path: Path) -> None:
    study = read_study(file)
    preregister(study, tmp_path, amend=False)
    changed = study.model_copy(update={"smallest_effect": 0.1, "seeds": (0,)})
    with pytest.raises(
        ConfigError, match=r"planned otherwise: smallest_effect changed from 0.5; seeds changed from \[0, 1\]"
    ):
        preregister(changed, tmp_path, amend=False)
    assert read_plan(tmp_path).study == study
    preregister(changed, tmp_path, amend=True)
    assert read_plan(tmp_path).amendments == ("smallest_effect changed from 0.5", "seeds changed from [0, 1]")
    preregister(changed, tmp_path, amend=False)  # the plan it now has


def test_the_report_tells_plan_outcomes_and_cost(done: Path) -> None:
    text = write_study(done).read_text()
    assert "4 of 4 cells finished: 2 arms × 1 constitutions × 2 seeds" in text
    assert "Contrasts beat \\| likelihood. (dpo − sft: " in text
    assert text.index("Contrasts beat") < text.index("Readers will see.")
    assert f"| {CONTROL} | " in text
    assert "training positions" in text


def test_every_score_is_in_the_csv(done: Path) -> None:
    write_study(done)
    rows = list(csv.DictReader((done / RESULTS).read_text().splitlines()))
    assert {(row["arm"], row["seed"], row["subject"]) for row in rows} == {
        (arm, seed, subject)
        for arm in ("sft", "dpo")
        for seed in "01"
        for subject in ("base", "prompted", "neutral", "trained")
    }
    assert all(math.isfinite(float(row["value"])) for row in rows if row["claim"] == "knows_when")


def test_the_grid_is_planned_before_and_after(done: Path, file: Path, tmp_path: Path) -> None:
    study = read_study(file)
    before, after = render_grid(study, tmp_path), render_grid(study, done)
    assert before.count("to do") == 4
    assert after.count("done") == 4
    assert "about 0 minutes" in after
    names = {line.split()[0]: line.split()[3] for line in before.splitlines() if " to do " in line}
    sft, dpo = (next(tokens for name, tokens in names.items() if name.endswith(f"-{arm}-0")) for arm in ("sft", "dpo"))
    assert sft != dpo


def test_a_study_without_a_finished_cell_has_no_report(file: Path, tmp_path: Path) -> None:
    preregister(read_study(file), tmp_path, amend=False)
    with pytest.raises(DataError, match="no cell is finished yet"):
        write_study(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "dpo"', 'name = "sft"', "two arms are named sft"),
        ("seeds = [0, 1]", "seeds = [1, 1]", "a seed stands twice"),
        ('better = "dpo"', 'better = "ipo"', "hypotheses name arms that are not there: ipo"),
        ('than = "sft"\n', "", "better and than come together"),
        ('primary = "knows_when"', 'primary = "decides_well"', "is not in common.bench.claims"),
        ('method = "preference"', 'method = "dpo"', "arms.1.stages.1"),
        ("smallest_effect = 0.5", "smallest_effect = 0", "smallest_effect"),
        ("[[hypotheses]]", "[[guesses]]", "hypotheses: Field required"),
        ('primary = "knows_when"', 'primary = "leaves_other_requests_alone"', "neither way is better on it"),
        ('primary = "knows_when"', 'primary = "values_cohere"', "cannot be primary"),
        ("max_tokens = 2000\nlearning_rate = 1e-2\n[[arms]]", "max_tokens = 900\n[[arms]]", "keep different rows"),
    ],
)
def test_a_bad_study_file_names_what_is_wrong(file: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text(file.read_text().replace(old, new))
    with pytest.raises(ConfigError) as caught:
        read_study(broken)
    assert message in str(caught.value)


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.toml")), ids=lambda path: path.name)
def test_every_shipped_study_is_whole(path: Path) -> None:
    study = read_study(path)
    assert isinstance(study, Study)
    assert f"ethos study run studies/{path.name}" in path.read_text().splitlines()[0]


def test_a_cell_that_cannot_run_stops_no_other_and_is_named_at_the_end(file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    text = file.read_text().replace(
        'name = "sft"\n[[arms.stages]]\nmethod = "sft"', 'name = "sft"\n[[arms.stages]]\nmethod = "documents"'
    )
    broken.write_text(text)
    study = read_study(broken)
    with pytest.raises(StudyError, match=r"2 of 4 cells failed: .*-sft-0: no documents to learn from"):
        run_study(study, tmp_path / "out")
    assert [finished(tmp_path / "out", cell) for cell in cells(study)] == [False, True, False, True]


def test_a_cell_is_no_longer_finished_when_its_data_change(done: Path, file: Path) -> None:
    (cell, *_) = cells(read_study(file))
    assert finished(done, cell)
    longer = cell.config.mixture.model_copy(update={"crossed": 5})
    assert not finished(done, cell._replace(config=cell.config.model_copy(update={"mixture": longer})))


def test_two_constitutions_of_one_name_and_odd_names_are_told_apart(file: Path, tmp_path: Path) -> None:
    assert slug("/a b/My_Character v2.toml") == "my-character-v2"
    twice = tmp_path / "twice.toml"
    twice.write_text(
        re.sub(r"constitutions = .*", 'constitutions = ["a/neutral.toml", "b/neutral.toml"]', file.read_text())
    )
    with pytest.raises(ConfigError, match="two constitutions have the same name"):
        read_study(twice)


# --- who wins


def shifts(**arms: list[list[float]]) -> dict[tuple[str, int], dict[str, float]]:
    """Arm → seeds → items."""
    return {
        (arm, seed): {f"i{place}": value for place, value in enumerate(values)}
        for arm, rows in arms.items()
        for seed, values in enumerate(rows)
    }


def noisy(mean: float, seed: int, *, seeds: int = 3, items: int = 60) -> list[list[float]]:
    return np.random.default_rng(seed).normal(mean, 0.2, (seeds, items)).tolist()


def test_an_arm_wins_only_against_every_other() -> None:
    arms = ["a", "b", "c"]
    assert winner(shifts(a=noisy(0.5, 1), b=noisy(0.0, 2), c=noisy(0.1, 3)), arms).startswith("**a** is ahead")
    told = winner(shifts(a=noisy(0.5, 1), b=noisy(0.0, 2), c=noisy(0.49, 3)), arms)
    assert told.startswith("No winner is named")
    assert "would settle it" in told


def test_no_winner_is_named_before_all_arms_meet_on_seeds_and_items() -> None:
    part = shifts(a=noisy(0.5, 1), b=noisy(0.0, 2))
    assert winner(part, ["a", "b", "c"]) == "No winner is named yet: c lack finished cells in common."
    apart = part | {("c", 7): {"i0": 1.0}}
    assert winner(apart, ["a", "b", "c"]).startswith("No winner is named yet: the arms lack")
    alone = shifts(a=noisy(0.5, 1, seeds=1), b=noisy(0.0, 2, seeds=1))
    assert winner(alone, ["a", "b"]).startswith("No winner is named: one training seed")


def test_the_control_is_no_arm() -> None:
    assert winner(shifts(a=noisy(0.0, 1)) | {(CONTROL, 0): {"i0": 9.0}}, ["a"]) == "One arm: nothing is compared."


def test_where_lower_is_better_the_lowest_arm_wins() -> None:
    part = Deciding("flattery", "flattery", better="lower")
    gains = better_up(shifts(a=noisy(0.5, 1), b=noisy(0.0, 2)), part)
    assert winner(gains, ["a", "b"]).startswith("**b** is ahead")


def test_null_studies_rarely_name_a_winner() -> None:
    arms = ["a", "b", "c"]
    told = [winner(shifts(a=noisy(0, s), b=noisy(0, s + 500), c=noisy(0, s + 900)), arms) for s in range(60)]
    assert sum(text.startswith("**") for text in told) <= 5


@given(st.sets(st.integers(0, 3), min_size=1), st.sets(st.integers(0, 3), min_size=1))
def test_arms_meet_on_the_seeds_and_items_that_both_have(one: set[int], other: set[int]) -> None:
    found = {("a", seed): {f"i{item}": 1.0 for item in one} for seed in one}
    found |= {("b", seed): {f"i{item}": 0.25 for item in other} for seed in other}
    gap = difference(found, "a", "b")
    common = one & other
    assert (gap is None) == (not common)
    if gap is not None:
        assert gap.shape == (len(common), len(common))
        assert (gap == 0.75).all()
    assert grid(found, ["a"])[0].shape == (len(one), len(one))


def test_added_and_changed_arms_are_amendments_by_name(file: Path, tmp_path: Path) -> None:
    study = read_study(file)
    first = study.model_copy(update={"arms": study.arms[:1], "hypotheses": study.hypotheses[1:]})
    preregister(first, tmp_path, amend=False)
    with pytest.raises(ConfigError, match="arm dpo added; hypotheses changed from"):
        preregister(study, tmp_path, amend=False)
