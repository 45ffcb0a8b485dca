"""Items for a constitution that nobody wrote items for: its own recorded rows, held out of training, and its prompts.

    crossed   the held-out crossed rows; all are everyday situations (`familiar`)
    triples   familiar: the held-out pole and voice pairs, each under its own prompt
              elsewhere: the pairs that a teacher wrote for prompts of that split (`ethos data generate --items`), or
              else every prompt of the split, each with a held-out pair of the same trait

A pair under another prompt than its own is off the topic on both sides alike: what differs between its replies is the
trait, in a context that training never had. No words are generated here and no template is filled. Such items say less
than hand-written ones: they are fewer, and of judgement there are none outside `familiar`. To tune on there are only
`familiar` ones.

Which rows are held out is decided row by row from a hash of the id, so adding rows moves no other row.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle, zip_longest
from typing import Literal, NamedTuple, get_args

from ethos.bench.item_files import DEVELOPMENT, ITEMS, Items
from ethos.bench.items import Crossed, Triple
from ethos.constitution import Constitution, Split
from ethos.data.recorded import Outside, PairRow, PoleItem, Recorded, VoiceItem
from ethos.records import Record

DERIVED = ("crossed", "triples")
OUTSIDE: tuple[Outside, ...] = get_args(Outside)
SHARES = 8
"""Rows are dealt into so many parts."""
PARTS: Mapping[str, tuple[int, ...]] = {"sealed": (0, 1), "development": (2,)}
"""Which parts are held out, for which items; the other five are trained on."""

Kind = Literal["sealed", "development", "derived"]
"""What a run is measured on: hand-written items, those to tune on, or derived ones although there are written ones."""


class Held(NamedTuple):
    """A constitution's items, and the recorded rows that it may train on."""

    items: Items
    trainable: Recorded


def hold_out(kind: Kind, constitution: Constitution, recorded: Recorded) -> Held:
    """Hand-written items where there are some, else derived ones, whose rows are then kept out of training."""
    measured, recorded = recorded, recorded._replace(pole_items=[], voice_items=[])
    written = Items(DEVELOPMENT if kind == "development" else ITEMS, constitution.name)
    wanted = DERIVED if kind == "derived" else written.missing(DERIVED)
    if not wanted:
        return Held(written, recorded)
    part = PARTS["development" if kind == "development" else "sealed"]
    outside = () if kind == "development" else OUTSIDE
    derived = derive(constitution, _rows(measured, lambda row: _part(row) in part), outside)
    items = {name: derived[name] for name in wanted}
    if not any(items.values()):  # too few rows to spare any
        return Held(written, recorded)
    held = {place for places in PARTS.values() for place in places}
    return Held(written._replace(derived=items), _rows(recorded, lambda row: _part(row) not in held))


def derive(constitution: Constitution, held: Recorded, outside: Sequence[Split]) -> dict[str, list[Record]]:
    """Items made of held-out rows and of the prompts of some splits that are never trained on."""
    crossed = [
        Crossed(split="familiar", **row.model_dump(include={"id", "trait", "kind", "a", "b", "r1", "r2", "fact"}))
        for row in held.crossed
    ]
    return {"crossed": [*crossed], "triples": [*_triples(constitution, held, outside)]}


def _triples(constitution: Constitution, held: Recorded, outside: Sequence[Split]) -> Iterator[Triple]:
    """Pole and voice by turns in every split, so that a benchmark thinned to few items keeps some of both."""
    splits: tuple[Split, ...] = ("familiar", *outside)
    for split in splits:
        poles = _asked(split, "opposite", held.poles, held.pole_items, constitution)
        voice = _asked(split, "plain", held.voice, held.voice_items, constitution)
        yield from (item for pair in zip_longest(poles, voice) for item in pair if item)


def _asked(
    split: Split,
    side: str,
    rows: Sequence[PairRow],
    written: Sequence[PoleItem | VoiceItem],
    constitution: Constitution,
) -> Iterator[Triple]:
    """Pairs under the prompts of one split: their own, or others of the same trait."""
    own = rows if split == "familiar" else [row for row in written if row.split == split]
    if own or split == "familiar":
        yield from (_triple(row.id, split, row.prompt, side, row) for row in own)
        return
    for trait in constitution.trait:
        pairs = cycle([row for row in rows if row.trait == trait.name])
        for number, (prompt, row) in enumerate(zip(trait.prompts.get(split, []), pairs, strict=False), 1):
            yield _triple(f"{trait.name}-{split}-{number}-{row.id}", split, prompt, side, row)


def _triple(name: str, split: Split, prompt: str, side: str, row: PairRow) -> Triple:
    return Triple.model_validate(
        {
            "id": name,
            "split": split,
            "trait": row.trait,
            "prompt": prompt,
            "chosen": row.chosen,
            side: row.rejected,
        }
    )


def _rows(recorded: Recorded, keeps: Callable[[str], bool]) -> Recorded:
    """Some of the contrasts, by id; every other kind as it is."""
    return recorded._replace(
        crossed=[row for row in recorded.crossed if keeps(row.id)],
        poles=[row for row in recorded.poles if keeps(row.id)],
        voice=[row for row in recorded.voice if keeps(row.id)],
    )


def _part(name: str) -> int:
    """Which of the parts a row is dealt into."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % SHARES
