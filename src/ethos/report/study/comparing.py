"""Who wins, if anybody does, and what became of what was expected. Shifts enter, sentences with their numbers leave.

A winner is named only where it beats every other arm after Holm's correction; else the sentence says how many items
would have settled the closest comparison. Intervals resample training seeds and items together.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from ethos.design import Hypothesis, Study
from ethos.manifest import BASE
from ethos.report.study.cells import CONTROLS, Shifts, grid
from ethos.stats import Estimate, Floats, holm, items_needed, over_seeds, over_seeds_p

ALPHA = 0.05
Outcome = Literal["refuted", "undecided", "held", "for the reader"]
ORDER: tuple[Outcome, ...] = ("refuted", "undecided", "held", "for the reader")
"""Bad news first."""


class Winner(NamedTuple):
    """The arm that is ahead of all others, if one is, in a sentence."""

    arm: str | None
    sentence: str


class Judged(NamedTuple):
    """A hypothesis beside what came out."""

    hypothesis: Hypothesis
    outcome: Outcome
    estimate: Estimate | None
    """Of the difference that it speaks of; None where it names none, or where it cannot be taken yet."""
    note: str


def difference(shifts: Shifts, one: str, other: str) -> Floats | None:
    """(seeds, items) of one arm minus another, or of its shift where the other is the base; None: no common cell."""
    if other == BASE:
        (shift,) = grid(shifts, [one])
        return shift if shift.size else None
    first, second = grid(shifts, [one, other])
    return first - second if first.size else None


def winner(gains: Shifts, arms: Sequence[str]) -> Winner:
    """The arm that beats every other on the seeds and items that all have, or why there is none."""
    if len(arms) < 2:
        return Winner(None, _alone(gains, arms[0]))
    missing = [arm for arm in arms if not any(name == arm for name, _ in gains)]
    grids = {} if missing else dict(zip(arms, grid(gains, arms), strict=True))
    if missing or not next(iter(grids.values())).size:
        lacking = ", ".join(missing) or "the arms"
        return Winner(None, f"No winner is named yet: {lacking} lack finished cells in common.")
    best = max(arms, key=lambda arm: float(grids[arm].mean()))
    gaps = {arm: grids[best] - grids[arm] for arm in arms if arm != best}
    if len(grids[best]) < 2:
        return Winner(None, f"No winner is named: one training seed says nothing of others ({best} is ahead on it).")
    adjusted = dict(zip(gaps, holm([over_seeds_p(gap) for gap in gaps.values()]), strict=True))
    close = [arm for arm, p in adjusted.items() if p >= ALPHA]
    if not close:
        least = min(gaps, key=lambda arm: float(gaps[arm].mean()))
        told = f"by {over_seeds(gaps[least])} over {least}, the next; Holm-corrected p at most {_p(adjusted)}"
        return Winner(best, f"{best} is ahead of every other arm ({told}).")
    nearest = min(close, key=lambda arm: abs(float(gaps[arm].mean())))
    settled = _settling(gaps[nearest], nearest)
    return Winner(None, f"No winner is named: {best} is not clearly ahead of {', '.join(close)}.{settled}")


def _p(adjusted: dict[str, float]) -> str:
    return f"{max(adjusted.values()):.3f}"


def _alone(gains: Shifts, arm: str) -> str:
    """One arm has no rival: where it stands against the base and the controls of its cells."""
    told = []
    for other in (BASE, *CONTROLS):
        if (gap := difference(gains, arm, other)) is not None:
            told.append(f"over {other} {over_seeds(gap)}")
    return f"One arm, so no winner is sought. {arm} stands {'; '.join(told)}." if told else "One arm, no finished cell."


def _settling(gap_SI: Floats, arm: str) -> str:
    """What would settle a comparison, were the difference what it seems: more seeds, or so many items."""
    mean, num_seeds, num_items = float(gap_SI.mean()), *gap_SI.shape
    if not mean or num_items < 2:
        return ""
    by_item = gap_SI.mean(0)
    needed = items_needed(float(by_item.std(ddof=1)), abs(mean))
    if needed <= num_items:
        return f" Against {arm}, more training seeds would settle it: the {num_seeds} differ too much."
    return f" Against {arm}, {needed:,} items would settle it, if the difference is as it seems and seeds agree."


def judged(study: Study, gains: Shifts) -> list[Judged]:
    """Every hypothesis with its outcome, the refuted ones first."""
    found = [_judged(hypothesis, gains, study.smallest_effect) for hypothesis in study.hypotheses]
    return sorted(found, key=lambda each: ORDER.index(each.outcome))


def _judged(hypothesis: Hypothesis, gains: Shifts, smallest: float) -> Judged:
    """Held above zero, though perhaps by less than would matter; refuted where even the upper end would not matter."""
    if hypothesis.better is None or hypothesis.than is None:
        return Judged(hypothesis, "for the reader", None, "")
    gap = difference(gains, hypothesis.better, hypothesis.than)
    if gap is None:
        return Judged(hypothesis, "undecided", None, "no common cells yet")
    found = over_seeds(gap)
    outcome: Outcome = "held" if found.low > 0 else "refuted" if found.high < smallest else "undecided"
    notes = ["less than would matter"] if found.low > 0 and found.high < smallest else []
    notes += ["one training seed, which says nothing of others"] if len(gap) == 1 else []
    return Judged(hypothesis, outcome, found, "; ".join(notes))
