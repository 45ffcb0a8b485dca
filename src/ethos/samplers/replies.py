"""What is asked of a model and what it answered, on disk: the same whoever answers."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field

from ethos.errors import StoreError
from ethos.records import Message, Record

PROTOCOL = 2
"""Bump with any change that could alter a sampled text."""

HANDED_OUT = "CREATE TABLE IF NOT EXISTS handed_out (key TEXT PRIMARY KEY, thinking TEXT NOT NULL) WITHOUT ROWID"


CUT_OFF = "cut off: no stop token within the limit"
"""What is wrong with a reply whose `finish` is "length"."""


class Request(Record):
    """One reply wanted: everything that decides its text."""

    messages: list[Message]
    max_tokens: int = Field(96, gt=0)
    temperature: float = Field(0.7, ge=0)
    """0 takes the likeliest token."""
    seed: int = 0
    runs_on: bool = Field(False, exclude_if=lambda runs_on: not runs_on)
    """Past the end of its turn, up to `max_tokens`: a mistake to be studied. Models on this machine only."""


class Reply(Record):
    """One reply, as sampled."""

    text: str
    num_tokens: int
    """Tokens of the reply; 0 where a server does not say."""
    finish: Literal["stop", "length"]
    num_prompt_tokens: int | None = None
    """Tokens of the request, as a server reports them."""
    thought: bool = Field(False, exclude_if=lambda thought: not thought)
    """Whether it was thought about first."""


Ask = Callable[[Sequence[Request]], list[Reply]]
"""A model that answers: one reply a request, in order."""


class ReplyCache:
    """Replies on disk, keyed by subject and request: a killed stage asks nothing twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._explained():
            self.database = sqlite3.connect(path, timeout=60)
            self.database.execute("PRAGMA journal_mode=WAL")
            self.database.execute("PRAGMA synchronous=NORMAL")  # a kill loses nothing; a power cut, the last replies
            self.database.execute(
                "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID"
            )

    def __reduce__(self) -> tuple[type["ReplyCache"], tuple[Path]]:
        """Another process opens the same file itself."""
        return ReplyCache, (self.path,)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite hides a full disk or a read-only folder behind its own error."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            hint = "free some space, or choose another folder with --out; what is stored is kept"
            raise StoreError(f"cannot use the reply cache {self.path}: {error}", hint=hint) from error

    @staticmethod
    def key(subject: str, request: Request) -> str:
        """The SHA-256 of subject hash, protocol and request."""
        return hashlib.sha256(f"{subject}|{PROTOCOL}|{request.model_dump_json()}".encode()).hexdigest()

    def get(self, key: str) -> Reply | None:
        """The stored reply, if any."""
        row = self.database.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return Reply.model_validate_json(row[0]) if row else None

    def put(self, replies: dict[str, Reply]) -> None:
        """Store replies in one transaction."""
        with self._explained(), self.database:
            self.database.executemany(
                "INSERT OR REPLACE INTO replies VALUES (?, ?)", [(k, r.model_dump_json()) for k, r in replies.items()]
            )

    def hand_out(self, keys: Iterable[str], thinking: str) -> None:
        """Remember requests that went out in shards, and what becomes of a <think> block in their answers."""
        with self._explained(), self.database:
            self.database.execute(HANDED_OUT)
            self.database.executemany("INSERT OR REPLACE INTO handed_out VALUES (?, ?)", [(k, thinking) for k in keys])

    def handed_out(self) -> dict[str, str]:
        """Keys of the requests that ever went out in shards, each with what becomes of a <think> block."""
        with self._explained(), self.database:
            self.database.execute(HANDED_OUT)
            return dict(self.database.execute("SELECT key, thinking FROM handed_out"))

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def derived_seed(*parts: int) -> int:
    """A seed that no two different lists of numbers share by design."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:6])
