"""A study's design: arms × constitutions × seeds, written down before anything is run.

An arm is a list of training stages, and may be a control by its labels; everything else (model, data, controls, items)
is the same for all. Each cell of the grid is one experiment (see pipeline.py).

The plan (hypotheses, primary claim, smallest effect that would matter) is kept with its hash in the study's folder. A
changed plan is refused, unless it is amended openly: the report then says what was changed.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator, model_validator

from ethos.bench.battery import find_claim
from ethos.config import RunConfig
from ethos.data.preferences import Labels, Mixture
from ethos.errors import ConfigError, DataError, StoreError
from ethos.manifest import BASE, NEUTRAL, PROMPTED
from ethos.measuring import BenchSettings
from ethos.methods import Stages, check_labels, shortest_limit
from ethos.models import DEFAULT_MODEL
from ethos.records import Record, Text, explain, read_text
from ethos.store import write_text
from ethos.train.fit import Training

PLAN, CELLS, STORE = "plan.json", "cells", "store"
"""A study's folder: what was decided, a folder a cell, and the artefacts that cells share."""
State = Literal["finished", "outdated", "begun", "to do"]
"""How far a cell is; `outdated`: it ran to its end, but settings, data, items or weights are others now."""
COMPARED_WITH = (BASE, PROMPTED, NEUTRAL)
"""Subjects that every cell has beside its trained one."""


class Arm(Record):
    """One way to train."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    labels: Labels | None = Field(None, exclude_if=lambda labels: labels is None)
    """In place of the common mixture's: `shuffled` and `inverted` make the arm a control of the same cost."""
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
    """Another arm, a control (`prompted`, `neutral`), or `base`: no shift at all."""

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
        if taken := sorted({*COMPARED_WITH} & {*names}):
            raise ValueError(f"no arm can be named {taken[0]}: every cell has a subject of that name")
        if unknown := {arm for h in self.hypotheses for arm in (h.better, h.than) if arm} - {*names, *COMPARED_WITH}:
            raise ValueError(f"hypotheses name arms that are not there: {', '.join(sorted(unknown))}")
        for arm in self.arms:
            check_labels(self.labels(arm), arm.stages)
        cells_ = [(slug(constitution), arm) for constitution in self.constitutions for arm in names]
        if len(set(cells_)) < len(cells_):
            raise ValueError("two constitutions have the same name")
        limits = {shortest_limit(arm.stages, self.common.neutral) for arm in self.arms}
        if len(limits) > 1:
            raise ValueError(f"arms would keep different rows: their shortest max_tokens are {sorted(limits)}")
        if self.primary not in self.common.bench.claims:
            raise ValueError(f"the primary claim {self.primary!r} is not in common.bench.claims")
        return self

    def labels(self, arm: Arm) -> Labels:
        """Which labels an arm's contrasts have."""
        return arm.labels or self.common.mixture.labels


class Cell(NamedTuple):
    """One experiment of the grid."""

    arm: str
    constitution: str
    seed: int
    config: RunConfig

    @property
    def name(self) -> str:
        """What its folder is called."""
        return self.config.name

    def folder(self, root: Path) -> Path:
        """Its folder in a study's."""
        return root / CELLS / self.name


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
                mixture=study.common.mixture.model_copy(update={"labels": study.labels(arm)}),
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
    """The plan of a study's folder; a folder without one is a StoreError."""
    path = root / PLAN
    if not path.exists():
        raise StoreError(f"{root}: no study here (no {PLAN})", hint="run it first: ethos study run FILE --out FOLDER")
    try:
        return Plan.model_validate_json(read_text(path))
    except ValidationError as error:
        raise StoreError(
            f"{path} is damaged or of another version of ethos: {explain(error)}",
            hint="move it away: the next `ethos study run` writes the plan anew, and finished cells are kept",
        ) from error


def _changes(before: Study, after: Study) -> list[str]:
    """What differs between two plans, in words; arms by name."""
    old, new = ({arm.name: arm for arm in study.arms} for study in (before, after))
    changes = [f"arm {name} added" for name in new if name not in old]
    changes += [f"arm {name} removed" for name in old if name not in new]
    changes += [f"arm {name} changed" for name in new if name in old and new[name] != old[name]]
    changes += _changed_fields(before, after, but=("arms", "common"))
    changes += _changed_fields(before.common, after.common, within="common.")
    return changes or ["arms in another order"]


def _changed_fields(before: Record, after: Record, *, but: Sequence[str] = (), within: str = "") -> Iterator[str]:
    """The fields that differ, each with what it was."""
    for field in type(before).model_fields:
        if field not in but and getattr(before, field) != getattr(after, field):
            was = json.dumps(before.model_dump(mode="json", include={field}).get(field), ensure_ascii=False)
            yield f"{within}{field} changed from {was}"
