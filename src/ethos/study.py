"""A controlled comparison: arms × constitutions × seeds, planned before it is run.

An arm is a list of training stages; everything else (model, data, controls, items) is the same for all. Each cell of
the grid is one experiment (see pipeline.py) in a folder of its own; all keep their artefacts in one store, so what two
cells share (data, base measurements, a common first stage) is made once, and an arm can be added at any time.

The plan (hypotheses, primary claim, smallest effect that would matter) is written down with its hash before the first
cell runs. A changed plan is refused, unless it is amended openly: the report then says what was changed.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import Field, ValidationError, field_validator, model_validator

from ethos.bench.battery import find_claim
from ethos.config import RunConfig
from ethos.data.preferences import Mixture
from ethos.errors import ConfigError, DataError, UserError
from ethos.manifest import MANIFEST
from ethos.measuring import BenchSettings
from ethos.methods import Stages, shortest_limit
from ethos.models import DEFAULT_MODEL
from ethos.pipeline import Inputs, fingerprint, read_inputs, run_experiment
from ethos.records import Record, Text, explain, read_text
from ethos.report.summary import BASE
from ethos.store import Run, write_text
from ethos.train.fit import Training

PLAN, STORE, CELLS = "plan.json", "store", "cells"


class StudyError(UserError):
    """Cells of a study that could not be run."""


class Arm(Record):
    """One way to train."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    stages: Stages


class Common(Record):
    """What all cells share."""

    model: str = DEFAULT_MODEL
    mixture: Mixture = Mixture()
    neutral: Training = Training()
    bench: BenchSettings = BenchSettings()


class Hypothesis(Record):
    """What is expected, in a sentence that could turn out wrong."""

    text: Text
    better: str | None = None
    """The arm that is expected to be higher on the primary claim, where that is what it says."""
    than: str | None = None
    """Another arm, or `base`: no shift at all."""

    @model_validator(mode="after")
    def _whole(self) -> "Hypothesis":
        if (self.better is None) != (self.than is None):
            raise ValueError("better and than come together")
        return self


class Study(Record):
    """A study file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    hypotheses: tuple[Hypothesis, ...] = Field(min_length=1)
    primary: str = "knows_when"
    """The claim that arms are compared on."""
    smallest_effect: float = Field(gt=0)
    """Difference between arms, in the primary claim's unit, below which it would not matter."""
    constitutions: tuple[str, ...] = Field(("virtuous-reasoner",), min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    common: Common = Common()
    arms: tuple[Arm, ...] = Field(min_length=1)

    @field_validator("primary")
    @classmethod
    def _comparable(cls, name: str) -> str:
        claim = find_claim(name)
        if claim.deciding[0].better is None:
            raise ValueError(f"{name} cannot be primary: neither way is better on it, or it is no mean over items")
        return claim.name

    @model_validator(mode="after")
    def _sound(self) -> "Study":
        names = [arm.name for arm in self.arms]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two arms are named {', '.join(repeated)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed stands twice")
        if BASE in names:
            raise ValueError(f"no arm can be named {BASE}: that is the model before any training")
        if unknown := {arm for h in self.hypotheses for arm in (h.better, h.than) if arm} - {*names, BASE}:
            raise ValueError(f"hypotheses name arms that are not there: {', '.join(sorted(unknown))}")
        cells_ = [(slug(constitution), arm) for constitution in self.constitutions for arm in names]
        if len(set(cells_)) < len(cells_):
            raise ValueError("two constitutions have the same name")
        limits = {shortest_limit(arm.stages, self.common.neutral) for arm in self.arms}
        if len(limits) > 1:
            raise ValueError(f"arms would keep different rows: their shortest max_tokens are {sorted(limits)}")
        if self.primary not in self.common.bench.claims:
            raise ValueError(f"the primary claim {self.primary!r} is not in common.bench.claims")
        return self


class Cell(NamedTuple):
    """One experiment of the grid."""

    arm: str
    constitution: str
    seed: int
    config: RunConfig

    @property
    def name(self) -> str:
        """Its folder."""
        return self.config.name


class Plan(Record):
    """What was decided before the run, and what was amended since."""

    study: Study
    amendments: tuple[str, ...] = ()


def read_study(path: Path) -> Study:
    """Read and check a study file. Raises ConfigError naming the key at fault."""
    try:
        return Study.model_validate(tomllib.loads(read_text(path)))
    except DataError as error:
        raise ConfigError(str(error)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error)}", hint="see studies/methods.toml for a whole one") from error


def cells(study: Study) -> list[Cell]:
    """The grid, seed by seed, so that every arm has its first seed before any has its second."""
    return [
        Cell(
            arm.name,
            constitution,
            seed,
            RunConfig(
                name=f"{slug(constitution)}-{arm.name}-{seed}",
                seed=seed,
                model=study.common.model,
                constitution=constitution,
                mixture=study.common.mixture,
                stages=arm.stages,
                neutral=study.common.neutral,
                bench=study.common.bench,
            ),
        )
        for seed in study.seeds
        for constitution in study.constitutions
        for arm in study.arms
    ]


def slug(constitution: str) -> str:
    """A constitution's name, as a folder may be called."""
    return re.sub(r"[^a-z0-9]+", "-", Path(constitution).stem.lower()).strip("-") or "constitution"


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


def preregister(study: Study, root: Path, *, amend: bool) -> Plan:
    """Write the plan down, or hold the study to the one that is there."""
    path = root / PLAN
    if not path.exists():
        plan = Plan(study=study)
    else:
        before = read_plan(root)
        if before.study == study:
            return before
        changed = _changes(before.study, study)
        if not amend:
            raise ConfigError(
                f"{root} was planned otherwise: {'; '.join(changed)}",
                hint="give --amend to go on with the new plan (the report will say so), or choose another --out",
            )
        plan = Plan(study=study, amendments=(*before.amendments, *changed))
    root.mkdir(parents=True, exist_ok=True)
    write_text(path, plan.model_dump_json(indent=2))
    return plan


def read_plan(root: Path) -> Plan:
    """The plan of a study's folder."""
    return Plan.model_validate_json(read_text(root / PLAN))


def _changes(before: Study, after: Study) -> list[str]:
    """What differs between two plans, in words; arms by name."""
    old, new = ({arm.name: arm for arm in study.arms} for study in (before, after))
    changes = [f"arm {name} added" for name in new if name not in old]
    changes += [f"arm {name} removed" for name in old if name not in new]
    changes += [f"arm {name} changed" for name in new if name in old and new[name] != old[name]]
    for field in Study.model_fields:
        if field != "arms" and getattr(before, field) != getattr(after, field):
            changes.append(f"{field} changed from {_told(before, field)}")
    return changes or ["arms in another order"]


def _told(study: Study, field: str) -> str:
    return json.dumps(study.model_dump(mode="json")[field], ensure_ascii=False)


def cell_run(root: Path, cell: Cell) -> Run:
    """The cell's own folder over the common store."""
    return Run(root / CELLS / cell.name, root / STORE)


def finished(root: Path, cell: Cell) -> bool:
    """Whether the cell ran to its end with these settings, data, items and weights."""
    path = root / CELLS / cell.name / MANIFEST
    if not path.exists():
        return False
    inputs = _inputs(cell.config.model, cell.config.constitution)
    return bool(json.loads(read_text(path))["fingerprint"] == fingerprint(cell.config, inputs))


@cache
def _inputs(model: str, constitution: str) -> Inputs:
    return read_inputs(RunConfig(name="inputs", model=model, constitution=constitution))


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
