"""A controlled comparison, run: every cell of a study's design (see design.py) is one experiment.

Each cell has a folder of its own; all keep their artefacts in one store, so what two cells share (data, base
measurements, a common first stage) is made once, and an arm can be added at any time.
"""

import sys
from collections import Counter
from functools import cache, partial
from pathlib import Path
from typing import get_args

from pydantic_core import from_json

from ethos.bench.derived import Kind
from ethos.config import RunConfig
from ethos.design import STORE, Cell, State, Study, cells, preregister, read_plan
from ethos.engines import Engine, outcomes
from ethos.errors import UserError
from ethos.manifest import MANIFEST
from ethos.measuring import BenchSettings, MeasureKey
from ethos.pipeline import Inputs, claim_keys, fingerprint_of, read_inputs, run_experiment, stage_keys
from ethos.report.study.export import Format, export_study
from ethos.report.study.page import write_study
from ethos.store import Run

HERE = Engine()
"""One cell after another, in this process."""


class StudyError(UserError):
    """Cells of a study that could not be run."""


def run_study(study: Study, root: Path, *, engine: Engine = HERE, amend: bool = False) -> None:
    """Run every cell that is not finished. A killed study resumes; a finished one only reads.

    A cell that cannot be run does not stop the others: StudyError names all that failed, at the end.
    """
    preregister(study, root, amend=amend)
    todo = [cell for cell in cells(study) if not finished(root, cell)]
    failed: dict[str, UserError] = {}
    for done, (cell, error) in enumerate(outcomes(engine, todo, partial(_run_cell, root.resolve())), 1):
        told = "done"
        if error:
            failed[cell.name] = error
            told = f"failed ({_reason(error)})"
        print(f"study {study.name}: {cell.name} {told}, {done} of {len(todo)}", file=sys.stderr, flush=True)
    if failed:
        reasons = "; ".join(f"{name}: {_reason(error)}" for name, error in failed.items())
        raise StudyError(
            f"{len(failed)} of {len(todo)} cells failed: {reasons}",
            hint="mend them and run the same command again: the other cells are finished",
        )


def _reason(error: UserError) -> str:
    return str(error).splitlines()[0]


def cell_run(root: Path, cell: Cell) -> Run:
    """The cell's own folder over the common store."""
    return Run(cell.folder(root), root / STORE)


def finished(root: Path, cell: Cell) -> bool:
    """Whether the cell ran to its end with these settings, data, items and weights."""
    return state(root, cell) == "finished"


def state(root: Path, cell: Cell) -> State:
    """How far a cell is. What it was made from is compared by one hash, which its manifest holds.

    The hash is taken in the precision of the machine that ran the cell: it stays finished on any other.
    """
    path = cell.folder(root) / MANIFEST
    if not path.exists():
        return "begun" if path.parent.exists() else "to do"
    config, manifest = cell.config, from_json(path.read_bytes())
    dtype = f"torch.{manifest['hardware']['dtype']}"
    claims = _claim_keys(config.model, config.constitution, config.bench, config.seed, dtype)
    current = fingerprint_of(stage_keys(config, inputs_of(config)._replace(dtype=dtype)), claims)
    return "finished" if manifest["fingerprint"] == current else "outdated"


def states(root: Path, study: Study) -> list[tuple[Cell, State]]:
    """Every cell with its state."""
    return [(cell, state(root, cell)) for cell in cells(study)]


def inputs_of(config: RunConfig) -> Inputs:
    """What a cell reads; cells of one study read the same few things."""
    return _inputs(config.model, config.constitution, config.trained_on, config.bench.items)


@cache
def _inputs(model: str, constitution: str, trained_on: str | None, items: Kind) -> Inputs:
    bench = BenchSettings(claims=(), items=items)
    settings = {"model": model, "constitution": constitution, "trained_on": trained_on, "bench": bench}
    return read_inputs(RunConfig(name="inputs", **settings))


@cache
def _claim_keys(model: str, constitution: str, bench: BenchSettings, seed: int, dtype: str) -> list[MeasureKey]:
    """The same for all arms of a seed."""
    config = RunConfig(name="claims", model=model, constitution=constitution, bench=bench, seed=seed)
    return claim_keys(config, _inputs(model, constitution, None, bench.items)._replace(dtype=dtype))


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


def _run_cell(root: Path, cell: Cell) -> UserError | None:
    """Run one cell; the reason where it cannot be run."""
    try:
        run_experiment(cell.config, cell_run(root, cell))
    except UserError as error:
        return error
    return None
