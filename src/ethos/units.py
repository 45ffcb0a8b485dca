"""Scores by item: computed once a subject, kept on disk, and the same whether they were kept or not.

A *unit* is what is computed together: the sequences of one item. Each is a forward pass of its own, whatever else is
asked for, because the last digits of a matrix product depend on its size. So a unit's numbers depend on the unit
alone: a cache that is cold, warm or half full gives the same bytes, and an item more costs that item. What is given up
is packing across items, a few percent of the time: an item's prompts and replies fill most of a pack by themselves.

What many units begin with (a system prompt, a long talk) is their *opening*. It is given, not looked for, since what
a batch happens to share depends on the batch; it is read once a call.

Numbers are kept in single precision, in which they were computed.
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ethos import scoring
from ethos.chat import Rendered
from ethos.errors import ModelError, StoreError
from ethos.scoring import Model, Prefix

KERNEL = 1
"""Bump with any change that could alter a digit of a score."""
KEPT = "scores.sqlite"
"""The file in a store with every log-probability that scores are made of."""
TOGETHER = 32
"""Units that are kept in one transaction: what a kill may lose."""

Floats = NDArray[np.float64]
Asked = TypeVar("Asked")


class Unit(NamedTuple):
    """Sequences that are computed together."""

    opening: tuple[int, ...]
    """Tokens that all of them begin with, and other units too."""
    sequences: tuple[Rendered, ...]

    def key(self) -> str:
        """A hash of everything that decides its numbers on one subject."""
        told = repr((KERNEL, len(self.opening), [(s.tokens, s.mask) for s in self.sequences]))
        return hashlib.sha256(told.encode()).hexdigest()


def unit(opening: tuple[int, ...], sequences: Sequence[Rendered]) -> Unit:
    """A unit; without an opening where its sequences do not all begin so (a tokenizer may join what comes next)."""
    begins = all(sequence.tokens[: len(opening)] == opening for sequence in sequences)
    goes_on = scoring.common_prefix(sequences) >= len(opening)
    return Unit(opening if begins and goes_on else (), tuple(sequences))


class ScoreCache:
    """Numbers on disk, by subject and by the hash of what they are about."""

    def __init__(self, path: Path, who: str) -> None:
        self.path, self.who = path, who
        """`who` names the weights that are scored, what stands before every prompt, and the precision."""
        with self._explained():
            self.database = sqlite3.connect(path, timeout=60)
            self.database.execute("PRAGMA journal_mode=WAL")
            self.database.execute(
                "CREATE TABLE IF NOT EXISTS scores (who TEXT, unit TEXT, numbers BLOB NOT NULL,"
                " PRIMARY KEY (who, unit)) WITHOUT ROWID"
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """SQLite hides a full disk or a read-only folder behind its own error."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            hint = "free some space, or choose another folder with --out; it may be deleted, at the cost of time"
            raise StoreError(f"cannot use the score cache {self.path}: {error}", hint=hint) from error

    def get(self, key: str) -> Floats | None:
        """The numbers kept under a key, if any."""
        with self._explained():
            row = self.database.execute(
                "SELECT numbers FROM scores WHERE who = ? AND unit = ?", (self.who, key)
            ).fetchone()
        return np.frombuffer(row[0], dtype="<f4").astype(np.float64) if row else None

    def put(self, numbers: Mapping[str, Floats]) -> None:
        """Keep numbers in one transaction; they must be single precision in double's clothes."""
        rows = [(self.who, key, found.astype("<f4").tobytes()) for key, found in numbers.items()]
        with self._explained(), self.database:
            self.database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def score_units(
    model: Model, units: Sequence[Unit], cache: ScoreCache | None, *, done: Callable[[int], None] = lambda _: None
) -> list[list[Floats]]:
    """Log-probabilities (nats) of the scored tokens of every unit's sequences; NaN where one exceeds the context.

    `done` is told how many units more are there.
    """
    prefixes: dict[tuple[int, ...], Prefix] = {}

    def make(unit: Unit) -> Floats:
        readable = any(fits(model, sequence) for sequence in unit.sequences)
        if readable and unit.opening and unit.opening not in prefixes:
            prefixes[unit.opening] = scoring.read_prefix(model, unit.opening)
        return np.concatenate(_scored(model, unit, prefixes.get(unit.opening)))

    found = kept(cache, {unit.key(): unit for unit in units}, make, done=done)
    return [_split(found[unit.key()], unit) for unit in units]


def kept(
    cache: ScoreCache | None,
    asked: Mapping[str, Asked],
    make: Callable[[Asked], Floats],
    *,
    done: Callable[[int], None] = lambda _: None,
) -> dict[str, Floats]:
    """Numbers by key: those that are kept, and for the others what `make` gives, which is then kept."""
    found = {key: numbers for key in asked if (numbers := cache.get(key) if cache else None) is not None}
    done(len(found))
    fresh: dict[str, Floats] = {}
    for key in [key for key in asked if key not in found]:
        fresh[key] = found[key] = make(asked[key])
        done(1)
        if cache and len(fresh) == TOGETHER:
            cache.put(fresh)
            fresh = {}
    if cache and fresh:
        cache.put(fresh)
    return found


def fits(model: Model, sequence: Rendered) -> bool:
    """Whether a model was made to read so much at once, as far as its configuration says."""
    limit = scoring.context(model)
    return limit is None or len(sequence.tokens) <= limit


def finite(numbers: Floats) -> Floats:
    """The same numbers; a ModelError where one is none: it would pass for a score once it is averaged."""
    if np.isfinite(numbers).all():
        return numbers
    raise ModelError(
        "the model gives log-probabilities that are not numbers",
        hint="its weights may be damaged, or overflow in this machine's precision: see `ethos doctor`",
    )


def _scored(model: Model, unit: Unit, prefix: Prefix | None) -> list[Floats]:
    """One pass, or a few where a unit is larger than a pack."""
    short = [place for place, sequence in enumerate(unit.sequences) if fits(model, sequence)]
    numbers = map(finite, scoring.score(model, [unit.sequences[place] for place in short], prefix=prefix))
    by_place = dict(zip(short, numbers, strict=True))
    unread = (np.full(sum(sequence.mask), np.nan) for sequence in unit.sequences)
    return [by_place.get(place, blank) for place, blank in enumerate(unread)]


def _split(numbers: Floats, unit: Unit) -> list[Floats]:
    """A unit's numbers, sequence by sequence."""
    return np.split(numbers, np.cumsum([sum(sequence.mask) for sequence in unit.sequences])[:-1])
