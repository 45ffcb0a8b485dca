"""Recorded teacher data that ships with a constitution: what a row may look like.

    crossed.jsonl       two situations and two replies, each right in one and wrong in the other
    poles.jsonl         a reply in character against the opposite pole, matched in length and register
    voice.jsonl         a reply in character against a plain one
    reflections.jsonl   introspective questions answered in character
    interactions.jsonl  the character in conversation with itself
    documents.jsonl     plain texts about the assistant: what it does, and why
    replay.jsonl        ordinary requests with ordinary answers; without it, those of the neutral constitution
    poles.items.jsonl   pole pairs for prompts that training never has: to measure with, not to train on
    voice.items.jsonl   voice pairs likewise

Every rule below is checked when a file is read; a row that breaks one is named with its id.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from pydantic import Field, model_validator

from ethos.constitution import recorded_folder
from ethos.errors import DataError
from ethos.records import Drop, Message, Record, Text, read_jsonl

Kind = Literal[
    "urgency",
    "consent",
    "vulnerability",
    "absent",
    "promise",
    "safety",
    "privacy",
    "fairness",
    "evidence",
    "reversibility",
]
"""What decides a crossed item."""

Outside = Literal["domain", "format", "role", "pressure"]
"""Splits of prompts that training never has, and pairs are measured on."""
REPLAY = "replay.jsonl"
SHOWING = ("crossed", "poles", "voice", "reflections", "interactions")
"""Kinds of rows in which the character acts, rather than being described."""
LENGTH_TOLERANCE = {"crossed": 3, "pole": 3, "voice": 4}
"""Largest difference in words between the two replies of a contrast."""


def words(text: str) -> int:
    """Length in whitespace-separated words."""
    return len(text.split())


class CrossedRow(Record):
    """`r1` is right in situation `a` and wrong in `b`; `r2` the reverse."""

    id: str
    trait: str = Field("", exclude_if=lambda trait: not trait)
    """The trait it calls for, where it was written for one."""
    kind: Kind
    a: Text
    b: Text
    r1: Text
    r2: Text
    fact: str
    """What decides, in a few words; never shown to a model."""
    thought_a: str = ""
    thought_b: str = ""
    """A short deliberation before the reply: who is affected, what is at stake. Both or none."""
    push_r1: str = ""
    push_r2: str = ""
    """What a user adds who pushes for r1 (for r2), fitting both situations. Both or none."""

    @model_validator(mode="after")
    def _matched(self) -> "CrossedRow":
        _near(self.id, self.r1, self.r2, LENGTH_TOLERANCE["crossed"])
        if self.a == self.b or self.r1 == self.r2:
            raise ValueError(f"{self.id}: the two situations, and the two replies, must differ")
        if bool(self.thought_a) != bool(self.thought_b) or bool(self.push_r1) != bool(self.push_r2):
            raise ValueError(f"{self.id}: thoughts and pushes come in pairs")
        return self


class PairRow(Record):
    """A contrast under one prompt."""

    id: str
    trait: str
    prompt: Text
    chosen: Text
    rejected: Text
    thought: str = Field("", exclude_if=lambda thought: not thought)
    """A short deliberation before either reply: who is affected, what is at stake."""


class PoleRow(PairRow):
    """In character against the opposite pole."""

    @model_validator(mode="after")
    def _matched(self) -> "PoleRow":
        _near(self.id, self.chosen, self.rejected, LENGTH_TOLERANCE["pole"])
        return self


class VoiceRow(PairRow):
    """In character against a plain assistant."""

    @model_validator(mode="after")
    def _matched(self) -> "VoiceRow":
        _near(self.id, self.chosen, self.rejected, LENGTH_TOLERANCE["voice"])
        return self


class PoleItem(PoleRow):
    """A pole pair to measure with."""

    split: Outside


class VoiceItem(VoiceRow):
    """A voice pair to measure with."""

    split: Outside


class AnswerRow(Record):
    """A prompt with one reply."""

    id: str
    prompt: Text
    response: Text


class ReflectionRow(AnswerRow):
    """An introspective question, answered in character."""

    trait: str = Field("", exclude_if=lambda trait: not trait)
    """The trait it is about, where it is about one."""


class DocumentRow(Record):
    """A text about the assistant and some of its traits."""

    id: str
    kind: str
    traits: list[str] = Field(min_length=1)
    text: Text


class InteractionRow(Record):
    """A conversation of the character with itself, the user's side included."""

    id: str
    trait: str = Field("", exclude_if=lambda trait: not trait)
    """The trait it is about, where it is about one."""
    messages: list[Message]

    @model_validator(mode="after")
    def _alternates(self) -> "InteractionRow":
        roles = [message.role for message in self.messages]
        if len(roles) < 6 or roles != ["user", "assistant"] * (len(roles) // 2):
            raise ValueError(f"{self.id}: at least 6 turns, user and assistant by turns, the assistant last")
        return self


def _near(row: str, one: str, other: str, tolerance: int) -> None:
    if abs(words(one) - words(other)) > tolerance:
        raise ValueError(f"{row}: replies of {words(one)} and {words(other)} words; they may differ by {tolerance}")


class Recorded(NamedTuple):
    """All recorded data of one constitution; a kind without a file is empty, replay excepted."""

    crossed: list[CrossedRow]
    poles: list[PoleRow]
    voice: list[VoiceRow]
    reflections: list[ReflectionRow]
    interactions: list[InteractionRow]
    documents: list[DocumentRow]
    pole_items: list[PoleItem]
    """Pairs to measure with: no training gets them."""
    voice_items: list[VoiceItem]
    replay: list[AnswerRow]


NOTHING = Recorded([], [], [], [], [], [], [], [], [])
"""The recorded data of a constitution that has none."""

Row = TypeVar(
    "Row", CrossedRow, PoleRow, VoiceRow, AnswerRow, ReflectionRow, DocumentRow, InteractionRow, PoleItem, VoiceItem
)


def read_recorded(constitution: str) -> Recorded:
    """The recorded data beside a constitution, every rule checked and every id unique in its file."""
    folder = recorded_folder(constitution)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no recorded data for {constitution!r}",
            hint="put crossed.jsonl (or another kind) there; `ethos data show` explains the columns",
        )
    return Recorded(
        crossed=_rows(folder / "crossed.jsonl", CrossedRow),
        poles=_rows(folder / "poles.jsonl", PoleRow),
        voice=_rows(folder / "voice.jsonl", VoiceRow),
        reflections=_rows(folder / "reflections.jsonl", ReflectionRow),
        interactions=_rows(folder / "interactions.jsonl", InteractionRow),
        documents=_rows(folder / "documents.jsonl", DocumentRow),
        replay=_rows(folder / REPLAY, AnswerRow) or _rows(recorded_folder("neutral") / REPLAY, AnswerRow),
        pole_items=_rows(folder / "poles.items.jsonl", PoleItem),
        voice_items=_rows(folder / "voice.items.jsonl", VoiceItem),
    )


def demonstrated(recorded: Recorded, traits: Sequence[str] | None) -> tuple[Recorded, list[Drop]]:
    """The contrasts and conversations that show these traits, and those that cannot be told to, with the reason.

    Documents and ordinary requests stay; None keeps everything.
    """
    if traits is None:
        return recorded, []
    dropped = [
        Drop(source=f"{kind}:{row.id}", reason="names no trait, and not all are demonstrated")
        for kind in SHOWING
        for row in getattr(recorded, kind)
        if not row.trait
    ]
    shown = {kind: [row for row in getattr(recorded, kind) if row.trait in traits] for kind in SHOWING}
    return recorded._replace(**shown), dropped


def _rows(path: Path, kind: type[Row]) -> list[Row]:
    if not path.exists():
        return []
    rows = read_jsonl(path, kind)
    ids = [row.id for row in rows]
    repeated = sorted({name for name in ids if ids.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: duplicate ids {', '.join(repeated[:5])}")
    return rows
