"""Benchmark items on disk: hand-written data, sealed by a canary, never trained on.

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
from typing import NamedTuple

from pydantic import Field, ValidationError

from ethos.bench.items import Crossed, Item, Triple, fault
from ethos.errors import DataError
from ethos.records import Record, explain, jsonl_lines, read_text

ITEMS = Path(__file__).parent / "items"
DEVELOPMENT = Path(__file__).parent / "development"
"""Items to tune on, by other hands than the sealed ones; never trained on either."""


class Canary(Record):
    """First line of every item file."""

    canary: str = Field(pattern=r"^ethos benchmark item, do not train on it: [0-9a-f-]{36}$")
    constitution: str | None = None
    """Whose words or values the items are about, where they are about one constitution's."""


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
