"""A study as plain data: everything its page and its Markdown show, nothing of how it looks.

Enters the plan, every cell's state, and the folders of the finished ones; leaves a `StudySummary`.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ethos.bench.carries_over import OUTSIDE
from ethos.bench.claim import Deciding
from ethos.design import Cell, Plan, Quantity, State, Study, slug
from ethos.errors import DataError
from ethos.report.study.cells import (
    Done,
    Shifts,
    alike,
    better_up,
    grid,
    line_shifts,
    lines_of,
    names,
    own_values,
    pooled,
    read_cells,
)
from ethos.report.study.comparing import Judged, Winner, judged, named_by_luck, winner
from ethos.report.study.costs import Cost, Dropped, Unscored, costs, dropped, machines, unscored
from ethos.stats import Estimate, ratio_over_seeds, signed

ABILITIES = "keeps_its_abilities"
ABILITY_READOUTS = ("choice", "instructions")
TRAIT_READOUTS = ("crossed", "pole")
MOST_NAMED = 12
"""Cells of one state that a report names; of more it gives the number, and `ethos study list` their names."""


class Row(NamedTuple):
    """One line of a table: every arm and control on one quantity."""

    claim: str
    """Empty where it belongs to none: then it is no shift towards the character."""
    label: str
    unit: str
    estimates: Mapping[str, Estimate | None]
    """Arm or control → its estimate, None where there is none."""

    def shows(self, name: str) -> bool:
        """Whether the shift is off zero."""
        estimate = self.estimates[name]
        return bool(self.claim) and estimate is not None and estimate.excludes_zero

    def told(self, name: str) -> tuple[str, str]:
        """Mean and interval as tables show them; shifts have a sign."""
        estimate = self.estimates[name]
        if estimate is None:
            return "–", ""
        mean, low, high = (
            signed(value) if self.claim else f"{value + 0.0:.3f}"
            for value in (estimate.mean, estimate.low, estimate.high)
        )
        return mean, f"[{low}, {high}]"

    @property
    def num_items(self) -> str:
        """How many items every seed scored: one number, or the span over arms."""
        counts = sorted({estimate.num_scored for estimate in self.estimates.values() if estimate})
        return f"{counts[0]}–{counts[-1]}" if len(counts) > 1 else str(*counts)


class Moved(NamedTuple):
    """How far an arm or control moved on the primary claim, up being better."""

    name: str
    estimate: Estimate
    seeds: tuple[float, ...]
    """Means of each training seed."""


class Point(NamedTuple):
    """An arm or control on a frontier."""

    name: str
    across: Estimate
    up: Estimate
    seeds: tuple[tuple[float, float], ...]
    """Means of each training seed: (across, up)."""


class Frontier(NamedTuple):
    """What a shift costs: one quantity against another."""

    name: str
    across: str
    up: str
    points: tuple[Point, ...]


class Character(NamedTuple):
    """What came out for one constitution."""

    name: str
    items_note: str
    """What a reader must know of the items; empty where all are hand-written."""
    alike: list[list[str]]
    """Arms that no item tells apart."""
    winner: Winner
    judged: list[Judged]
    """What was expected here, the refuted first."""
    claimed: list[Judged]
    """What others found, in the order of the study file."""
    axis: str
    """What arms are compared on, in words."""
    by_luck: list[tuple[str, float]]
    """Arm with shuffled labels → how often its seeds, dealt to arms that do not exist, make a winner."""
    moved: list[Moved]
    """Arms and controls, the furthest up first."""
    frontiers: list[Frontier]
    columns: list[str]
    """Arms, then controls."""
    rows: list[Row]
    """Shifts from base on every line of every claim."""
    beside: list[Row]
    """Generalisation ratio, KL, ability loss."""
    traits: list[Row]
    """Contrasts by whether an arm demonstrated their trait; empty where every arm demonstrates all."""
    costs: list[Cost]
    machines: list[tuple[str, int]]
    """What cells ran on, with their precision, and how many."""
    dropped: list[Dropped]
    unscored: list[Unscored]

    @property
    def ranked(self) -> list[str]:
        """Names of arms and controls, the furthest up first."""
        return [each.name for each in self.moved]

    @property
    def groups(self) -> list[tuple[str, list[Row]]]:
        """Every row, claim by claim, then what belongs to none."""
        return [(claim, list(rows)) for claim, rows in groupby([*self.rows, *self.beside], lambda row: row.claim)]


class StudySummary(NamedTuple):
    """A study, judged."""

    plan: Plan
    states: Sequence[tuple[Cell, State]]
    characters: list[Character]
    left_out: list[tuple[str, str]]
    """(claim, label) of lines that are no mean over items, and so in no table."""

    @property
    def num_finished(self) -> int:
        """Cells that everything here is made from."""
        return sum(state == "finished" for _, state in self.states)

    @property
    def unfinished(self) -> list[tuple[State, str]]:
        """The other cells: how far they are, and which; of many, how many."""
        found: dict[State, list[str]] = {}
        for cell, state in self.states:
            found.setdefault(state, []).append(cell.name)
        found.pop("finished", None)
        return [
            (state, ", ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} cells")
            for state, names in found.items()
        ]


def summarise_study(root: Path, plan: Plan, states: Sequence[tuple[Cell, State]]) -> StudySummary:
    """Read and judge what is finished. Nothing finished is a DataError."""
    done = read_cells(root, [cell for cell, state in states if state == "finished"])
    if not done:
        raise DataError(f"{root}: no cell is finished yet", hint="run the study first: ethos study run FILE")
    by_constitution = {name: [d for d in done if d.cell.constitution == name] for name in plan.study.constitutions}
    characters = [_character(plan, constitution, own) for constitution, own in by_constitution.items() if own]
    shown = {(row.claim, row.label) for character in characters for row in character.rows}
    lines = [(claim, part.label) for claim in plan.study.common.bench.claims for part in lines_of(claim)]
    return StudySummary(plan, states, characters, [line for line in lines if line not in shown])


def _character(plan: Plan, constitution: str, done: Sequence[Done]) -> Character:
    study = plan.study

    @cache
    def shifts_on(quantity: Quantity | None) -> Shifts:
        asked = quantity or study.primary
        return better_up(line_shifts(done, asked.claim, asked.line), asked.line)

    gains, found = shifts_on(None), judged(study, shifts_on)
    arms = study.arms_for(constitution)
    luck = [(arm.name, named_by_luck(gains, arm.name)) for arm in arms if study.labels(arm) == "shuffled"]
    return Character(
        name=Path(constitution).stem,
        items_note=done[0].manifest.items_note,
        alike=alike(done),
        winner=winner(gains, [arm.name for arm in arms], study.controls),
        judged=[each for each in found if each.hypothesis.claimed_by is None],
        claimed=[each for h in study.hypotheses for each in found if each.hypothesis is h and h.claimed_by],
        by_luck=[(name, rate) for name, rate in luck if rate is not None],
        axis=_axis(study.primary),
        moved=_moved(done, gains),
        frontiers=_frontiers(done, gains, _axis(study.primary)),
        columns=names(done),
        rows=[row for claim in study.common.bench.claims for row in _rows(done, claim, study.quantities)],
        beside=_beside(done),
        traits=_by_trait(study, constitution, done),
        costs=costs(done),
        machines=machines(done),
        dropped=dropped(done),
        unscored=unscored(done),
    )


def _by_trait(study: Study, constitution: str, done: Sequence[Done]) -> list[Row]:
    """Pole and crossed contrasts of traits that some arm demonstrated, and of those that it held out.

    An arm that demonstrates all stands beside, on the same traits.
    """
    shown = {trait for arm in study.arms_for(constitution) for trait in study.mixture(arm).demonstrated or ()}
    traits, rows = done[0].manifest.traits, list[Row]()
    for claim in study.common.bench.claims if shown else ():
        for readout in TRAIT_READOUTS:
            shifts = line_shifts(done, claim, Deciding(readout, readout))
            for label, is_shown in (("demonstrated", True), ("held out", False)):
                part = Deciding(f"{readout}, traits {label}", readout)
                items = {item for item, trait in traits.items() if (trait in shown) == is_shown}
                own = {key: {item: found[item] for item in found.keys() & items} for key, found in shifts.items()}
                rows.append(_row(claim, part, own, names(done)))
    return [row for row in rows if any(row.estimates.values())]


def _axis(primary: Quantity) -> str:
    part = primary.line
    turned = ", turned so that up is better" if part.better == "lower" else ""
    return f"{primary.claim.replace('_', ' ')}: {part.label}, {part.unit}{turned}"


def _row(claim: str, part: Deciding, shifts: Shifts, columns: Sequence[str]) -> Row:
    return Row(claim, part.label, part.unit, {name: pooled(shifts, name) for name in columns})


def _rows(done: Sequence[Done], claim: str, asked: Sequence[Quantity]) -> list[Row]:
    """A row a line, those that the study asks for among them; what no score of its own makes (a slope, a correlation)
    is left out."""
    parts = {part.label: part for part in [*lines_of(claim), *(each.line for each in asked if each.claim == claim)]}
    rows = [_row(claim, part, line_shifts(done, claim, part), names(done)) for part in parts.values()]
    return [row for row in rows if any(row.estimates.values())]


def _beside(done: Sequence[Done]) -> list[Row]:
    """What belongs to no claim, as far as it was measured."""
    ratios, columns = _ratios(done), names(done)
    rows = [Row("", "generalisation ratio, crossed", "out of distribution / familiar", ratios)] if ratios else []
    if ABILITIES in done[0].manifest.config.bench.claims:
        kl = Deciding("KL from base on neutral prose", "kl")
        lost = Deciding("ability loss, choice and instructions", "", unit="share right")
        rows += [_row("", kl, _kl(done), columns), _row("", lost, _ability_loss(done), columns)]
    return rows


def _ratios(done: Sequence[Done]) -> dict[str, Estimate | None]:
    """Crossed shift out of distribution over familiar; empty where it was not measured."""
    lines = (("carries_over", OUTSIDE), ("shows_the_character", None))
    if not {claim for claim, _ in lines} <= {*done[0].manifest.config.bench.claims}:
        return {}
    outside, inside = (line_shifts(done, claim, Deciding("", "crossed", splits)) for claim, splits in lines)
    grids = {name: (*grid(outside, [name]), *grid(inside, [name])) for name in names(done)}
    return {name: ratio_over_seeds(*pair) if all(one.size for one in pair) else None for name, pair in grids.items()}


def _kl(done: Sequence[Done]) -> Shifts:
    return own_values(done, ABILITIES, "kl")


def _ability_loss(done: Sequence[Done]) -> Shifts:
    """Share right of the base minus the subject's, items of both readouts together."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for readout in ABILITY_READOUTS:
        for key, shifts in line_shifts(done, ABILITIES, Deciding("", readout)).items():
            found.setdefault(key, {}).update({f"{readout}, {item}": -shift for item, shift in shifts.items()})
    return found


def _moved(done: Sequence[Done], gains: Shifts) -> list[Moved]:
    found = [(name, pooled(gains, name)) for name in names(done)]
    moved = [Moved(name, estimate, tuple(_seed_means(gains, name))) for name, estimate in found if estimate]
    return sorted(moved, key=lambda each: -each.estimate.mean)


def _seed_means(shifts: Shifts, name: str) -> list[float]:
    """An arm's mean in every training seed, in their order."""
    return [float(np.mean(list(shifts[name, seed].values()))) for arm, seed in sorted(shifts) if arm == name]


def _frontiers(done: Sequence[Done], gains: Shifts, up: str) -> list[Frontier]:
    """The primary shift against KL, and against ability loss, where they were measured."""
    place = slug(done[0].cell.constitution)
    if ABILITIES not in done[0].manifest.config.bench.claims:
        return []
    axes = (
        ("kl", "KL from base on neutral prose, nats/token", _kl(done)),
        ("abilities", "ability loss: share right, base − subject", _ability_loss(done)),
    )
    return [
        Frontier(f"{name}-{place}", across, up, tuple(p for each in names(done) for p in _point(each, values, gains)))
        for name, across, values in axes
    ]


def _point(name: str, across: Shifts, up: Shifts) -> list[Point]:
    """The arm's place, none where it has no finished cell with both."""
    x, y = pooled(across, name), pooled(up, name)
    if x is None or y is None:
        return []
    return [Point(name, x, y, tuple(zip(_seed_means(across, name), _seed_means(up, name), strict=True)))]
