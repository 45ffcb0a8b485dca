"""A controlled comparison, run: every cell of a study's design (see design.py) is one experiment.

Each cell has a folder of its own; all keep their artefacts in one store, so what two cells share (data, base
measurements, a common first stage) is made once, and an arm can be added at any time.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import torch
from pydantic_core import from_json

from ethos.bench.derived import Kind
from ethos.config import RunConfig
from ethos.design import STORE, Cell, State, Study, cells, preregister, read_plan
from ethos.errors import UserError
from ethos.manifest import MANIFEST
from ethos.measuring import BenchSettings, MeasureKey
from ethos.pipeline import Inputs, claim_keys, fingerprint_of, read_inputs, run_experiment, stage_keys
from ethos.report.study.export import Format, export_study
from ethos.report.study.page import write_study
from ethos.store import Run


class StudyError(UserError):
    """Cells of a study that could not be run."""


def run_study(study: Study, root: Path, *, workers: int = 1, amend: bool = False) -> None:
    """Run every cell that is not finished. A killed study resumes; a finished one only reads.

    A cell that cannot be run does not stop the others: StudyError names all that failed, at the end.
    """
    preregister(study, root, amend=amend)
    todo = [cell for cell in cells(study) if not finished(root, cell)]
    failed: dict[str, UserError] = {}
    for done, (cell, error) in enumerate(_each(todo, root, workers), 1):
        if error:
            failed[cell.name] = error
        told = "failed" if error else "done"
        print(f"study {study.name}: {cell.name} {told}, {done} of {len(todo)}", file=sys.stderr, flush=True)
    if failed:
        reasons = "; ".join(f"{name}: {str(error).splitlines()[0]}" for name, error in failed.items())
        raise StudyError(
            f"{len(failed)} of {len(todo)} cells failed: {reasons}",
            hint="mend them and run the same command again: the other cells are finished",
        )


def cell_run(root: Path, cell: Cell) -> Run:
    """The cell's own folder over the common store."""
    return Run(cell.folder(root), root / STORE)


def finished(root: Path, cell: Cell) -> bool:
    """Whether the cell ran to its end with these settings, data, items and weights."""
    return state(root, cell) == "finished"


def state(root: Path, cell: Cell) -> State:
    """How far a cell is. What it was made from is compared by one hash, which its manifest holds."""
    path = cell.folder(root) / MANIFEST
    if not path.exists():
        return "begun" if path.parent.exists() else "to do"
    config = cell.config
    inputs = _inputs(config.model, config.constitution, config.trained_on, config.bench.items)
    claims = _claim_keys(config.model, config.constitution, config.bench, config.seed)
    current = fingerprint_of(stage_keys(config, inputs), claims)
    return "finished" if from_json(path.read_bytes())["fingerprint"] == current else "outdated"


def states(root: Path, study: Study) -> list[tuple[Cell, State]]:
    """Every cell with its state."""
    return [(cell, state(root, cell)) for cell in cells(study)]


@cache
def _inputs(model: str, constitution: str, trained_on: str | None, items: Kind) -> Inputs:
    bench = BenchSettings(claims=(), items=items)
    settings = {"model": model, "constitution": constitution, "trained_on": trained_on, "bench": bench}
    return read_inputs(RunConfig(name="inputs", **settings))


@cache
def _claim_keys(model: str, constitution: str, bench: BenchSettings, seed: int) -> list[MeasureKey]:
    """The same for all arms of a seed."""
    config = RunConfig(name="claims", model=model, constitution=constitution, bench=bench, seed=seed)
    return claim_keys(config, _inputs(model, constitution, None, bench.items))


def report_study(root: Path) -> Path:
    """Write study.html and study.md again from what is finished; the path of the first."""
    plan = read_plan(root)
    return write_study(root, plan, states(root, plan.study))


def export(root: Path, to: Format, out: Path | None) -> Path:
    """Write what is finished for other programs; the path of the file."""
    plan = read_plan(root)
    return export_study(root, plan, states(root, plan.study), to, out)


def render_states(root: Path) -> str:
    """Every cell of a study with its state, and how many there are of each."""
    found = {cell.name: word for cell, word in states(root, read_plan(root).study)}
    width = max(map(len, found))
    tally = Counter(found.values())
    counts = ", ".join(f"{tally[word]} {word}" for word in get_args(State) if tally[word])
    return "\n".join([*(f"{name:<{width}}  {word}" for name, word in found.items()), f"{len(found)} cells: {counts}"])


Outcome = tuple[Cell, UserError | None]


def _each(todo: list[Cell], root: Path, workers: int) -> Iterator[Outcome]:
    """Run cells one by one here, or in a pool of processes that share the processor's threads; yield each when done.

    Matrix products round differently with another number of threads, so a pool's last digits may differ.
    """
    if workers == 1:
        for cell in todo:
            yield cell, _run_cell(root, cell)
        return
    threads = max(1, torch.get_num_threads() // workers)
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        running = {pool.submit(_run_cell, root, cell): cell for cell in todo}
        for future in as_completed(running):
            yield running[future], future.result()


def _run_cell(root: Path, cell: Cell) -> UserError | None:
    """Run one cell; the reason where it cannot be run."""
    try:
        run_experiment(cell.config, cell_run(root, cell))
    except UserError as error:
        return error
    return None
