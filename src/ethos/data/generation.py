"""Contrasts for a constitution of one's own, written by a teacher: prompts in, recorded rows out.

    voice    the teacher with the constitution against the teacher without it
    poles    the teacher with the constitution against the teacher with its opposite

Both sides answer each prompt several times; the pair whose lengths are nearest is kept, since a contrast that can be
told by length teaches length. Whatever is refused (cut off, looping, quoting the constitution, too unlike in length,
shared with a benchmark item) is counted with its reason. Only `familiar` prompts are asked: the other splits are for
measuring.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Literal, NamedTuple

from ethos.constitution import Constitution
from ethos.data.filters import fault
from ethos.data.recorded import LENGTH_TOLERANCE, PairRow, PoleRow, VoiceRow, words
from ethos.records import Drop, Message, user
from ethos.samplers.replies import Reply, Request, derived_seed

Ask = Callable[[Sequence[Request]], list[Reply]]
"""A teacher: one reply a request, in order."""
Kind = Literal["voice", "poles"]
BRIEFLY = "Answer in two to four plain sentences."
MAX_TOKENS, TEMPERATURE = 200, 0.8


class Generated(NamedTuple):
    """Rows to learn from, and what was refused."""

    kept: list[PairRow]
    dropped: list[Drop]


def generate(
    constitution: Constitution,
    kind: Kind,
    ask: Ask,
    is_sealed: Callable[[list[str]], bool],
    *,
    candidates: int,
    seed: int = 0,
) -> Generated:
    """One contrast a familiar prompt, from `candidates` answers to each side.

    `is_sealed` says whether texts share words with a benchmark item.
    """
    prompts = [(trait.name, text) for trait in constitution.trait for text in trait.prompts.get("familiar", [])]
    systems = _systems(constitution, kind)
    requests = [
        Request(
            messages=[Message(role="system", content=system), user(text)],
            max_tokens=MAX_TOKENS,
            temperature=TEMPERATURE,
            seed=derived_seed(seed, place, side, candidate),
        )
        for place, (_, text) in enumerate(prompts)
        for side, system in enumerate(systems)
        for candidate in range(candidates)
    ]
    replies = iter(ask(requests))
    kept, dropped = list[PairRow](), list[Drop]()
    for place, (trait, text) in enumerate(prompts):
        source = f"{constitution.name}-{kind}-{place + 1:04d}"
        sides = [[next(replies) for _ in range(candidates)] for _ in systems]
        pair = _nearest(sides, constitution, LENGTH_TOLERANCE["pole" if kind == "poles" else "voice"])
        if isinstance(pair, str):
            dropped.append(Drop(source=source, reason=pair))
        elif is_sealed([text, *pair]):
            dropped.append(Drop(source=source, reason="shares eight words in a row with a benchmark item"))
        else:
            row = PoleRow if kind == "poles" else VoiceRow
            kept.append(row(id=source, trait=trait, prompt=text, chosen=pair[0], rejected=pair[1]))
    return Generated(kept, dropped)


def _systems(constitution: Constitution, kind: Kind) -> tuple[str, str]:
    """What the chosen and the rejected side are told."""
    other = constitution.inverted().system_prompt() + "\n" if kind == "poles" else ""
    return f"{constitution.system_prompt()}\n{BRIEFLY}", f"{other}{BRIEFLY}"


def _nearest(sides: Sequence[Sequence[Reply]], constitution: Constitution, tolerance: int) -> tuple[str, str] | str:
    """The sound pair whose lengths in words are nearest, or why there is none."""
    faults = [[fault(reply, constitution) for reply in side] for side in sides]
    sound = [
        [reply.text for reply, reason in zip(side, reasons, strict=True) if reason is None]
        for side, reasons in zip(sides, faults, strict=True)
    ]
    for name, texts, reasons in zip(("chosen", "rejected"), sound, faults, strict=True):
        if not texts:
            return f"every {name} reply was refused: {reasons[0]}"
    chosen, rejected = min(product(*sound), key=lambda pair: abs(words(pair[0]) - words(pair[1])))
    if chosen == rejected:
        return "both sides answer the same"
    if abs(words(chosen) - words(rejected)) > tolerance:
        return f"no two answers within {tolerance} words of each other"
    return chosen, rejected
