"""Everything ethos writes to disk, one frozen record a line.

Training rows follow TRL's conversational formats exactly (`messages`; `prompt`, `chosen` and
`rejected` as lists of messages), with provenance columns beside them, so TRL, axolotl and
LLaMA-Factory read the files as they are.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ethos.errors import DataError

Role = Literal["system", "user", "assistant"]
Text = Annotated[str, Field(min_length=1)]
"""A string that says something."""


class Record(BaseModel):
    """Base of all records: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def digest(self) -> str:
        """First 12 hex digits of the SHA-256 of the record's JSON: its name on disk."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


R = TypeVar("R", bound=Record)


class Message(Record):
    """One turn of a conversation."""

    role: Role
    content: str


class Preference(Record):
    """A prompt with a chosen and a rejected reply.

    Rows with the same `group` are one contrast: their margins are added before the loss. The
    two situations of a crossed item share a group; a pole or voice pair is a group of its own.
    """

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    clean: list[Message] = []
    """The prompt without the user's push, where it has one."""
    group: str
    kind: str
    """crossed, pole or voice, plain or -deliberated; or crossed-pushed."""
    source: str
    """File and id the row comes from."""
    swapped: bool = Field(False, exclude_if=lambda swapped: not swapped)
    """Whether chosen and rejected stand the other way round than recorded: a control's doing."""


class Conversation(Record):
    """A conversation with loss on every assistant turn from `learn_from` on."""

    messages: list[Message]
    kind: str
    """reflection, interaction or replay."""
    source: str
    learn_from: int = 0
    """Index of the first message that may carry loss."""


class Document(Record):
    """A plain text about the assistant and its constitution, learnt without a chat template."""

    text: str
    kind: str
    """encyclopedia, news, letter …"""
    source: str


class Drop(Record):
    """A row a filter refused, and why: nothing disappears quietly."""

    source: str
    reason: str


def user(text: str) -> Message:
    """A user turn."""
    return Message(role="user", content=text)


def assistant(text: str) -> Message:
    """An assistant turn."""
    return Message(role="assistant", content=text)


def read_text(path: Path) -> str:
    """A UTF-8 file's text; a missing, unreadable or non-UTF-8 file is a DataError that names it."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: no such file", hint="check the path; relative paths start at the current folder"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 at byte {error.start}", hint=f"convert it: iconv -f latin1 -t utf-8 {path}"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def jsonl_lines(text: str) -> list[str]:
    """Lines of JSONL text: split at line feeds alone, since JSON strings may hold other line breaks."""
    return text.removesuffix("\n").split("\n") if text else []


def read_jsonl(path: Path, kind: type[R]) -> list[R]:
    """All records of a JSONL file. A broken line raises DataError with its number and fault."""
    rows = []
    for number, line in enumerate(jsonl_lines(read_text(path)), 1):
        try:
            rows.append(kind.model_validate_json(line))
        except ValidationError as error:
            raise DataError(
                f"{path}:{number}: {explain(error)}", hint=f"each line must be one {kind.__name__} as JSON"
            ) from error
    if not rows:
        raise DataError(
            f"{path}: holds no records", hint="an empty data set would train nothing; remove the file or fill it"
        )
    return rows


def to_jsonl(records: Iterable[Record]) -> str:
    """Records as JSONL text, one a line."""
    return "".join(record.model_dump_json() + "\n" for record in records)


def explain(error: ValidationError) -> str:
    """A pydantic error in one line: where, what, and what was given."""
    parts = [f"{'.'.join(map(str, fault['loc'])) or 'line'}: {fault['msg']}" for fault in error.errors()[:3]]
    more = error.error_count() - len(parts)
    return "; ".join(parts) + (f" (+{more} more)" if more > 0 else "")


def digest_of(records: Sequence[Record]) -> str:
    """One short hash of many records, in order."""
    return hashlib.sha256(to_jsonl(records).encode()).hexdigest()[:12]
