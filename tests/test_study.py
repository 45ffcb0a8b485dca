"""A tiny study, really run: shared work is done once, a kill loses nothing, and the plan holds."""

import csv
import json
import math
import os
import re
import shutil
import signal
import sys
import tarfile
import threading
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from conftest import PROCESSES, few_rows
from ethos.cli import app
from ethos.design import STORE, Budget, Cell, cells, preregister, read_study
from ethos.doctor import hardware
from ethos.engines import Engine, outcomes
from ethos.errors import DataError, UserError
from ethos.manifest import MANIFEST, read_manifest
from ethos.models import fast_dtype
from ethos.pipeline import fingerprint, read_inputs
from ethos.plan import render_grid
from ethos.records import Preference, read_jsonl
from ethos.store import KEY
from ethos.study import (
    StudyError,
    _inputs,
    _run_cell,
    export,
    finished,
    render_states,
    report_study,
    run_study,
    state,
)
from ethos.train.fit import LOG
from ethos.train.schedule import Step

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
        if path.is_file() and path.name != "timing.json" and ".sqlite" not in path.name and ".locks" not in path.parts
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


def test_a_killed_pool_resumes_at_once_to_the_bytes_of_one_process(done: Path, file: Path, tmp_path: Path) -> None:
    """Its workers die with it, and with them the locks of their cells."""
    pool = {"engine": Engine(workers=2)}
    process = PROCESSES.Process(target=run_study, args=(read_study(file), tmp_path), kwargs=pool)
    process.start()
    began = time.monotonic()
    while not any((tmp_path / STORE).glob("preference/*.partial")):
        assert process.is_alive()
        assert time.monotonic() - began < 120
        time.sleep(0.005)
    process.kill()
    process.join()
    time.sleep(1)  # more than a worker needs to see it
    run_study(read_study(file), tmp_path, engine=Engine(workers=2))
    assert scores(tmp_path) == scores(done)


def dies_once(root: Path, cell: Cell) -> UserError | None:
    """Run a cell; the first process to do so dies in the middle of a training."""

    def die() -> None:
        while not any((root / STORE).glob("preference/*.partial")):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGKILL)

    if not (root / "died").exists():
        (root / "died").touch()
        threading.Thread(target=die, daemon=True).start()
    return _run_cell(root, cell)


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(Engine(workers=2), id="pool"),
        pytest.param(
            Engine("ray", cpus=1),
            id="ray",
            marks=[
                pytest.mark.skipif(find_spec("ray") is None, reason="Ray is an extra"),
                pytest.mark.filterwarnings("ignore"),  # Ray's own
            ],
        ),
    ],
)
def test_a_worker_killed_in_the_middle_of_a_study_loses_nothing(
    done: Path, file: Path, tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # Ray's workers find this module
    found = list(outcomes(engine, cells(read_study(file)), partial(dies_once, tmp_path)))
    assert (tmp_path / "died").exists()
    assert len(found) == 4
    assert {error for _, error in found} == {None}
    assert scores(tmp_path) == scores(done)


def test_the_report_tells_plan_outcomes_and_cost(done: Path) -> None:
    page = report_study(done)
    text = (done / "study.md").read_text()
    assert page == done / "study.html"
    assert "4 of 4 cells finished: 2 arms × 1 constitutions × 2 seeds" in text
    assert "Contrasts beat \\| likelihood. (dpo − sft: " in text
    assert text.index("Contrasts beat") < text.index("Readers will see.")
    assert "| line | sft | dpo | prompted | neutral | items |" in text
    (cost,) = (
        row.split(" | ") for row in text.splitlines() if row.startswith("| dpo | sft → preference | as recorded |")
    )
    assert float(cost[-1].rstrip(" |")) > 1e6  # FLOPs


def test_every_cell_has_a_state(done: Path, file: Path, tmp_path: Path) -> None:
    told = render_states(done).splitlines()
    assert told[-1] == "4 cells: 4 finished"
    assert told[0].split() == ["few-sft-0", "finished"]
    study, (first, second, third, *_) = read_study(file), cells(read_study(file))
    preregister(study, tmp_path, amend=False)
    for cell, made_from in ((first, "other data"), (second, fingerprint_of(second))):
        cell.folder(tmp_path).mkdir(parents=True)
        (cell.folder(tmp_path) / MANIFEST).write_text(json.dumps({"fingerprint": made_from, "hardware": hardware()}))
    third.folder(tmp_path).mkdir()
    assert [state(tmp_path, cell) for cell in cells(study)] == ["outdated", "finished", "begun", "to do"]
    assert render_states(tmp_path).endswith("4 cells: 1 finished, 1 outdated, 1 begun, 1 to do")


def fingerprint_of(cell: Cell) -> str:
    return fingerprint(cell.config, read_inputs(cell.config))


def test_a_thousand_finished_arms_are_listed_in_under_a_second(done: Path, file: Path, tmp_path: Path) -> None:
    study = read_study(file)
    first = study.arms[1]
    arms = tuple(first.model_copy(update={"name": f"arm-{number}"}) for number in range(1000))
    large = study.model_copy(update={"arms": arms, "seeds": (0,), "hypotheses": study.hypotheses[1:]})
    preregister(large, tmp_path, amend=False)
    (real,) = (done / "cells").glob("few-dpo-0/manifest.json")
    manifest = real.read_text()  # the arms are equal but for their names, which decide nothing
    for cell in cells(large):
        cell.folder(tmp_path).mkdir(parents=True)
        (cell.folder(tmp_path) / MANIFEST).write_text(manifest)
    state(tmp_path, cells(large)[0])  # weights and recorded rows are hashed once a process
    began = time.process_time()
    told = render_states(tmp_path)
    assert told.endswith("1000 cells: 1000 finished")
    assert time.process_time() - began < 3.0  # 0.4 on a quiet machine


def test_the_verbs_of_a_finished_study_read_its_folder(done: Path, tmp_path: Path) -> None:
    def said(*arguments: str | Path) -> str:
        result = CliRunner().invoke(app, ["study", *map(str, arguments)])
        assert result.exit_code == 0, result.output
        return result.output

    assert "4 cells: 4 finished" in said("list", done)
    assert f"report: {(done / 'study.html').resolve()}" in said("report", done)
    out = tmp_path / "scores.csv"
    assert said("export", done, "--to", "csv", "--out", out) == f"wrote {out}\n"
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert {(row["arm"], row["seed"]) for row in rows} == {(arm, seed) for arm in ("sft", "dpo") for seed in "01"}
    assert all(math.isfinite(float(row["value"])) for row in rows if row["claim"] == "knows_when")
    assert CliRunner().invoke(app, ["study", "export", str(done), "--to", "xlsx"]).exit_code == 2


def test_an_archive_is_reported_and_gone_on_from_where_nothing_else_of_the_study_is(
    done: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = read_study(file)
    packed = export(done, "archive", tmp_path / "results.tar.xz")
    assert packed.read_bytes() == export(done, "archive", tmp_path / "again.tar.xz").read_bytes()
    with tarfile.open(packed) as tar:
        assert {Path(name).suffix for name in tar.getnames()} == {".json", ".jsonl"}  # no weights
        tar.extractall(tmp_path, filter="data")
    root = tmp_path / study.name

    other = torch.float32 if fast_dtype() is torch.bfloat16 else torch.bfloat16
    with monkeypatch.context() as elsewhere:  # a machine that computes in another precision
        elsewhere.setattr("ethos.models.fast_dtype", lambda: other)
        _inputs.cache_clear()
        assert {state(root, cell) for cell in cells(study)} == {"finished"}
        assert {state(done, cell) for cell in cells(study)} == {"finished"}
    _inputs.cache_clear()
    assert export(root, "csv", None).read_bytes() == export(done, "csv", tmp_path / "all.csv").read_bytes()
    before, after = (report_study(folder).with_suffix(".md").read_text() for folder in (done, root))
    assert [line for line in after.splitlines() if line not in before.splitlines()] == [
        line.rpartition(" | ")[0] + " | – |" for line in before.splitlines() if line.startswith(("| sft |", "| dpo |"))
    ]  # arithmetic is counted from the base's weights, to which no cell has a link

    began = {cell.name: (cell.folder(root) / MANIFEST).read_bytes() for cell in cells(study)}
    control = study.arms[0].model_copy(update={"name": "shuffled", "labels": "shuffled"})
    run_study(study.model_copy(update={"arms": (*study.arms, control), "seeds": (0,)}), root, amend=True)
    made = {stage: len(list((root / STORE / stage).glob(f"*/{KEY}"))) for stage in ("data", "sft", "neutral")}
    assert made == {"data": 2, "sft": 1, "neutral": 1}  # rows and weights of the one cell that was left
    assert {name: (root / "cells" / name / MANIFEST).read_bytes() for name in began} == began
    assert finished(root, cells(study)[0])


def test_an_arm_added_with_shuffled_labels_trains_on_the_same_rows_and_shares_what_they_do_not_decide(
    done: Path, file: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(done, tmp_path / "copy", symlinks=True))
    study = read_study(file)
    control = study.arms[0].model_copy(update={"name": "shuffled", "labels": "shuffled"})
    run_study(study.model_copy(update={"arms": (*study.arms, control), "seeds": (0,)}), root, amend=True)
    made = {stage: len(list((root / STORE / stage).glob(f"*/{KEY}"))) for stage in ("data", "sft", "neutral")}
    assert made == {"data": 3, "sft": 3, "neutral": 2}
    recorded, shuffled = (contrasts(root / "cells" / f"few-{arm}-0") for arm in ("sft", "shuffled"))
    assert [row.prompt for row in recorded] == [row.prompt for row in shuffled]
    assert {row.swapped for row in recorded} == {False}
    assert any(row.swapped for row in shuffled)
    text = (report_study(root).parent / "study.md").read_text()
    assert "- arm shuffled added\n- seeds changed from [0, 1] to [0]" in text
    assert "| shuffled | sft | labels shuffled | 1 | " in text


def contrasts(cell: Path) -> list[Preference]:
    return read_jsonl(cell / read_manifest(cell).stages["data"] / "preferences.jsonl", Preference)


def test_the_grid_is_planned_before_and_after(done: Path, file: Path, tmp_path: Path) -> None:
    study = read_study(file)
    before, after = render_grid(study, tmp_path), render_grid(study, done)
    assert before.count("to do") == 4
    assert after.count("done") == 4
    assert "about 0 minutes" in after
    names = {line.split()[0]: line.split()[3] for line in before.splitlines() if " to do " in line}
    sft, dpo = (next(tokens for name, tokens in names.items() if name.endswith(f"-{arm}-0")) for arm in ("sft", "dpo"))
    assert sft != dpo


def test_a_budget_is_spent_by_every_arm_and_one_smaller_than_a_step_is_refused(file: Path, tmp_path: Path) -> None:
    study, once = read_study(file), {"seeds": (0,), "hypotheses": read_study(file).hypotheses[1:]}
    small = study.model_copy(update=once | {"arms": study.arms[:1], "budget": Budget(tokens=40)})
    with pytest.raises(StudyError, match=r"1 of 1 cells failed: few-sft-0: tokens = 40 is less than one step takes"):
        run_study(small, tmp_path / "small")
    enough, root = study.model_copy(update=once | {"budget": Budget(tokens=8000)}), tmp_path / "enough"
    run_study(enough, root)
    for cell in cells(enough):
        manifest = read_manifest(cell.folder(root))
        logs = [
            read_jsonl(cell.folder(root) / manifest.stages[name] / LOG, Step)
            for name in (*cell.config.named_stages, "neutral")
        ]
        shares = [8000 / (len(logs) - 1)] * (len(logs) - 1) + [8000]
        for log, share in zip(logs, shares, strict=True):
            assert sum(step.spent for step in log[:-1]) < share <= sum(step.spent for step in log)
    report_study(root)
    spent = re.search(r"\| sft \| sft \| as recorded \| 1 \| ([\d,]+) \|", (root / "study.md").read_text())
    assert spent
    assert int(spent[1].replace(",", "")) >= 8000


def test_a_study_without_a_finished_cell_has_no_report(file: Path, tmp_path: Path) -> None:
    preregister(read_study(file), tmp_path, amend=False)
    with pytest.raises(DataError, match="no cell is finished yet"):
        report_study(tmp_path)


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
