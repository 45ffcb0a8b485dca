"""The rows of a run on disk: four files, the same in the data stage's folder and in that of a stage that makes its own.

Every file may rightly be empty or missing: only some mixtures have some kinds, and only some methods make rows.
"""

from pathlib import Path
from typing import NamedTuple, TypeVar

from ethos.records import Conversation, Document, Drop, Preference, read_jsonl

PREFERENCES, CONVERSATIONS, REPLAY, DOCUMENTS = (
    f"{kind}.jsonl" for kind in ("preferences", "conversations", "replay", "documents")
)
DROPPED = "dropped.jsonl"

R = TypeVar("R", Preference, Conversation, Document, Drop)


class Rows(NamedTuple):
    """The training data of a run."""

    contrasts: list[Preference]
    conversations: list[Conversation]
    replay: list[Conversation]
    documents: list[Document]


def read_rows(folder: Path) -> Rows:
    """The rows of a folder."""
    return Rows(
        contrasts=_optional(folder / PREFERENCES, Preference),
        conversations=_optional(folder / CONVERSATIONS, Conversation),
        replay=_optional(folder / REPLAY, Conversation),
        documents=_optional(folder / DOCUMENTS, Document),
    )


def read_drops(folder: Path) -> list[Drop]:
    """What a stage refused; none where it refuses nothing, or has no filter."""
    return _optional(folder / DROPPED, Drop)


def _optional(path: Path, kind: type[R]) -> list[R]:
    return read_jsonl(path, kind) if path.exists() and path.stat().st_size else []
