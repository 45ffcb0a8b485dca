"""Scores made by hand."""

import random
from collections.abc import Sequence

from ethos.bench.claim import Line, Score, Verdict

NUM_ITEMS = 30


def scores(readout: str, values: Sequence[float | None], *, split: str = "familiar") -> list[Score]:
    """One score an item, named by split and place."""
    return [
        Score(item=f"{split}-{i}", split=split, readout=readout, value=value, reason="" if value is not None else "x")
        for i, value in enumerate(values)
    ]


def around(mean: float, *, spread: float = 0.1, seed: int = 0) -> list[float]:
    """Values with exactly this mean and an even spread to both sides of it."""
    values = [mean + spread * (2 * i / (NUM_ITEMS - 1) - 1) for i in range(NUM_ITEMS)]
    random.Random(seed).shuffle(values)
    return values


def moved(before: Sequence[Score], by: Sequence[float]) -> list[Score]:
    """The same items, each moved."""
    return [
        score.model_copy(update={"value": score.value + change})
        for score, change in zip(before, by, strict=True)
        if score.value is not None
    ]


ABOVE, BELOW, NOTHING = around(0.3), around(-0.3), around(0.0)


def lines(verdict: Verdict) -> dict[str, Line]:
    """A verdict's lines by label."""
    return {line.label: line for line in verdict.lines}


def by_item(rows: Sequence[Score], readout: str) -> dict[str, Score]:
    """Scores of one readout by item."""
    return {score.item: score for score in rows if score.readout == readout}
