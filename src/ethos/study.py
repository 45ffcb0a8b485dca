"""A controlled comparison: arms × constitutions × seeds, planned before it is run.

An arm is a list of training stages; everything else (model, data, controls, items) is the same for all. Each cell of
the grid is one experiment (see pipeline.py) in a folder of its own; all keep their artefacts in one store, so what two
cells share (data, base measurements, a common first stage) is made once, and an arm can be added at any time.

The plan (hypotheses, primary claim, smallest effect that would matter) is written down with its hash before the first
cell runs. A changed plan is refused, unless it is amended openly: the report then says what was changed.
"""

import json
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import Field, ValidationError, field_validator, model_validator

from ethos.bench.battery import find_claim
from ethos.config import RunConfig
from ethos.data.preferences import Mixture
from ethos.errors import ConfigError, DataError
from ethos.manifest import MANIFEST
from ethos.measuring import BenchSettings
from ethos.methods import Stage
from ethos.models import DEFAULT_MODEL
from ethos.pipeline import run_experiment
from ethos.records import Record, Text, explain, read_text
from ethos.store import Run, write_text
from ethos.train.fit import Training

PLAN, STORE, CELLS = "plan.json", "store", "cells"


class Arm(Record):
    """One way to train."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    stages: tuple[Stage, ...] = Field(min_length=1)


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
    def _known(cls, name: str) -> str:
        return find_claim(name).name

    @model_validator(mode="after")
    def _sound(self) -> "Study":
        names = [arm.name for arm in self.arms]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two arms are named {', '.join(repeated)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed stands twice")
        if unknown := {arm for h in self.hypotheses for arm in (h.better, h.than) if arm} - set(names):
            raise ValueError(f"hypotheses name arms that are not there: {', '.join(sorted(unknown))}")
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
                name=f"{Path(constitution).stem}-{arm.name}-{seed}",
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


def run_study(study: Study, root: Path, *, workers: int = 1, amend: bool = False) -> None:
    """Run every cell that is not finished. A killed study resumes; a finished one only reads."""
    settle(study, root, amend=amend)
    todo = [cell for cell in cells(study) if not finished(root, cell)]
    for done, cell in enumerate(_each(todo, root, workers), 1):
        print(f"study {study.name}: {cell.name} done, {done} of {len(todo)}", file=sys.stderr, flush=True)


def settle(study: Study, root: Path, *, amend: bool) -> Plan:
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
    """Whether the cell ran to its end with these settings."""
    path = root / CELLS / cell.name / MANIFEST
    return path.exists() and json.loads(read_text(path))["config"] == cell.config.model_dump(mode="json")


def _each(todo: list[Cell], root: Path, workers: int) -> Iterator[Cell]:
    """Run cells one by one here, or in a pool of processes that share the processor's threads; yield each when done."""
    if workers == 1:
        for cell in todo:
            run_experiment(cell.config, cell_run(root, cell))
            yield cell
        return
    threads = max(1, torch.get_num_threads() // workers)
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (threads,)) as pool:
        running = {pool.submit(_run_cell, root, cell): cell for cell in todo}
        for future in as_completed(running):
            future.result()
            yield running[future]


def _run_cell(root: Path, cell: Cell) -> None:
    run_experiment(cell.config, cell_run(root, cell))
