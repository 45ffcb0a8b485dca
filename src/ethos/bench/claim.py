"""What a claim is: a refutable sentence, a way to measure it, and a rule that says when it held.

A claim module defines `measure(bench) -> scores` for one subject, and `judge(base, subject)`, which
compares two subjects on the same items. Measuring needs a model; judging needs only the scores.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean, linear_regression
from types import MappingProxyType
from typing import Literal, NamedTuple

from ethos.bench.item_files import Items, thinned
from ethos.bench.items import Item
from ethos.constitution import Constitution
from ethos.data.recorded import NOTHING, Recorded
from ethos.errors import NothingScored
from ethos.models import Loaded
from ethos.records import Conversation, Record
from ethos.samplers.replies import ReplyCache
from ethos.stats import Estimate, estimate, not_worse, p_value, paired


class Score(Record):
    """One number about one item, or the reason why there is none."""

    item: str
    split: str
    readout: str
    value: float | None
    reason: str = ""
    text: str = ""
    """What the subject wrote, where it wrote something."""


BEYOND_CONTEXT = "longer than the model's context"
"""Why there is no log-probability of a prompt with a reply; the number in its place is NaN while scores are made."""


def won(margin: float) -> float:
    """1 for a margin above zero, 0 for none; NaN where there is no margin."""
    return math.nan if math.isnan(margin) else float(margin > 0)


def unscored_if_nan(score: Score) -> Score:
    """A score as it is written down: what is no number has a reason instead."""
    if score.value is None or math.isfinite(score.value):
        return score
    return score.model_copy(update={"value": None, "reason": score.reason or BEYOND_CONTEXT})


CONTRASTS = ("crossed", "pole", "voice")
"""Readouts of which more is always towards the character."""

Tune = Callable[[Sequence[Sequence[Conversation]]], Iterator[Loaded]]
"""Conversations leg by leg → the subject after each leg of training on them, one adapter through all legs."""


class Bench(NamedTuple):
    """What a claim may use while it measures one subject."""

    loaded: Loaded
    base: Loaded
    """The same model without its system prompt; inside `adapter_off`, the bare base."""
    cache: ReplyCache
    per_split: int | None
    """Items per split, None for all."""
    seed: int
    constitution: Constitution
    source: Items = Items()
    """Where its items come from."""
    recorded: Recorded = NOTHING
    """The constitution's recorded data."""
    tune: Tune | None = None
    """Later training of the subject; None where nothing can be trained."""

    def items(self, name: str, kind: type[Item], splits: Sequence[str] | None = None) -> list[Item]:
        """The items of one file to measure, thinned by split; some splits of them, or all."""
        kept = thinned(self.source.load(name, kind), self.per_split)
        return [item for item in kept if splits is None or getattr(item, "split", "") in splits]


ONLY_STYLE = "No crossed contrasts were written for this character; what voice and pole show is style as much."
"""The sentence of a verdict that has no crossed contrasts to rest on."""


class Line(NamedTuple):
    """One measured quantity of a verdict, as the report prints it."""

    label: str
    estimate: Estimate
    unit: str = "nats/token"


Outcome = Literal["held", "refuted", "undecided"]
OF_EQUIVALENCE: dict[str, Outcome] = {"equivalent": "held", "different": "refuted", "undecided": "undecided"}
"""The outcome of a claim that something stays as it is, by the verdict of its two one-sided tests."""


class Verdict(NamedTuple):
    """What the scores say about a claim."""

    outcome: Outcome
    sentence: str
    lines: tuple[Line, ...]


class Deciding(NamedTuple):
    """A line of a verdict that its outcome rests on, and the scores it is made of."""

    label: str
    readout: str
    splits: tuple[str, ...] | None = None
    unit: str = "nats/token"
    better: Literal["higher", "lower"] | None = "higher"
    """Which way a shift is for the better; None where neither is, or where the line is no mean of scores."""


class Claim(NamedTuple):
    """A benchmark."""

    name: str
    version: int
    """Bump with any change that could move a score."""
    sentence: str
    items: tuple[str, ...]
    """Item files it reads."""
    measure: Callable[[Bench], list[Score]]
    judge: Callable[[Sequence[Score], Sequence[Score]], Verdict]
    """(base's scores, subject's scores) → verdict."""
    deciding: tuple[Deciding, ...]
    """What a table cell shows of it. A slope is made of no scores of its own, so base has no level of it."""
    test: Callable[[Sequence[Score], Sequence[Score]], float]
    """(base's scores, subject's scores) → p of what it must reject to be held; 1 where it cannot be tested."""
    ranges: Mapping[str, tuple[float, float]] = MappingProxyType({})
    """Lowest and highest value of the readouts that have them; for the others, the extremes that were seen."""
    samples: bool = False
    """Whether a score depends on the seed of sampled text."""
    reads_constitution: bool = False
    """Whether a score depends on the constitution, not on the subject and the items alone."""
    least: int = 3
    """Fewest items, scored on both sides, whose mean is shown: of fewer a bootstrap sees no spread."""
    reads_recorded: bool = False
    """Whether a score depends on recorded replies, the constitution's own and those that ship."""
    reads_poles: bool = False
    """Whether a score depends on the constitution's own recorded pole rows."""
    also: tuple[str, ...] = ()
    """Item files of readouts that stand beside: where nobody wrote one, its readouts are left out."""
    extent: int = 0
    """Bump with readouts that are added while those that were there stay as they are: scores are made again, and older
    ones can still be read."""


def pick(scores: Sequence[Score], readout: str, splits: Sequence[str] | None = None) -> list[Score]:
    """Scores of one readout, in all splits or in some."""
    return [s for s in scores if s.readout == readout and (splits is None or s.split in splits)]


def item_means(scores: Sequence[Score], part: Deciding) -> dict[str, float]:
    """Item → its mean value on a deciding line, of the items that have one."""
    values: dict[str, list[float]] = {}
    for score in pick(scores, part.readout, part.splits):
        if score.value is not None:
            values.setdefault(score.item, []).append(score.value)
    return {item: fmean(found) for item, found in values.items()}


def shift(
    base: Sequence[Score], subject: Sequence[Score], readout: str, splits: Sequence[str] | None = None
) -> Estimate:
    """Paired difference subject − base on the same items, with its clustered interval."""
    before, after = pick(base, readout, splits), pick(subject, readout, splits)
    assert [(s.item, s.split) for s in before] == [(s.item, s.split) for s in after], (
        f"{readout}: subjects were scored on different items"
    )
    return estimate(paired([s.value for s in after], [s.value for s in before]), [s.item for s in after])


def own(scores: Sequence[Score], readout: str, splits: Sequence[str] | None = None) -> Estimate:
    """A subject's own mean of a readout, compared with nobody's."""
    kept = pick(scores, readout, splits)
    return estimate([score.value for score in kept], [score.item for score in kept])


def own_line(
    scores: Sequence[Score], readout: str, unit: str, label: str, splits: Sequence[str] | None = None
) -> tuple[Line, ...]:
    """The line of a subject's own mean: left out where nothing of it could be scored."""
    try:
        return (Line(label, own(scores, readout, splits), unit),)
    except NothingScored:
        return ()


def by_sign(found: Estimate, *, better: Literal["higher", "lower"] = "higher") -> Outcome:
    """Held where the interval lies on the better side of zero, refuted where on the other, else undecided."""
    above, below = (found.low > 0, found.high < 0) if better == "higher" else (found.high < 0, found.low > 0)
    return "held" if above else "refuted" if below else "undecided"


def side_line(
    base: Sequence[Score],
    subject: Sequence[Score],
    readout: str,
    unit: str = "nats/token",
    *,
    splits: Sequence[str] | None = None,
    label: str = "",
) -> tuple[Line, ...]:
    """The line of a readout that no verdict hangs on: left out where nothing of it could be scored."""
    try:
        return (Line(label or readout, shift(base, subject, readout, splits), unit),)
    except NothingScored:
        return ()


def differences(
    base: Sequence[Score], subject: Sequence[Score], readout: str, splits: Sequence[str] | None = None
) -> list[float]:
    """The paired differences themselves, unscored items left out: for tests of equivalence."""
    pairs = zip(pick(subject, readout, splits), pick(base, readout, splits), strict=True)
    return [a.value - b.value for a, b in pairs if a.value is not None and b.value is not None]


def moved(
    base: Sequence[Score], subject: Sequence[Score], readout: str = "crossed", splits: Sequence[str] | None = None
) -> float:
    """p of no shift at all."""
    return p_value(differences(base, subject, readout, splits))


def moved_everywhere(base: Sequence[Score], subject: Sequence[Score], prefix: str, doses: Sequence[int]) -> float:
    """p of no crossed shift at some dose: the greatest, an intersection–union test."""
    return max(moved(base, subject, splits=[f"{prefix}-{dose}"]) for dose in doses)


def nothing_lost(
    base: Sequence[Score], subject: Sequence[Score], margins: Mapping[str, float], higher_is_worse: Sequence[str]
) -> float:
    """p of some readout being worse by its margin: the greatest over readouts."""
    gains = {name: [-d if name in higher_is_worse else d for d in differences(base, subject, name)] for name in margins}
    return max(not_worse(values, margin=margins[name]) for name, values in gains.items())


def lasting(shifts: Sequence[Estimate], slope: Estimate | None = None) -> Outcome:
    """What shifts over rising doses say: held above zero at each and not falling, refuted below zero at the last."""
    if all(moved.low > 0 for moved in shifts) and (slope is None or slope.high >= 0):
        return "held"
    return "refuted" if shifts[-1].high < 0 else "undecided"


def slopes(scores: Sequence[Score], prefix: str, doses: Sequence[int]) -> list[float | None]:
    """Each item's least-squares slope of its crossed score over log₂(1 + dose); None where a dose is unscored.

    `split` names the dose: "dose-8" with the prefix "dose".
    """
    by_item: dict[str, list[tuple[float, float]]] = {score.item: [] for score in pick(scores, "crossed")}
    for score in pick(scores, "crossed"):
        if score.value is not None:
            by_item[score.item].append((math.log2(1 + int(score.split.removeprefix(f"{prefix}-"))), score.value))
    found = (zip(*points, strict=True) if len(points) == len(doses) else None for _, points in sorted(by_item.items()))
    return [linear_regression(*sides).slope if sides else None for sides in found]
