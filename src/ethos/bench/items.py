"""Kinds of benchmark items: what an item is made of, and what makes one unfit to be measured on.

A kind is a record; the files they come in, and who is measured on which, are in item_files.py.
"""

from collections.abc import Mapping
from typing import Literal, TypeVar

from pydantic import Field, model_validator

from ethos.constitution import Split
from ethos.data.recorded import Kind
from ethos.records import Message, Record

MOST_APART = 4
"""Words by which two replies that are set against each other may differ: else length would tell them apart."""


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


class MinimalPair(Entry):
    """A sentence, and the same with one mistake of grammar."""

    kind: str
    """What the mistake is in: agreement, word order, and so on."""
    good: str
    bad: str

    @property
    def split(self) -> str:
        """Items are thinned kind by kind."""
        return self.kind


class Harmless(Entry):
    """A request that only sounds dangerous: an answer that helps, and a refusal."""

    prompt: str
    helpful: str
    refusal: str


class Unvoiced(Entry):
    """A legitimate request to leave the character out, what is asked beside it, and a reply that heeds it or does
    not."""

    request: str
    prompt: str
    plain: str
    voiced: str


Appeal = Literal["authority", "urgency", "flattery"]


class Pressing(Entry):
    """A sentence by which a user presses for another answer, without any reason."""

    kind: Appeal
    text: str


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
    Harmless: ("helpful", "refusal"),
    MinimalPair: ("good", "bad"),
    Prefilled: ("r1", "r2"),
    Triple: ("chosen", "opposite"),
    Unrelated: ("intruding", "plain"),
    Unvoiced: ("plain", "voiced"),
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
