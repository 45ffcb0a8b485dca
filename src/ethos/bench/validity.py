"""What is known of the claims themselves, and the mark of those that are not known to be reliable.

`ethos bench validate` writes a validity.json from finished runs; the one beside this file is what tables read. A claim
is *experimental* where two halves of its items agree by less than 0.7, and where nobody has looked yet at its present
version: the mark is taken off by evidence.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ethos.bench.battery import find_claim
from ethos.records import Record, read_text

VALIDITY = Path(__file__).parent / "validity.json"
LEAST_RELIABILITY = 0.7
MARK = "experimental"
LEGEND = (
    f"{MARK}: two halves of the claim's items were not shown to agree by {LEAST_RELIABILITY:g} (split-half,"
    " Spearman–Brown) over the subjects it was validated on."
)


class GroupShift(Record):
    """The mean shift from base of the subjects of one kind; a mean of several training seeds covers them too."""

    group: str
    num_subjects: int
    mean: float
    low: float | None
    """None where one item, or one seed, leaves the interval without an end."""
    high: float | None


class LineValidity(Record):
    """What is known of one line that decides a claim."""

    claim: str
    version: int
    label: str
    unit: str
    num_items: int
    num_subjects: int
    """Base among them."""
    reliability: float | None
    """Split-half with Spearman–Brown of the subjects' shifts; None with too few subjects."""
    level_reliability: float | None
    """The same of the levels, base among them."""
    num_pairs: int
    """Pairs of neutral subjects that differ in their seed alone."""
    false_positives: float | None
    """Share of them whose difference has p < 0.05."""
    false_positives_low: float
    false_positives_high: float
    detectable: float | None
    """The shift that is seen with 80 % power."""
    floor: float | None
    """Share of items on which every subject stands at the lowest value there is."""
    ceiling: float | None
    groups: tuple[GroupShift, ...]
    order: str
    """Whether the known groups come out in the order that they must."""
    neutral: str
    """Whether neutral subjects stay where base is."""
    style: str = "none measured"
    """The same of subjects that learnt voice contrasts alone."""
    shuffled: str = "none measured"
    """The same of subjects that learnt contrasts whose labels were thrown by a coin."""
    sensitivity: float | None = None
    """Share of resamples of the items in which the whole constitution's prompt is seen; None where it need not be."""


class Bias(Record):
    """What the order of options does to base's answers."""

    claim: str
    readout: str
    mean: float
    num_items: int


class Agreement(Record):
    """How far two ways to get a number agree."""

    claim: str
    one: str
    other: str
    over: str
    """What the correlation is over: items of base, or subjects' mean shifts."""
    correlation: float
    num: int


class Planted(Record):
    """What an oracle did to base's replies, and whether a readout saw it."""

    oracle: str
    claim: str
    readout: str
    before: float
    after: float
    must: str
    """`rise`, `fall` or `stay`."""
    found: str


class Validity(Record):
    """What a validation found, and in which runs."""

    runs: tuple[str, ...]
    lines: tuple[LineValidity, ...]
    biases: tuple[Bias, ...]
    readouts: tuple[Agreement, ...] = ()
    """Readouts of the same items."""
    retests: tuple[Agreement, ...] = ()
    """The same readout sampled with two seeds."""
    derived: tuple[Agreement, ...] = ()
    """Derived items and hand-written ones."""
    planted: tuple[Planted, ...] = ()


@cache
def validity(path: Path = VALIDITY) -> Validity:
    """The results that tables read; a missing file knows nothing."""
    if not path.exists():
        return Validity(runs=(), lines=(), biases=())
    return Validity.model_validate_json(read_text(path))


def experimental(claim: str, known: Validity | None = None) -> bool:
    """Whether the first line that decides a claim is not known to be reliable."""
    found = validity() if known is None else known
    version = find_claim(claim).version
    own = [line for line in found.lines if (line.claim, line.version) == (claim, version)]
    return not own or own[0].reliability is None or own[0].reliability < LEAST_RELIABILITY


def version(claim: str) -> str:
    """A claim's version as tables show it: scores of different ones are never compared."""
    return f"v{find_claim(claim).version}"


def marked(claim: str) -> str:
    """A claim's name as Markdown tables show it, with its version and its mark."""
    return f"`{claim}` {version(claim)}{f' ({MARK})' if experimental(claim) else ''}"


def legend(claims: Iterable[str]) -> list[str]:
    """What the mark means: a paragraph where one of the claims has it, else none."""
    return [LEGEND] if any(map(experimental, claims)) else []
