"""Benchmark items: hand-written data, sealed by a canary, never trained on.

    items/*.jsonl                items that fit any constitution
    items/<constitution>/*.jsonl items about one constitution's character
    development/                 the same, to tune on

The first line of every file is a canary. Whoever filters a training corpus can drop the file by it;
whoever trains on it anyway leaves a trace that can be looked for. What nobody wrote for a constitution is derived
from its own rows (see derived.py), or there are no such items.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeVar

from pydantic import Field, ValidationError, model_validator

from ethos.constitution import Split
from ethos.data.recorded import Kind
from ethos.errors import DataError
from ethos.records import Message, Record, explain, jsonl_lines, read_text

ITEMS = Path(__file__).parent / "items"
DEVELOPMENT = Path(__file__).parent / "development"
"""Items to tune on, by other hands than the sealed ones; never trained on either."""
MOST_APART = 4
"""Words by which two replies that are set against each other may differ: else length would tell them apart."""


class Canary(Record):
    """First line of every item file."""

    canary: str = Field(pattern=r"^ethos benchmark item, do not train on it: [0-9a-f-]{36}$")
    constitution: str | None = None
    """Whose words or values the items are about, where they are about one constitution's."""


class Entry(Record):
    """An item of a benchmark: whatever else it has, a name."""

    id: str


Item = TypeVar("Item", bound=Entry)


class Crossed(Entry):
    """Two situations, two replies; r1 is right in a, r2 in b."""

    split: Split
    trait: str = Field("", exclude_if=lambda trait: not trait)
    """The trait it calls for, where it was written for one."""
    kind: Kind
    a: str
    b: str
    r1: str
    r2: str
    fact: str


class Prefilled(Crossed):
    """A crossed item with what an assistant may already have said in the direction of each reply."""

    lead_r1: str
    lead_r2: str


class Talk(Entry):
    """A long conversation that comes before a measurement."""

    kind: Literal["neutral", "emotional", "adversarial"]
    messages: list[Message]

    @model_validator(mode="after")
    def _alternates(self) -> "Talk":
        if [m.role for m in self.messages] != ["user", "assistant"] * (len(self.messages) // 2) or not self.messages:
            raise ValueError(f"{self.id}: user and assistant by turns, the assistant last")
        return self


class Triple(Entry):
    """One prompt with a reply in character, one of the opposite pole and a plain one, matched in length.

    A derived item lacks one of the last two.
    """

    split: Split
    trait: str
    prompt: str
    chosen: str
    opposite: str | None = None
    plain: str | None = None


class Unrelated(Entry):
    """A request the character has no business in: a plain answer, and one that lets it intrude."""

    prompt: str
    plain: str
    intruding: str


class Choice(Entry):
    """A question with one right option."""

    question: str
    options: list[str] = Field(min_length=2)
    answer: int

    @model_validator(mode="after")
    def _answer_exists(self) -> "Choice":
        if not 0 <= self.answer < len(self.options) or len(set(self.options)) < len(self.options):
            raise ValueError(f"{self.id}: answer must index one of {len(self.options)} distinct options")
        return self


Virtue = Literal["honesty", "care", "fairness", "humility", "courage", "restraint"]
Stakes = Literal["everyday", "high"]


class Decision(Entry):
    """A situation with the reply a fair-minded person would give, and one that tempts."""

    virtue: Virtue
    stakes: Stakes
    situation: str
    right: str
    wrong: str

    @property
    def split(self) -> str:
        """Items are thinned virtue by virtue."""
        return self.virtue


class Dilemma(Entry):
    """Two traits pull apart: a reply for each, at the other's cost."""

    one: str
    other: str
    situation: str
    for_one: str
    for_other: str


class Asserted(Entry):
    """A question with a right and a wrong answer, and what a user says who believes in either."""

    kind: Literal["fact", "judgement", "work"]
    question: str
    right: str
    wrong: str
    says_right: str
    says_wrong: str

    @property
    def split(self) -> str:
        """Items are thinned kind by kind."""
        return self.kind


class WorldState(Entry):
    """A state of the world that one may like more or less."""

    relevant: bool
    """Whether it touches what the constitution cares about."""
    valence: int = Field(ge=-2, le=2)
    """How good it is by the constitution; 0 where it does not touch it."""
    text: str

    @property
    def split(self) -> str:
        """Items are thinned on both sides."""
        return "relevant" if self.relevant else "irrelevant"


Factor = Literal["extraversion", "agreeableness", "conscientiousness", "stability", "intellect"]


class Statement(Entry):
    """A self-description of a personality inventory."""

    factor: Factor
    key: Literal[1, -1]
    """1 where agreeing means more of the factor, −1 where it means less."""
    text: str
    """Without its `I`."""

    @property
    def split(self) -> str:
        """Items are thinned factor by factor."""
        return self.factor


Side = Literal["own", "neither", "opposite"]


class Word(Entry):
    """An adjective of character."""

    text: str
    side: Side
    """Whether the constitution describes it, or its opposite poles do."""

    @property
    def split(self) -> str:
        """Items are thinned side by side."""
        return self.side


CheckKind = Literal[
    "contains",
    "excludes",
    "starts_with",
    "ends_with",
    "max_words",
    "min_words",
    "one_sentence",
    "list_items",
    "lowercase",
    "uppercase",
    "json_keys",
    "number",
]


class Check(Record):
    """What a program can verify about a reply."""

    kind: CheckKind
    words: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    text: str = ""
    n: int = 0
    value: float = 0.0


class Instruction(Entry):
    """A request whose fulfilment a program can verify."""

    prompt: str
    check: Check


class Passage(Entry):
    """Neutral prose, an open prompt or a break-character instruction: an id and a text."""

    text: str


class Writing(Entry):
    """An open prompt."""

    prompt: str


class Ordinary(Entry):
    """An ordinary request with an ordinary reply: what a model may be trained on later."""

    prompt: str
    reply: str


class Contrary(Entry):
    """A request with a reply of the opposite pole, and one in character, matched in length."""

    trait: str
    prompt: str
    contrary: str
    own: str


AGAINST: Mapping[type[Record], tuple[str, str]] = {
    Asserted: ("right", "wrong"),
    Contrary: ("own", "contrary"),
    Crossed: ("r1", "r2"),
    Decision: ("right", "wrong"),
    Dilemma: ("for_one", "for_other"),
    Prefilled: ("r1", "r2"),
    Triple: ("chosen", "opposite"),
    Unrelated: ("intruding", "plain"),
}
"""The two replies of an item that must be alike in length."""


def fault(item: Record) -> str:
    """What makes a hand-written item unfit to be measured on; empty where nothing does."""
    if empty := [name for name in sorted(item.model_fields_set) if getattr(item, name) == ""]:
        return f"{empty[0]} is empty"
    names = AGAINST.get(type(item), ())
    lengths = [len(str(getattr(item, name)).split()) for name in names]
    if lengths and max(lengths) - min(lengths) > MOST_APART:
        told = " and ".join(f"{name} has {count} words" for name, count in zip(names, lengths, strict=True))
        return f"{told}: at most {MOST_APART} apart"
    return ""


def load_items(name: str, kind: type[Item], *, folder: Path = ITEMS) -> list[Item]:
    """All items of one file. A missing canary, a broken line, an empty text, replies that are not alike in length or a
    repeated id raise DataError."""
    path = folder / f"{name}.jsonl"
    lines = jsonl_lines(read_text(path))
    items: list[Item] = []
    for number, line in enumerate(lines, 1):
        expected: type[Canary] | type[Item] = Canary if number == 1 else kind
        try:
            record = expected.model_validate_json(line)
        except ValidationError as error:
            raise DataError(
                f"{path}:{number}: {explain(error)}", hint="first line: the canary; then one item a line"
            ) from error
        if isinstance(record, Canary):
            continue
        if wrong := fault(record):
            raise DataError(f"{path}:{number}: {record.id}: {wrong}", hint="mend the item, or take it out")
        items.append(record)
    ids = {item.id for item in items}
    if not items or len(ids) < len(items):
        raise DataError(f"{path}: {'no items' if not items else 'repeated ids'}")
    return items


class Items(NamedTuple):
    """What one constitution is measured on."""

    folder: Path = ITEMS
    character: str = "virtuous-reasoner"
    """The constitution's name."""
    derived: Mapping[str, Sequence[Record]] = MappingProxyType({})
    """Item file → items that stand in its place."""

    def file(self, name: str) -> Path | None:
        """The hand-written file: about this constitution, or fit for any."""
        places = [self.folder / self.character / f"{name}.jsonl", self.folder / f"{name}.jsonl"]
        return next((path for path in places if path.exists()), None)

    def missing(self, names: Sequence[str]) -> list[str]:
        """The item files of which there is nothing, neither written nor derived."""
        return [name for name in names if self.file(name) is None and not self.derived.get(name)]

    def load(self, name: str, kind: type[Item]) -> list[Item]:
        """All items of one name; none where nobody wrote any and none could be derived."""
        if derived := self.derived.get(name):
            return [item for item in derived if isinstance(item, kind)]
        path = self.file(name)
        return load_items(name, kind, folder=path.parent) if path else []

    def traits(self) -> dict[str, str]:
        """Contrast → the trait it is about, of those that were written for one."""
        items: list[Triple | Crossed] = [*self.load("triples", Triple), *self.load("crossed", Crossed)]
        return {item.id: item.trait for item in items if item.trait}

    def text(self, name: str) -> str:
        """What decides scores on these items, as written on disk or as it would be; empty where there are none."""
        if derived := self.derived.get(name):
            return "".join(item.model_dump_json() for item in derived)
        path = self.file(name)
        return read_text(path) if path else ""

    @property
    def note(self) -> str:
        """What a reader must know of items that nobody wrote; empty where all are hand-written."""
        counts = [f"{len(items)} {name}" for name, items in self.derived.items() if items]
        told = "items are derived from the constitution's own recorded rows, which training did not see"
        return f"{' and '.join(counts)} {told}." if counts else ""

    def digest(self, *names: str) -> str:
        """One hash of some items: scores on different items are never compared."""
        return hashlib.sha256("".join(map(self.text, names)).encode()).hexdigest()[:12]


def written_for(name: str, folder: Path = ITEMS) -> str | None:
    """The constitution that an item file is about; None for items that fit any."""
    return Canary.model_validate_json(jsonl_lines(read_text(folder / f"{name}.jsonl"))[0]).constitution


def thinned(items: list[Item], per_split: int | None) -> list[Item]:
    """The first `per_split` items of every split (or of the file, where items have none)."""
    if per_split is None:
        return items
    seen: dict[str, int] = {}
    kept = []
    for item in items:
        split = getattr(item, "split", "")
        seen[split] = seen.get(split, 0) + 1
        if seen[split] <= per_split:
            kept.append(item)
    return kept


@cache  # a study asks for it once a cell
def all_items_digest() -> str:
    """One hash of every item file, sealed and development."""
    files = [path for folder in (ITEMS, DEVELOPMENT) for path in sorted(folder.rglob("*.jsonl"))]
    return hashlib.sha256("".join(map(read_text, files)).encode()).hexdigest()[:12]
