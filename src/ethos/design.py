"""A study's design: arms × constitutions × seeds, written down before anything is run.

An arm is a list of training stages, and may be a control by its labels, or by the constitution that it is trained on;
everything else (model, data, budget, controls, items) is the same for all. Base and prompted are no arms: every cell
has both, and a neutral adapter. Each cell of the grid is one experiment (see pipeline.py).

The plan (hypotheses, primary claim, smallest effect that would matter) is kept with its hash in the study's folder. A
changed plan is refused, unless it is amended openly: the report then says what was changed.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from ethos.bench.battery import find_claim
from ethos.bench.claim import CONTRASTS, Deciding
from ethos.config import RunConfig
from ethos.data.preferences import Labels, Mixture
from ethos.errors import ConfigError, DataError, StoreError
from ethos.manifest import BASE, NEUTRAL, PROMPTED
from ethos.measuring import BenchSettings
from ethos.methods import ConstitutionalRL, DistillationTraining, Stages, Steering, check_labels, shortest_limit
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


class Budget(Record):
    """What every arm may spend, and its neutral control; rows repeat until it is spent."""

    tokens: int = Field(gt=0)
    """To train on, over all stages of an arm."""
    generated: int | None = Field(None, gt=0)
    """That on-policy stages of an arm may sample; what is spent first ends a stage."""


class Arm(Record):
    """One way to train."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    labels: Labels | None = Field(None, exclude_if=lambda labels: labels is None)
    """In place of the common mixture's: `shuffled` and `inverted` make the arm a control of the same cost."""
    trained_on: str | None = Field(None, exclude_if=lambda name: name is None)
    """Another constitution, whose rows train the arm, while it is measured on the cell's own: a control."""
    demonstrated: tuple[str, ...] | None = Field(None, min_length=1, exclude_if=lambda names: names is None)
    """In place of the common mixture's: the traits that contrasts and conversations show; the others are held out."""
    constitutions: tuple[str, ...] | None = Field(None, min_length=1, exclude_if=lambda names: names is None)
    """Those of the study that it is for; None: all. Not every constitution has documents or pushing users."""
    shares: tuple[float, ...] | None = Field(None, min_length=1, exclude_if=lambda shares: shares is None)
    """How a budget is divided over the training stages, in order; None: equally."""
    stages: Stages

    @property
    def trained(self) -> int:
        """How many of its stages train; steering does not."""
        return sum(isinstance(stage, Training) for stage in self.stages)

    def is_for(self, constitution: str) -> bool:
        """Whether the constitution has cells of this arm."""
        return self.constitutions is None or constitution in self.constitutions

    def within(self, budget: Budget | None) -> Stages:
        """The stages, each with its share of a budget."""
        shares = iter(self.shares or [1.0] * self.trained)
        total = sum(self.shares or [1.0] * self.trained)
        return tuple(
            _within(stage, budget, next(shares) / total) if isinstance(stage, Training) else stage
            for stage in self.stages
        )

    @model_validator(mode="after")
    def _shared_out(self) -> "Arm":
        if self.shares is not None and (len(self.shares) != self.trained or min(self.shares) <= 0):
            raise ValueError(f"shares are positive numbers, one for each of the {self.trained} training stages")
        return self


T = TypeVar("T", bound=Training)


def _within(training: T, budget: Budget | None, share: float) -> T:
    """A training that ends with its share of a budget."""
    if budget is None:
        return training
    own = {"tokens": max(1, round(budget.tokens * share))}
    if budget.generated is not None and isinstance(training, DistillationTraining | ConstitutionalRL):
        own["generated"] = max(1, round(budget.generated * share))
    return training.model_copy(update={"optimisation": training.optimisation.model_copy(update=own)})


class Common(Record):
    """What all cells share."""

    model: str = DEFAULT_MODEL
    mixture: Mixture = Mixture()
    neutral: Training = Training()
    bench: BenchSettings = BenchSettings()


class Quantity(Record):
    """What two arms are compared on: a readout of a claim."""

    claim: str
    readout: str
    splits: tuple[str, ...] | None = None
    """None pools them all."""
    per_shift: bool = False
    """Divided by the arm's own shift on the primary claim: what the same shift costs each."""

    @field_validator("claim")
    @classmethod
    def _known(cls, name: str) -> str:
        return find_claim(name).name

    @property
    def line(self) -> Deciding:
        """The same as a line of its claim; where no verdict rests on it, only a contrast has a better direction."""
        own = next((part for part in find_claim(self.claim).deciding if part.readout == self.readout), None)
        label = ", ".join((self.readout, *(self.splits or ())))
        if own is None:
            return Deciding(label, self.readout, self.splits, better="higher" if self.readout in CONTRASTS else None)
        return own if own.splits == self.splits else own._replace(label=label, splits=self.splits)


def deciding(claim: str) -> Quantity:
    """What the verdict of a claim rests on first."""
    part = find_claim(claim).deciding[0]
    return Quantity(claim=find_claim(claim).name, readout=part.readout, splits=part.splits)


class Hypothesis(Record):
    """What is expected, in a sentence that could turn out wrong."""

    text: Text
    claimed_by: Text | None = Field(None, exclude_if=lambda paper: paper is None)
    """The paper that found it elsewhere: then it is a check of reproduction, and the report has a table of those. One
    that names no arms is shown as not run."""
    better: str | None = None
    """The arm, control or `base` that is expected to be the better one: on the primary claim, where that is what it
    says. Of a readout that no direction is better on, the higher one."""
    than: str | None = None
    """Another arm, a control (`prompted`, `neutral`), or `base`: no shift at all."""
    on: Quantity | None = Field(None, exclude_if=lambda quantity: quantity is None)
    """What they are compared on in place of the primary claim."""
    than_on: Quantity | None = Field(None, exclude_if=lambda quantity: quantity is None)
    """What the other one is read from, where that is another quantity, on other items."""
    differs: bool = Field(False, exclude_if=lambda differs: not differs)
    """They differ, whichever way."""

    @property
    def quantities(self) -> list[Quantity]:
        """What it reads beside the primary claim."""
        return [quantity for quantity in (self.on, self.than_on) if quantity]

    @model_validator(mode="after")
    def _whole(self) -> "Hypothesis":
        if (self.better is None) != (self.than is None):
            raise ValueError("better and than come together")
        if self.better is None and (self.quantities or self.differs):
            raise ValueError("on, than_on and differs go with better and than")
        if self.than_on and not self.on:
            raise ValueError("than_on goes with on")
        apart = self.than_on or any(quantity.per_shift for quantity in self.quantities)
        if apart and BASE in (self.better, self.than):
            raise ValueError("the base has no shift: than_on and per_shift compare two that have one")
        return self


class Study(Record):
    """A study file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    hypotheses: tuple[Hypothesis, ...] = Field(min_length=1)
    primary: Quantity = Field(deciding("knows_when"))
    """What arms are compared on; a claim's name stands for what its verdict rests on first."""
    smallest_effect: float = Field(gt=0)
    """Difference between arms, in the primary quantity's unit, below which it would not matter."""
    constitutions: tuple[str, ...] = Field(("virtuous-reasoner",), min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    budget: Budget | None = Field(None, exclude_if=lambda budget: budget is None)
    """The same for every arm; None: every stage trains for its own epochs."""
    common: Common = Common()
    controls: tuple[str, ...] = Field((), exclude_if=lambda names: not names)
    """Arms that a winner must beat and that cannot win."""
    arms: tuple[Arm, ...] = Field(min_length=1)

    @field_validator("primary", mode="before")
    @classmethod
    def _whole(cls, given: object) -> object:
        return deciding(given) if isinstance(given, str) else given

    @field_validator("primary")
    @classmethod
    def _comparable(cls, primary: Quantity) -> Quantity:
        if primary.line.better is None:
            raise ValueError(
                f"{primary.claim} cannot be primary: neither way is better on it, or it is no mean over items"
            )
        return primary

    @model_validator(mode="after")
    def _named(self) -> "Study":
        names = [arm.name for arm in self.arms]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two arms are named {', '.join(repeated)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed stands twice")
        if taken := sorted({*COMPARED_WITH} & {*names}):
            raise ValueError(f"no arm can be named {taken[0]}: every cell has a subject of that name")
        if unknown := {arm for h in self.hypotheses for arm in (h.better, h.than) if arm} - {*names, *COMPARED_WITH}:
            raise ValueError(f"hypotheses name arms that are not there: {', '.join(sorted(unknown))}")
        if missing := sorted({*self.controls} - {*names}):
            raise ValueError(f"controls that are no arms: {', '.join(missing)}")
        if not {*names} - {*self.controls}:
            raise ValueError("every arm is a control: nothing is compared with them")
        slugs = [slug(constitution) for constitution in self.constitutions]
        if len(set(slugs)) < len(slugs):
            raise ValueError("two constitutions have the same name")
        return self

    @model_validator(mode="after")
    def _sound(self) -> "Study":
        for arm in self.arms:
            check_labels(self.labels(arm), arm.stages)
            self._check_constitutions(arm)
        for constitution in self.constitutions:
            self._check_demonstrated(constitution)
        if idle := [constitution for constitution in self.constitutions if not self.arms_for(constitution)]:
            raise ValueError(f"no arm is for {', '.join(idle)}")
        limits = {shortest_limit(arm.stages, self.common.neutral) for arm in self.arms}
        if len(limits) > 1:
            raise ValueError(f"arms would keep different rows: their shortest max_tokens are {sorted(limits)}")
        asked = {quantity.claim for quantity in self.quantities[1:]}
        if unasked := sorted(asked - {*self.common.bench.claims}):
            raise ValueError(f"hypotheses read claims that are not in common.bench.claims: {', '.join(unasked)}")
        if self.primary.claim not in self.common.bench.claims:
            raise ValueError(f"the primary claim {self.primary.claim!r} is not in common.bench.claims")
        trainings = [s for arm in self.arms for s in arm.stages if isinstance(s, Training)] + [self.common.neutral]
        if self.budget and any(each.optimisation.epochs != 1 or each.optimisation.tokens for each in trainings):
            raise ValueError("the budget says how far every arm trains: leave out epochs and tokens")
        return self

    def _check_constitutions(self, arm: Arm) -> None:
        own = arm.constitutions or self.constitutions
        if unknown := sorted({*own} - {*self.constitutions}):
            raise ValueError(f"arm {arm.name} is for constitutions that the study has not: {', '.join(unknown)}")
        if arm.trained_on and slug(arm.trained_on) in map(slug, own):
            raise ValueError(f"arm {arm.name} would be trained on {arm.trained_on} and measured on it, too")
        if arm.demonstrated and len(own) > 1:
            raise ValueError(f"arm {arm.name} demonstrates traits of one constitution: name it in its constitutions")

    def _check_demonstrated(self, constitution: str) -> None:
        demonstrated = {frozenset(arm.demonstrated): arm for arm in self.arms_for(constitution) if arm.demonstrated}
        if len(demonstrated) > 1:
            one, other, *_ = demonstrated.values()
            raise ValueError(f"arms {one.name} and {other.name} demonstrate different traits of {constitution}")

    @property
    def quantities(self) -> list[Quantity]:
        """All that arms are compared on, the primary one first."""
        return [self.primary, *(quantity for hypothesis in self.hypotheses for quantity in hypothesis.quantities)]

    def labels(self, arm: Arm) -> Labels:
        """Which labels an arm's contrasts have."""
        return arm.labels or self.common.mixture.labels

    def mixture(self, arm: Arm) -> Mixture:
        """The common mixture with what is an arm's own."""
        own = {"labels": self.labels(arm), "demonstrated": arm.demonstrated or self.common.mixture.demonstrated}
        return self.common.mixture.model_copy(update=own)

    def arms_for(self, constitution: str) -> list[Arm]:
        """The arms that a constitution has cells of."""
        return [arm for arm in self.arms if arm.is_for(constitution)]


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
    """Read and check a study file. Raises ConfigError naming the key at fault.

    What stands in `[common.training]` holds for every training stage and the neutral control, unless a stage says
    otherwise.
    """
    try:
        raw = tomllib.loads(read_text(path))
    except DataError as error:
        raise ConfigError(str(error)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    try:
        return Study.model_validate(_filled(raw))
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error)}", hint="see studies/first.toml for a whole one") from error


def _filled(raw: dict[str, Any]) -> dict[str, Any]:
    """The tables of a file with the common training filled in where a stage says nothing."""
    common = raw.get("common")
    if not isinstance(common, dict) or "training" not in common:
        return raw
    shared = common["training"]
    trained = [stage for arm in raw.get("arms", []) for stage in arm.get("stages", []) if _trains(stage)]
    for table in (common.setdefault("neutral", {}), *trained):
        for name, values in shared.items():
            table[name] = values | table.get(name, {}) if isinstance(values, dict) else table.get(name, values)
    return raw | {"common": {name: table for name, table in common.items() if name != "training"}}


def _trains(stage: dict[str, Any]) -> bool:
    return bool(stage.get("method") != Steering.model_fields["method"].default)


def cells(study: Study) -> list[Cell]:
    """The grid, seed by seed, so that every arm has its first seed before any has its second.

    Constitutions take turns: cells of one share most of their work, and those that run side by side wait for it.
    """
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
                trained_on=arm.trained_on,
                mixture=study.mixture(arm),
                stages=arm.within(study.budget),
                neutral=_within(study.common.neutral, study.budget, 1.0),
                bench=study.common.bench,
                teacher_gap="measured",  # a study is to find out what such a teacher does
            ),
        )
        for seed in study.seeds
        for arm in study.arms
        for constitution in study.constitutions
        if arm.is_for(constitution)
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
    """What differs between two plans, in words: arms and hypotheses by name, a change that several arms share once."""
    sharing: dict[tuple[str, str], list[str]] = {}
    changes = []
    for place, change in _differences(_by_name(before), _by_name(after)):
        if place[0] == "arms":
            sharing.setdefault((".".join(place[2:]), change), []).append(place[1])
        elif place[0] == "hypotheses":
            changes.append(" ".join(["hypothesis", f"“{place[1]}”", *place[2:], change]))
        else:
            changes.append(f"{'.'.join(place)} {change}")
    arms = [
        f"{'arm' if len(names) == 1 else 'arms'} {', '.join(names)}{f': {field}' if field else ''} {change}"
        for (field, change), names in sharing.items()
    ]
    return [*arms, *changes] or ["arms or hypotheses in another order"]


def _by_name(study: Study) -> dict[str, Any]:
    """A plan as JSON has it, its arms by name and its hypotheses by their text."""
    plan = study.model_dump(mode="json")
    named = {"arms": {arm.pop("name"): arm for arm in plan["arms"]}}
    return plan | named | {"hypotheses": {each.pop("text"): each for each in plan["hypotheses"]}}


_ABSENT = object()


def _differences(was: Any, now: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """(where, how) of all that is not the same, as deep as both sides have the same shape."""
    if _are(dict, was, now):
        for key in {**was, **now}:
            yield from _differences(was.get(key, _ABSENT), now.get(key, _ABSENT), (*place, key))
    elif _are(list, was, now) and len(was) == len(now) and _are(dict, *was, *now):
        for number, pair in enumerate(zip(was, now, strict=True), 1):
            yield from _differences(*pair, (*place, str(number)))
    elif was != now:
        yield place, _how(was, now)


def _are(kind: type, *values: Any) -> bool:
    return all(isinstance(value, kind) for value in values)


def _how(was: Any, now: Any) -> str:
    """What happened to one value; what stands at its default is absent from a plan."""
    if was is _ABSENT:
        return "added" if isinstance(now, dict) else f"set to {_json(now)}"
    if now is _ABSENT:
        return "removed" if isinstance(was, dict) else f"no longer {_json(was)}"
    return f"changed from {_json(was)} to {_json(now)}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
