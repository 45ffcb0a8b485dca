"""Finished cells of a study, read: every score file once, however many cells share it.

Enters the cells' folders; leaves values by subject, claim, readout and split, and the shifts of every arm and control
on any line of a claim.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from ethos.bench.battery import CLAIMS
from ethos.bench.claim import Deciding, Score
from ethos.design import Cell
from ethos.manifest import BASE, NEUTRAL, PROMPTED, TRAINED, Manifest, read_manifest
from ethos.measuring import current_scores
from ethos.stats import Estimate, Floats, over_seeds

CONTROLS = (PROMPTED, NEUTRAL)
"""Subjects of every cell that stand beside the arms."""

Shifts = Mapping[tuple[str, int], Mapping[str, float]]
"""(arm or control, seed) → item → shift from base on one line."""


class Scored(NamedTuple):
    """One subject on one claim."""

    values: dict[tuple[str, str], dict[str, float | None]]
    """(readout, split) → item → value."""
    reasons: dict[tuple[str, str, str], str]
    """(readout, split, item) → why it has no value."""

    def of(self, readout: str) -> dict[str, float]:
        """Item → its value, of the items that have one; a readout with one split."""
        found = [values for (name, _), values in self.values.items() if name == readout]
        return {item: value for values in found for item, value in values.items() if value is not None}


class Done(NamedTuple):
    """A finished cell."""

    cell: Cell
    root: Path
    manifest: Manifest
    scored: Mapping[str, Mapping[str, Scored]]
    """Subject → claim → what was measured."""


def read_cells(root: Path, cells: Iterable[Cell]) -> list[Done]:
    """The cells of a study's folder with everything that was measured in them.

    Raises DataError where a claim has changed since.
    """
    read: dict[Path, Scored] = {}

    def scored(folder: Path, claim: str) -> Scored:
        if folder not in read:
            read[folder] = _scored(current_scores(folder, claim))
        return read[folder]

    done = []
    for cell in cells:
        folder = cell.folder(root)
        manifest = read_manifest(folder)
        found = {
            subject: {claim: scored((folder / place).resolve(), claim) for claim, place in claims.items()}
            for subject, claims in manifest.measured.items()
        }
        done.append(Done(cell, folder, manifest, found))
    return done


def _scored(scores: Sequence[Score]) -> Scored:
    """One score file's; none where a claim has no items."""
    values: dict[tuple[str, str], dict[str, float | None]] = {}
    reasons: dict[tuple[str, str, str], str] = {}
    for score in scores:
        values.setdefault((score.readout, score.split), {})[score.item] = score.value
        if score.value is None:
            reasons[score.readout, score.split, score.item] = score.reason or "no reason recorded"
    return Scored(values, reasons)


def lines_of(claim: str) -> list[Deciding]:
    """What decides a claim, line by line; a line that pools splits is followed by each of them."""
    lines = []
    for part in CLAIMS[claim].deciding:
        lines.append(part)
        if part.splits and len(part.splits) > 1:
            lines += [part._replace(label=f"{part.readout}, {split}", splits=(split,)) for split in part.splits]
    return lines


def line_shifts(done: Sequence[Done], claim: str, part: Deciding) -> dict[tuple[str, int], dict[str, float]]:
    """The shifts of every arm and control on one line."""
    return {
        (name, each.cell.seed): _item_shifts(each.scored[BASE][claim], each.scored[subject][claim], part)
        for each in done
        for name, subject in named_subjects(each)
    }


def _item_shifts(before: Scored, after: Scored, part: Deciding) -> dict[str, float]:
    """Item → its shift, paired within each split, then the mean over splits."""
    found: dict[str, list[float]] = {}
    for (readout, split), values in after.values.items():
        if readout == part.readout and (part.splits is None or split in part.splits):
            base = before.values.get((readout, split), {})
            for item, value in values.items():
                if value is not None and (was := base.get(item)) is not None:
                    found.setdefault(item, []).append(value - was)
    return {item: fmean(shifts) for item, shifts in found.items()}


def own_values(done: Sequence[Done], claim: str, readout: str) -> dict[tuple[str, int], dict[str, float]]:
    """What a readout says of every arm and control itself, compared with nobody."""
    return {
        (name, each.cell.seed): each.scored[subject][claim].of(readout)
        for each in done
        for name, subject in named_subjects(each)
    }


def named_subjects(done: Done) -> list[tuple[str, str]]:
    """(row of a table, subject) of one cell: its trained subject under the arm's name, and the controls."""
    return [(done.cell.arm, TRAINED), *((control, control) for control in CONTROLS)]


def names(done: Sequence[Done]) -> list[str]:
    """Arms in the order of the plan, then the controls."""
    return [*dict.fromkeys(each.cell.arm for each in done), *CONTROLS]


def alike(done: Sequence[Done]) -> list[list[str]]:
    """Arms that scored the same on every item of every seed, together: what should set them apart changed nothing."""
    values: dict[str, list[tuple[int, list[object]]]] = {}
    for each in sorted(done, key=lambda each: each.cell.seed):
        found = [scored.values for _, scored in sorted(each.scored[TRAINED].items())]
        values.setdefault(each.cell.arm, []).append((each.cell.seed, [*found]))
    groups: list[list[str]] = []
    for arm, own in values.items():
        group = next((group for group in groups if values[group[0]] == own), None)
        if group is None:
            groups.append([arm])
        else:
            group.append(arm)
    return [group for group in groups if len(group) > 1]


def better_up(shifts: Shifts, part: Deciding) -> Shifts:
    """The shifts with the better direction upwards."""
    sign = -1.0 if part.better == "lower" else 1.0
    return {key: {item: sign * value for item, value in found.items()} for key, found in shifts.items()}


def grid(shifts: Shifts, arms: Sequence[str]) -> list[Floats]:
    """(seeds, items) of each arm, over the seeds and items that all of them have."""
    seeds = sorted(set.intersection(*({seed for arm, seed in shifts if arm == name} for name in arms)))
    items = sorted(set.intersection(*(set(shifts[arm, seed]) for arm in arms for seed in seeds))) if seeds else []
    return [np.array([[shifts[arm, seed][item] for item in items] for seed in seeds]) for arm in arms]


def pooled(shifts: Shifts, arm: str) -> Estimate | None:
    """An arm's mean shift over its seeds and the items that each of them scored; None where there are none."""
    (shifts_SI,) = grid(shifts, [arm])
    return over_seeds(shifts_SI) if shifts_SI.size else None
