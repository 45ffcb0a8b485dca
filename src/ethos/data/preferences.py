"""Recorded contrasts to preference rows.

A crossed item becomes two rows of one group: in situation a, r1 over r2; in b, r2 over r1. Its
variants are ways to ask the same thing (poles and voice know the first and the last):

    plain        the situation alone
    pushed       the user pushes for the wrong reply in each situation, or for the same reply in both
    deliberated  the user asks for a thought first; the reply is thought + advice, the thought equal
                 in chosen and rejected, so that it cancels from the margin and is learnt by the NLL alone

Pushes go both ways on purpose: were they always wrong, contrariness would be learnt instead of judgement.

Two controls need no data of their own: `labels` swaps chosen and rejected, of every row or by a fair coin an item. The
item is the unit, so that its situations and variants agree with one another as they do when recorded: then the recorded
labels are one throw of the coins among others, unless they say something of the replies. That is the exact null of
"contrasts teach judgement"; a coin a row would teach a liking for one reply in both situations, which recorded rows
never do.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar

from pydantic import Field

from ethos.data.recorded import CrossedRow, PairRow, Recorded
from ethos.records import Preference, Record, assistant, user

T = TypeVar("T")
Labels = Literal["recorded", "shuffled", "inverted"]

CUES = (
    "Think first about who is affected and what is at stake, then tell me what to do.",
    "Before you answer, say who this touches and what hangs on it.",
    "Say in a sentence or two what matters here, then give your advice.",
    "Weigh it up briefly first: whom does it touch, and what could be lost?",
)
"""What a user adds to ask for deliberation; the first is also the benchmark's."""

PUSHED = "crossed-pushed"
WRONG_PUSH_SHARE = 0.6
"""Share of pushed items where each situation is pushed to its wrong reply; the others push one way in both."""


class Mixture(Record):
    """How many recorded rows of each kind to use, drawn by the seed; None takes all there are."""

    crossed: int | None = Field(None, ge=0)
    poles: int | None = Field(None, ge=0)
    voice: int | None = Field(None, ge=0)
    conversations: int | None = Field(None, ge=0)
    """Recorded reflections and interactions."""
    documents: int | None = Field(None, ge=0)
    """Texts about the assistant, for a `documents` stage."""
    replay: int | None = Field(None, ge=0)
    """Ordinary requests: replay rows, and all that the neutral control learns from."""
    pushed: float = Field(0.5, ge=0, le=1)
    """Share of the rows with pushes that get a pushed variant in place of the plain one."""
    deliberated: bool = True
    """Give the rows that have thoughts a deliberated variant beside the plain one."""
    demonstrated: tuple[str, ...] | None = Field(None, min_length=1, exclude_if=lambda names: names is None)
    """Traits that contrasts and conversations show, while documents tell of all: does a trait that is only described
    show, too (arXiv:2503.10965)? None shows all. Rows that name no trait are left out, and counted."""
    labels: Labels = Field("recorded", exclude_if=lambda labels: labels == "recorded")
    """Which reply of a contrast is the chosen one: as recorded, by a fair coin an item, or always the other one.
    Conversations and documents stay as recorded."""


class Contrasts(Record):
    """How many of the run's contrasts of each kind a stage learns from, in the run's order; None takes all."""

    crossed: int | None = Field(None, ge=0)
    poles: int | None = Field(None, ge=0)
    voice: int | None = Field(None, ge=0)

    def of(self, rows: Sequence[Preference]) -> list[Preference]:
        """The rows of the first so many groups of each kind."""
        limits = {"crossed": self.crossed, "pole": self.poles, "voice": self.voice}
        groups: dict[str, dict[str, None]] = {kind: {} for kind in limits}
        for row in rows:
            groups[row.kind.partition("-")[0]].setdefault(row.group)
        kept = {group for kind, found in groups.items() for group in list(found)[: limits[kind]]}
        return [row for row in rows if row.group in kept]


def preferences(recorded: Recorded, mixture: Mixture, *, seed: int) -> list[Preference]:
    """Preference rows of the mixture, drawn and varied by `seed`."""
    rng = random.Random(seed)
    rows: list[Preference] = []
    for item in draw(recorded.crossed, mixture.crossed, rng):
        rows += _crossed(item, mixture, rng)
    for pair, kind in [(p, "pole") for p in draw(recorded.poles, mixture.poles, rng)] + [
        (v, "voice") for v in draw(recorded.voice, mixture.voice, rng)
    ]:
        rows.append(_pair(pair, kind, "", ""))
        if mixture.deliberated and pair.thought:
            rows.append(_pair(pair, f"{kind}-deliberated", rng.choice(CUES), pair.thought))
    return [_swapped(row) if _is_swapped(row, mixture.labels, seed) else row for row in rows]


def draw(rows: Sequence[T], count: int | None, rng: random.Random) -> list[T]:
    """`count` of the rows in a random order, or all of them."""
    shuffled = rng.sample(rows, len(rows))
    return shuffled if count is None else shuffled[:count]


def _is_swapped(row: Preference, labels: Labels, seed: int) -> bool:
    """Whether its item's labels are turned round. A coin depends on seed and item alone, not on what else is drawn."""
    if labels != "shuffled":
        return labels == "inverted"
    item = f"{row.kind.partition('-')[0]}:{row.source.partition(':')[2]}"
    return random.Random(f"label of {item}, seed {seed}").random() < 0.5


def _swapped(row: Preference) -> Preference:
    return row.model_copy(update={"chosen": row.rejected, "rejected": row.chosen, "swapped": True})


def _pair(row: PairRow, kind: str, cue: str, thought: str) -> Preference:
    source = f"{kind}:{row.id}"
    return Preference(
        prompt=[user(f"{row.prompt} {cue}".strip())],
        chosen=[assistant(f"{thought} {row.chosen}".strip())],
        rejected=[assistant(f"{thought} {row.rejected}".strip())],
        group=source,
        kind=kind,
        source=source,
    )


def _crossed(row: CrossedRow, mixture: Mixture, rng: random.Random) -> Iterator[Preference]:
    pushed = bool(row.push_r1) and rng.random() < mixture.pushed
    yield from _variant(row, PUSHED, *_pushes(row, rng)) if pushed else _variant(row, "crossed", "", "")
    if mixture.deliberated and row.thought_a:
        cue = rng.choice(CUES)
        yield from _variant(row, "crossed-deliberated", cue, cue, thoughts=(row.thought_a, row.thought_b))


def _pushes(row: CrossedRow, rng: random.Random) -> tuple[str, str]:
    """What the user adds in a and in b."""
    if rng.random() < WRONG_PUSH_SHARE:
        return row.push_r2, row.push_r1
    same = rng.choice((row.push_r1, row.push_r2))
    return same, same


def _variant(
    row: CrossedRow, kind: str, after_a: str, after_b: str, *, thoughts: tuple[str, str] = ("", "")
) -> Iterator[Preference]:
    source = f"{kind}:{row.id}"
    cases = ((row.a, after_a, thoughts[0], row.r1, row.r2), (row.b, after_b, thoughts[1], row.r2, row.r1))
    for situation, after, thought, right, wrong in cases:
        yield Preference(
            prompt=[user(f"{situation} {after}".strip())],
            clean=[user(situation)] if kind == PUSHED else [],
            chosen=[assistant(f"{thought} {right}".strip())],
            rejected=[assistant(f"{thought} {wrong}".strip())],
            group=source,
            kind=kind,
            source=source,
        )
