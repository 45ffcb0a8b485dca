"""What scores say about claims: a subject's scores beside its base's → one finding a claim.

Each claim judges itself; here its verdict meets two corrections that no claim can make alone. Holm's
runs over all claims of one subject, and takes back a `held` that would not survive it. Bounds show
how far a shift could move had the unscored items come out at their extremes.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from ethos.bench.battery import CLAIMS
from ethos.bench.claim import Line, Score, Verdict, item_means, pick
from ethos.errors import NothingScored
from ethos.stats import bounds, estimate, holm, paired

Scores = Sequence[Score]
NUMBER = re.compile(r"\d+(?:\.\d+)?")
ScoreTable = Mapping[str, Mapping[str, Scores]]
"""Subject → claim → scores; what was not measured is an empty sequence."""

Outcome = Literal["held", "refuted", "undecided", "not scored"]
ALPHA = 0.05


class Unscored(NamedTuple):
    """Items of one readout that have no shift, since one side has no number."""

    readout: str
    num_unscored: int
    num_items: int
    reasons: tuple[tuple[str, int], ...]
    bounds: tuple[float, float] | None
    """The mean shift with all of them at either extreme; None where 2 % or fewer are unscored."""

    def __str__(self) -> str:
        """What was lost and why, with both bounds where it matters."""
        reasons = "; ".join(f"{reason}: {count}" for reason, count in self.reasons)
        told = f"{self.readout}: {self.num_unscored} of {self.num_items} items unscored ({reasons})"
        if self.bounds is None:
            return told
        low, high = self.bounds
        return f"{told}; with them at either extreme the mean shift lies between {low:+.3f} and {high:+.3f}"


class Finding(NamedTuple):
    """One subject on one claim."""

    subject: str
    claim: str
    verdict: Verdict | None
    reason: str
    """Why there is no verdict."""
    p: float | None
    """Of the claim's own test, Holm-adjusted over this subject's claims."""
    num_tests: int
    unscored: tuple[Unscored, ...]

    @property
    def outcome(self) -> Outcome:
        """The verdict's outcome, unless Holm's correction takes a `held` back."""
        if self.verdict is None:
            return "not scored"
        return "undecided" if self.taken_back else self.verdict.outcome

    @property
    def taken_back(self) -> bool:
        """Whether the claim holds by itself and not among all claims."""
        return self.verdict is not None and self.verdict.outcome == "held" and self.p is not None and self.p >= ALPHA

    @property
    def sentence(self) -> str:
        """The verdict, or why there is none."""
        if self.verdict is None:
            return f"Not scored: {self.reason}."
        if not self.taken_back:
            return self.verdict.sentence
        return f"{self.verdict.sentence} By itself that would hold; among {self.num_tests} claims it does not."

    @property
    def chance(self) -> str:
        """The adjusted p in words, where the claim holds by its own test; of another outcome it says nothing."""
        if self.p is None or self.verdict is None or self.verdict.outcome != "held":
            return ""
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"  # digits below a thousandth mean nothing
        return f"{p}, Holm's correction for {self.num_tests} claims"

    @property
    def deciding(self) -> tuple[Line, ...]:
        """The lines that the outcome rests on."""
        labels = {part.label for part in CLAIMS[self.claim].deciding}
        return tuple(line for line in self.verdict.lines if line.label in labels) if self.verdict else ()

    @property
    def bounded(self) -> tuple[Unscored, ...]:
        """Unscored items that could move what the outcome rests on."""
        readouts = {part.readout for part in CLAIMS[self.claim].deciding}
        return tuple(part for part in self.unscored if part.bounds and part.readout in readouts)


def findings(scores: ScoreTable, subject: str, *, base: str) -> list[Finding]:
    """One finding for every claim of the table, in its order."""
    made = [_finding(claim, scores[base][claim], scores[subject][claim], subject) for claim in scores[base]]
    tested = [finding.claim for finding in made if finding.verdict]
    p_values = holm([CLAIMS[claim].test(scores[base][claim], scores[subject][claim]) for claim in tested])
    adjusted = dict(zip(tested, p_values, strict=True))
    return [finding._replace(p=adjusted.get(finding.claim), num_tests=len(tested)) for finding in made]


def _finding(claim: str, base: Scores, subject: Scores, name: str) -> Finding:
    """The claim's own verdict; an unmeasured or unscored claim is a reason, never a number."""
    empty = Finding(name, claim, None, "", None, 0, ())
    if not base or not subject:
        return empty._replace(reason="not measured in this run")
    missing = tuple(unscored(claim, base, subject))
    if (few := _scored(claim, base, subject)) and few < CLAIMS[claim].least:
        return empty._replace(reason=f"{few} items scored, {CLAIMS[claim].least} are needed", unscored=missing)
    try:
        return empty._replace(verdict=CLAIMS[claim].judge(base, subject), unscored=missing)
    except NothingScored as error:
        why = missing[0].reasons[0][0] if missing else str(error).partition("\n")[0]
        return empty._replace(reason=why, unscored=missing)


def _scored(claim: str, base: Scores, subject: Scores) -> int:
    """Items with a number on both sides on the first line that decides; none where that is no mean of scores."""
    part = CLAIMS[claim].deciding[0]
    return len(item_means(base, part).keys() & item_means(subject, part).keys())


def unscored(claim: str, base: Scores, subject: Scores) -> Iterator[Unscored]:
    """Every readout with an item that lacks a number on either side."""
    for readout in dict.fromkeys(score.readout for score in subject):
        before, after = pick(base, readout), pick(subject, readout)
        pairs = zip(before, after, strict=True)
        lost = [_why(b, a) for b, a in pairs if b.value is None or a.value is None]
        if lost:
            spread = shift_bounds(
                [s.value for s in before], [s.value for s in after], CLAIMS[claim].ranges.get(readout)
            )
            yield Unscored(readout, len(lost), len(after), tally(lost), spread)


def tally(reasons: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """How often each reason was given, the commonest first; those that differ by a number are one, with its range."""
    kinds: dict[str, Counter[str]] = {}
    for reason in reasons:
        kinds.setdefault(NUMBER.sub("#", reason), Counter())[reason] += 1
    told = [(_spanning(alike), alike.total()) for alike in kinds.values()]
    return tuple(sorted(told, key=lambda item: (-item[1], item[0])))


def _spanning(reasons: Counter[str]) -> str:
    """Reasons alike but for their numbers as one, each number the range of its values."""
    ranges = iter([_range(numbers) for numbers in zip(*map(NUMBER.findall, reasons), strict=True)])
    return NUMBER.sub(lambda _: next(ranges), next(iter(reasons)))


def _range(numbers: Iterable[str]) -> str:
    low, *_, high = sorted([*numbers] * 2, key=float)
    return low if low == high else f"{low} to {high}"


def _why(before: Score, after: Score) -> str:
    """The subject's own reason first; the base's only where the subject was scored."""
    who, score = ("", after) if after.value is None else ("base: ", before)
    return who + (score.reason or "no reason recorded")


def shift_bounds(
    before: Sequence[float | None], after: Sequence[float | None], span: tuple[float, float] | None
) -> tuple[float, float] | None:
    """Mean shift with every unscored pair at its least and at its greatest; None where few or no pairs are unscored."""
    seen = [value for value in (*before, *after) if value is not None]
    if not seen:
        return None
    low, high = span or (min(seen), max(seen))
    return bounds(paired(after, before), worst=low - high, best=high - low)


def levels(claim: str, scores: Scores) -> list[Line]:
    """The base's own means on what decides a claim: where every shift starts from."""
    lines = []
    for part in CLAIMS[claim].deciding:
        kept = pick(scores, part.readout, part.splits)
        if any(score.value is not None for score in kept):
            level = estimate([score.value for score in kept], [score.item for score in kept])
            lines.append(Line(part.label, level, part.unit))
    return lines
