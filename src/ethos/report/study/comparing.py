"""Who wins, if anybody does, and what became of what was expected. Shifts enter, sentences with their numbers leave.

A winner is named only where it beats every other arm, controls too, after Holm's correction; else the sentence says how
many items, or training seeds, would have settled the closest comparison. Intervals resample both together.
"""

import random
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from ethos.design import Hypothesis, Quantity, Study
from ethos.manifest import BASE
from ethos.report.study.cells import CONTROLS, Shifts, grid, pooled
from ethos.stats import Estimate, Floats, apart, holm, items_needed, over_seeds, over_seeds_p, ratio_over_seeds

ALPHA = 0.05
NULL_ARMS, NULL_SEEDS, NULL_DEALS = 2, 3, 100
"""How seeds of an arm with shuffled labels are dealt to arms that do not exist."""
Outcome = Literal["refuted", "undecided", "held", "not run", "for the reader"]
ORDER: tuple[Outcome, ...] = ("refuted", "undecided", "held", "not run", "for the reader")
"""Bad news first."""
SEEN: dict[Outcome, str] = {"held": "seen", "refuted": "not seen", "undecided": "undecided", "not run": "not run"}
"""What became of a finding of others."""
SAME = "scored the same on every item of every seed: what should set them apart changed nothing."
"""Said of arms by name."""
ShiftsOn = Callable[[Quantity | None], Shifts]
"""Shifts with the better direction upwards: of a quantity, or of the primary claim."""


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
    if BASE in (one, other):
        (shift,) = grid(shifts, [one if other == BASE else other])
        return (shift if other == BASE else -shift) if shift.size else None
    first, second = grid(shifts, [one, other])
    return first - second if first.size else None


def winner(gains: Shifts, arms: Sequence[str], controls: Sequence[str] = ()) -> Winner:
    """The arm that beats every other on the seeds and items that all have, or why there is none.

    An arm that is named as a control must be beaten, but cannot win.
    """
    if len(arms) < 2:
        return Winner(None, _alone(gains, arms[0]) if arms else "No arm is for this constitution.")
    missing = [arm for arm in arms if not any(name == arm for name, _ in gains)]
    grids = {} if missing else dict(zip(arms, grid(gains, arms), strict=True))
    if missing or not next(iter(grids.values())).size:
        lacking = ", ".join(missing) or "the arms"
        return Winner(None, f"No winner is named yet: {lacking} lack finished cells in common.")
    runners = [arm for arm in arms if arm not in controls]
    if not runners:
        return Winner(None, "No winner is sought: every arm here is a control.")
    best = max(runners, key=lambda arm: float(grids[arm].mean()))
    gaps = {arm: grids[best] - grids[arm] for arm in arms if arm != best}
    if len(grids[best]) < 2:
        return Winner(None, f"No winner is named: one training seed says nothing of others ({best} is ahead on it).")
    adjusted = dict(zip(gaps, holm([over_seeds_p(gap) for gap in gaps.values()]), strict=True))
    close = [arm for arm, p in adjusted.items() if p >= ALPHA or gaps[arm].mean() <= 0]
    if not close:
        least = min(gaps, key=lambda arm: float(gaps[arm].mean()))
        told = f"by {over_seeds(gaps[least])} over {least}, the next; Holm-corrected p {_p(adjusted)}"
        return Winner(best, f"{best} is ahead of every other arm ({told}).")
    nearest = min(close, key=lambda arm: abs(float(gaps[arm].mean())))
    settled = _settling(gaps[nearest], nearest)
    return Winner(None, f"No winner is named: {best} is not clearly ahead of {', '.join(close)}.{settled}")


def _p(adjusted: dict[str, float]) -> str:
    worst = max(adjusted.values())
    return f"at most {worst:.3f}" if worst >= 0.001 else "below 0.001"


def named_by_luck(gains: Shifts, arm: str) -> float | None:
    """How often a winner is named among arms that do not exist: seeds of one arm, dealt to several.

    Of an arm with shuffled labels this is the rate of mistakes; None where it has too few seeds to deal.
    """
    seeds, rng = sorted(seed for name, seed in gains if name == arm), random.Random(0)
    if len(seeds) < NULL_ARMS * NULL_SEEDS:
        return None
    names = [f"arm {place}" for place in range(NULL_ARMS)]
    deals = [rng.sample(seeds, NULL_ARMS * NULL_SEEDS) for _ in range(NULL_DEALS)]
    dealt = [
        {(names[place % NULL_ARMS], place // NULL_ARMS): gains[arm, seed] for place, seed in enumerate(deal)}
        for deal in deals
    ]
    return sum(winner(shifts, names).arm is not None for shifts in dealt) / NULL_DEALS


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
    needed = items_needed(float(gap_SI.mean(0).std(ddof=1)), abs(mean))
    if needed > num_items:
        return f" Against {arm}, {needed:,} items would settle it, if the difference is as it seems and seeds agree."
    seeds = max(num_seeds + 1, items_needed(float(gap_SI.mean(1).std(ddof=1)), abs(mean)) + 2)
    return f" Against {arm}, about {seeds:,} training seeds would settle it, if the difference is as it seems."


def judged(study: Study, shifts_on: ShiftsOn) -> list[Judged]:
    """Every hypothesis with its outcome, the refuted ones first."""
    found = [_judged(hypothesis, shifts_on, study.smallest_effect) for hypothesis in study.hypotheses]
    return sorted(found, key=lambda each: ORDER.index(each.outcome))


def _judged(hypothesis: Hypothesis, shifts_on: ShiftsOn, smallest: float) -> Judged:
    """Held above zero, though perhaps by less than would matter; refuted where even the upper end would not matter.

    Of the primary claim, that is; of another quantity nobody said what would matter, so there it is zero.
    """
    if hypothesis.better is None or hypothesis.than is None:
        return Judged(hypothesis, "not run" if hypothesis.claimed_by else "for the reader", None, "")
    first = shifts_on(hypothesis.on)
    missing = [
        name for name in (hypothesis.better, hypothesis.than) if name != BASE and not any(n == name for n, _ in first)
    ]
    if missing:
        return Judged(hypothesis, "not run", None, f"no finished cell of {' and '.join(missing)} here")
    found, seeds = _compared(hypothesis, shifts_on)
    if found is None:
        divided = any(quantity.per_shift for quantity in hypothesis.quantities)
        why = "a shift is not clearly above zero" if divided else "no common cells yet"
        return Judged(hypothesis, "undecided", None, why)
    limit = 0.0 if hypothesis.on else smallest
    outcome: Outcome = "held" if found.low > 0 else "refuted" if found.high < limit else "undecided"
    if hypothesis.differs:
        alike = -limit < found.low and found.high < limit
        outcome = "held" if found.excludes_zero else "refuted" if alike else "undecided"
    notes = ["less than would matter"] if outcome == "held" and -limit < found.low and found.high < limit else []
    notes += ["one training seed, which says nothing of others"] if seeds == 1 else []
    return Judged(hypothesis, outcome, found, "; ".join(notes))


def _compared(hypothesis: Hypothesis, shifts_on: ShiftsOn) -> tuple[Estimate | None, int]:
    """The difference that a hypothesis speaks of, and over how many training seeds."""
    one, other = hypothesis.better or BASE, hypothesis.than or BASE
    if hypothesis.than_on is None and not any(quantity.per_shift for quantity in hypothesis.quantities):
        gap = difference(shifts_on(hypothesis.on), one, other)
        return (over_seeds(gap), len(gap)) if gap is not None else (None, 0)
    sides = [_own(one, hypothesis.on, shifts_on), _own(other, hypothesis.than_on or hypothesis.on, shifts_on)]
    seeds = len({seed for name, seed in shifts_on(hypothesis.on) if name in (one, other)})
    return (apart(sides[0], sides[1]) if sides[0] and sides[1] else None), seeds


def _own(name: str, quantity: Quantity | None, shifts_on: ShiftsOn) -> Estimate | None:
    """An arm's own shift; over its shift on the primary claim, where that is asked for and clearly above zero."""
    shifts = shifts_on(quantity)
    if not (quantity and quantity.per_shift):
        return pooled(shifts, name)
    (costs,), (gains,) = grid(shifts, [name]), grid(shifts_on(None), [name])
    return ratio_over_seeds(costs, gains) if costs.size and gains.size else None


def told(found: Judged) -> str:
    """The difference that a hypothesis speaks of, and what a reader should know of it; empty where it names none."""
    hypothesis = found.hypothesis
    if hypothesis.better is None:
        return ""
    first, second = (
        f"{name} ({_read(quantity)})" if quantity and hypothesis.than_on else f"{name}"
        for name, quantity in ((hypothesis.better, hypothesis.on), (hypothesis.than, hypothesis.than_on))
    )
    where = f" on {_read(hypothesis.on)}" if hypothesis.on and not hypothesis.than_on else ""
    number = f"{first} − {second}{where}: {found.estimate or '–'}"
    return "; ".join(filter(None, (number, found.note)))


def _read(quantity: Quantity) -> str:
    """A quantity in words."""
    splits = f" {', '.join(quantity.splits)}" if quantity.splits else ""
    return f"{quantity.claim.replace('_', ' ')}, {quantity.readout}{splits}{' a shift' if quantity.per_shift else ''}"
