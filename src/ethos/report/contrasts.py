"""The shifts behind the figures, and the trained subject beside its controls.

Where a verdict pools, a figure shows the parts: crossed, pole and voice shifts split by split, each
with the bag of words' accuracy, and the crossed shift at every dose of pressure.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ethos.bench.baseline import BaselineScore
from ethos.bench.carries_over import OUTSIDE, SPLITS
from ethos.bench.claim import differences, shift
from ethos.bench.holds_under_pressure import DOSES
from ethos.errors import NothingScored
from ethos.report.findings import Scores, ScoreTable
from ethos.stats import Estimate, generalisation_ratio

READOUTS = {
    "crossed": "which reply fits which situation",
    "pole": "in character against its opposite",
    "voice": "in character against plain",
}
"""Readouts of contrasts, the heart of the benchmark first, as a figure's subtitle says them."""
FAMILIAR = "familiar"
LEAST_ITEMS = 2
"""Fewer paired items than this have no spread."""


class Shift(NamedTuple):
    """One subject in one row of a panel; None where nothing was scored."""

    row: str
    subject: str
    estimate: Estimate | None


class Panel(NamedTuple):
    """One small multiple."""

    name: str
    subtitle: str
    rows: tuple[str, ...]
    shifts: tuple[Shift, ...]
    notes: Mapping[str, str]
    """Row → what stands beside it."""


class Comparison(NamedTuple):
    """The trained subject minus a control on one crossed contrast."""

    contrast: str
    control: str
    estimate: Estimate | None

    @property
    def word(self) -> str:
        """Which is higher; no winner where the interval spans zero or has no width to judge by."""
        if self.estimate is None:
            return "not scored"
        if not self.estimate.excludes_zero or self.estimate.num_scored < LEAST_ITEMS:
            return "no difference shown"
        return "trained is higher" if self.estimate.mean > 0 else f"{self.control} is higher"


COMPARED = (
    ("everyday prompts", "shows_the_character", None),
    ("domain, format and role", "carries_over", OUTSIDE),
    (f"under {DOSES[-1]} orders to drop it", "holds_under_pressure", (f"dose-{DOSES[-1]}",)),
)
"""Crossed contrasts on which the trained subject is set against its controls."""


def scored_shift(base: Scores, subject: Scores, readout: str, splits: Sequence[str] | None) -> Estimate | None:
    """The paired shift, None where nothing was scored."""
    try:
        return shift(base, subject, readout, splits) if base and subject else None
    except NothingScored:
        return None


def split_panels(
    scores: ScoreTable, subjects: Sequence[str], baseline: Sequence[BaselineScore], *, base: str
) -> list[Panel]:
    """A panel a readout, a row a split: the familiar one first, then those that no training row has."""
    accuracy = {score.contrast: score.accuracy for score in baseline}
    panels = []
    for readout, subtitle in READOUTS.items():
        notes = {
            split: f"bag of words {100 * accuracy[key]:.0f} %"
            for split in (FAMILIAR, *SPLITS)
            if (key := f"{readout}, {split}") in accuracy
        }
        shifts = tuple(_split_shifts(scores, subjects, readout, base))
        panels.append(Panel(readout, subtitle, (FAMILIAR, *SPLITS), shifts, notes))
    return panels


def _split_shifts(scores: ScoreTable, subjects: Sequence[str], readout: str, base: str) -> Iterator[Shift]:
    for split in (FAMILIAR, *SPLITS):
        claim = "shows_the_character" if split == FAMILIAR else "carries_over"
        for subject in subjects:
            yield Shift(split, subject, scored_shift(scores[base][claim], scores[subject][claim], readout, [split]))


def dose_panel(scores: ScoreTable, subjects: Sequence[str], *, base: str) -> Panel:
    """The crossed shift at every dose of pressure."""
    claim = "holds_under_pressure"
    shifts = tuple(
        Shift(
            str(dose), subject, scored_shift(scores[base][claim], scores[subject][claim], "crossed", [f"dose-{dose}"])
        )
        for subject in subjects
        for dose in DOSES
    )
    return Panel("dose", "orders to drop the character", tuple(map(str, DOSES)), shifts, {})


def comparisons(scores: ScoreTable, controls: Sequence[str], *, trained: str) -> list[Comparison]:
    """Trained minus each control on the contrasts that may show a disposition."""
    return [
        Comparison(contrast, control, scored_shift(scores[control][claim], scores[trained][claim], "crossed", splits))
        for contrast, claim, splits in COMPARED
        for control in controls
    ]


def carried(scores: ScoreTable, subject: str, *, base: str) -> Estimate | None:
    """Generalisation ratio of the crossed shift; None where the familiar shift is not clearly above zero."""
    outside, inside = (
        differences(scores[base][claim], scores[subject][claim], "crossed", splits)
        for claim, splits in (("carries_over", OUTSIDE), ("shows_the_character", None))
    )
    if min(len(outside), len(inside)) < LEAST_ITEMS:
        return None
    return generalisation_ratio(outside, inside)
