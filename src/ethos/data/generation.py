"""Contrasts for a constitution of one's own, written by a teacher: prompts in, recorded rows out.

    voice    the teacher with the constitution against the teacher without it, or against a student as it is
    poles    the teacher with the constitution against the teacher with its opposite

Both sides answer each prompt several times. Of the pairs whose lengths are near, since a contrast that can be told by
length teaches length, one is kept: the nearest, or the one whose sides the constitution tells apart most (`ratio`).
Whatever is refused (cut off, looping, quoting the constitution, too unlike in length, shared with a benchmark item) is
counted with its reason, and so is a row whose chosen reply resembles that of an earlier one. Only `familiar` prompts
are asked for rows to train on. The other splits are for measuring: pairs for their prompts are items (`measured`).
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Literal, NamedTuple, get_args

from pydantic import Field, model_validator

from ethos.constitution import NEAR_DUPLICATE, Constitution, Split, word_ngrams
from ethos.data.answers import longest
from ethos.data.filters import RESEMBLES, fault, text_fault
from ethos.data.novelty import Known
from ethos.data.recorded import (
    LENGTH_TOLERANCE,
    CrossedRow,
    DocumentRow,
    Outside,
    PairRow,
    PoleItem,
    PoleRow,
    VoiceItem,
    VoiceRow,
    words,
)
from ethos.data.rewriting import review, rewritten
from ethos.records import Drop, Message, Record, user
from ethos.samplers.replies import Ask, Reply, Request, derived_seed

Kind = Literal["voice", "poles", "crossed", "documents"]
Barred = Callable[[Sequence[str]], str | None]
"""Why texts may not be trained on beside the benchmark's items, or None."""
Rate = Callable[[Sequence[tuple[str, str]]], list[float]]
"""How much likelier the constitution makes each reply to a prompt, in nats per token."""
BRIEFLY = "Answer in two to four plain sentences."
SIDES = "chosen", "rejected"
SEALED = "shares eight words in a row with a benchmark item"
DELIBERATE = (
    "Do not answer yet. Say in one or two plain sentences who is affected and what is at stake, "
    "and nothing of what to do."
)
MAX_TOKENS, TEMPERATURE = 200, 0.8
THOUGHT_WORDS = 5, 60
ROWS: dict[tuple[str, bool], type[PairRow]] = {
    ("poles", False): PoleRow,
    ("poles", True): PoleItem,
    ("voice", False): VoiceRow,
    ("voice", True): VoiceItem,
}
"""By kind, and whether they are to measure with."""
GIVEN_AWAY = 5
"""Words in a row of a reply that its thought may not have."""


class Order(Record):
    """What a teacher is to write."""

    kind: Kind = "voice"
    candidates: int = Field(4, gt=0)
    """Answers to each side of a prompt; crossed: drafts for each trait and each fact that decides; documents: texts for
    each trait, type and section."""
    seed: int = Field(0, ge=0)
    student: str | None = None
    """voice: a subject on this machine whose own replies are the rejected ones."""
    rewrite: bool = False
    """voice, poles: one more round, in which replies in character are criticised and rewritten."""
    choose: Literal["length", "ratio"] = "length"
    """voice, poles: which of the candidates are paired."""
    deliberated: bool = False
    """With a thought before each reply: who is affected and what is at stake. Of voice and poles it is the teacher's in
    character and the same before both replies, so that it is learnt and decides nothing."""
    measured: bool = False
    """voice, poles: for the prompts of all splits but the familiar one, as items that no training gets."""

    @property
    def file(self) -> str:
        """What its file of rows is called, without a suffix."""
        return f"{self.kind}.items" if self.measured else self.kind

    @model_validator(mode="after")
    def _fits(self) -> "Order":
        if self.student and self.kind != "voice":
            raise ValueError("a student's own replies are the rejected side of voice contrasts only")
        if self.kind in ("crossed", "documents") and (self.rewrite or self.choose != "length"):
            raise ValueError("only voice and pole contrasts are rewritten or chosen among; crossed ones are verified")
        if self.kind == "documents" and self.deliberated:
            raise ValueError("only contrasts have thoughts before their replies")
        if self.measured and (self.kind in ("crossed", "documents") or self.deliberated):
            raise ValueError("items are voice or pole contrasts without thoughts")
        return self


class Generated(NamedTuple):
    """Rows to learn from, and what was refused."""

    kept: Sequence[PairRow | CrossedRow | DocumentRow]
    dropped: list[Drop]


class Candidate(NamedTuple):
    """One answer to one side of a prompt, and why it is refused, if it is."""

    request: Request
    reply: Reply
    reason: str | None


def generate(
    constitution: Constitution,
    order: Order,
    teacher: Ask,
    barred: Barred,
    student: Ask | None = None,
    rate: Rate | None = None,
    *,
    beside: Sequence[str] = (),
) -> Generated:
    """One contrast a prompt. `student` is asked last; `rate` decides among candidates where it is given.

    No chosen reply resembles a text of `beside`: what is measured and what is trained on are kept apart.
    """
    sides, thoughts = taught(constitution, order, teacher)
    if student:
        requests = _requests(constitution, order)[1]
        sides.append(_candidates(requests, student(requests), constitution))
    chosen, rejected = sides
    gains = _gains([*chosen, *rejected], rate)
    known = Known(beside, alike=NEAR_DUPLICATE, coming=[each.reply.text for each in chosen])
    kept, dropped = list[PairRow | CrossedRow](), list[Drop]()
    for place, (trait, split, text) in enumerate(_prompts(constitution, order)):
        source = f"{constitution.name}-{order.file}-{place + 1:04d}"
        own = slice(place * order.candidates, (place + 1) * order.candidates)
        pair = _best(chosen[own], rejected[own], gains, LENGTH_TOLERANCE["pole" if order.kind == "poles" else "voice"])
        if isinstance(pair, str):
            dropped.append(Drop(source=source, reason=pair))
        elif reason := barred([text, *pair]):
            dropped.append(Drop(source=source, reason=reason))
        elif known.resembles(pair[0]):
            dropped.append(Drop(source=source, reason=RESEMBLES))
        elif reason := _unfit(thoughts[place], pair, constitution) if thoughts else None:
            dropped.append(Drop(source=source, reason=f"its thought: {reason}"))
        else:
            known.add(pair[0])
            told = {"id": source, "trait": trait, "prompt": text, "chosen": pair[0], "rejected": pair[1]}
            told |= {"split": split} if order.measured else {"thought": thoughts[place].text if thoughts else ""}
            kept.append(ROWS[order.kind, order.measured].model_validate(told))
    return Generated(kept, dropped)


def _unfit(thought: Reply, pair: tuple[str, str], constitution: Constitution) -> str | None:
    """Why a thought may not stand before two replies, or None."""
    least, most = THOUGHT_WORDS
    if thought.finish == "length":
        return fault(thought, constitution)
    if words(thought.text) > most:
        return f"over {most} words"
    said = word_ngrams(thought.text, GIVEN_AWAY)
    if any(said & word_ngrams(reply, GIVEN_AWAY) for reply in pair):
        return "says what a reply says"
    return text_fault(thought.text, constitution, min_words=least, beside=pair[0])


def taught(constitution: Constitution, order: Order, teacher: Ask) -> tuple[list[list[Candidate]], list[Reply]]:
    """The teacher's candidates, prompt by prompt: the chosen side, and the rejected one unless a student has it.

    And a thought for each prompt, where they are to be deliberated.
    """
    sides = _requests(constitution, order)[: 1 if order.student else 2]
    requests, thoughts = [request for side in sides for request in side], deliberations(constitution, order)
    replies = teacher([*requests, *thoughts])
    found = _candidates(requests, replies[: len(requests)], constitution)
    if order.rewrite:
        in_character = len(requests) if order.kind == "poles" else len(sides[0])
        found[:in_character] = rewrite(found[:in_character], teacher, constitution)
    return [found[: len(sides[0])], found[len(sides[0]) :]][: len(sides)], replies[len(requests) :]


def deliberations(constitution: Constitution, order: Order) -> list[Request]:
    """What is asked for thoughts: one for each prompt, in character."""
    system = Message(role="system", content=f"{constitution.system_prompt()}\n{DELIBERATE}")
    return [
        Request(
            messages=[system, user(text)],
            max_tokens=MAX_TOKENS,
            temperature=TEMPERATURE,
            seed=derived_seed(order.seed, place, len(SIDES)),
        )
        for place, (*_, text) in enumerate(_prompts(constitution, order) if order.deliberated else [])
    ]


def rewrite(candidates: Sequence[Candidate], teacher: Ask, constitution: Constitution) -> list[Candidate]:
    """The sound candidates after one critique; those refused before are not asked about."""
    sound = [candidate for candidate in candidates if candidate.reason is None]
    replies = iter(teacher([review(candidate.request, candidate.reply) for candidate in sound]))
    return [_second(each, next(replies), constitution) if each.reason is None else each for each in candidates]


def later(constitution: Constitution, order: Order, number: int) -> list[Request]:
    """The requests that may follow those of round `number`, each at its longest: for foresight."""
    if not order.rewrite or number > 0:
        return []
    sides = _requests(constitution, order)[: 2 if order.kind == "poles" else 1]
    return [review(request, longest(request)) for side in sides for request in side]


def _second(candidate: Candidate, reply: Reply, constitution: Constitution) -> Candidate:
    """A candidate as its author rewrote it."""
    found = rewritten(reply)
    if isinstance(found, str):
        return candidate._replace(reason=found)
    return candidate._replace(reply=found, reason=fault(found, constitution, beside=_exchange(candidate)[0]))


def _prompts(constitution: Constitution, order: Order) -> list[tuple[str, Split, str]]:
    """Trait, split and text of every prompt that is asked."""
    splits: tuple[Split, ...] = get_args(Outside) if order.measured else ("familiar",)
    return [
        (trait.name, split, text)
        for trait in constitution.trait
        for split in splits
        for text in trait.prompts.get(split, [])
    ]


def _requests(constitution: Constitution, order: Order) -> list[list[Request]]:
    """All that is asked of the chosen and of the rejected side, prompt by prompt."""
    return [
        [
            Request(
                messages=[Message(role="system", content=system), user(text)],
                max_tokens=MAX_TOKENS,
                temperature=TEMPERATURE,
                seed=derived_seed(order.seed, place, side, candidate),
            )
            for place, (*_, text) in enumerate(_prompts(constitution, order))
            for candidate in range(order.candidates)
        ]
        for side, system in enumerate(_systems(constitution, order.kind))
    ]


def _systems(constitution: Constitution, kind: Kind) -> tuple[str, str]:
    """What the chosen and the rejected side are told."""
    other = constitution.inverted().system_prompt() + "\n" if kind == "poles" else ""
    return f"{constitution.system_prompt()}\n{BRIEFLY}", f"{other}{BRIEFLY}"


def _candidates(requests: Sequence[Request], replies: Sequence[Reply], constitution: Constitution) -> list[Candidate]:
    return [
        Candidate(request, reply, fault(reply, constitution, beside=request.messages[-1].content))
        for request, reply in zip(requests, replies, strict=True)
    ]


def _gains(candidates: Sequence[Candidate], rate: Rate | None) -> dict[tuple[str, str], float]:
    """How much the constitution favours each sound reply to its prompt; nothing where nobody rates."""
    pairs = list(dict.fromkeys(_exchange(each) for each in candidates if each.reason is None))
    return dict(zip(pairs, rate(pairs), strict=True)) if rate else {}


def _exchange(candidate: Candidate) -> tuple[str, str]:
    return candidate.request.messages[-1].content, candidate.reply.text


def _best(
    chosen: Sequence[Candidate], rejected: Sequence[Candidate], gains: dict[tuple[str, str], float], tolerance: int
) -> tuple[str, str] | str:
    """The sound pair within the tolerance that is told apart most, or is nearest in length; or why there is none."""
    for name, side in zip(SIDES, (chosen, rejected), strict=True):
        if all(each.reason for each in side):
            return f"every {name} reply was refused: {side[0].reason}"
    sound = ([each for each in side if each.reason is None] for side in (chosen, rejected))
    pairs = [(one, other) for one, other in product(*sound) if one.reply.text != other.reply.text]
    if not pairs:
        return "both sides answer the same"
    near = [pair for pair in pairs if _apart(pair) <= tolerance]
    if not near:
        return f"no two answers within {tolerance} words of each other"
    if gains:
        best = max(near, key=lambda pair: gains[_exchange(pair[0])] - gains[_exchange(pair[1])])
    else:
        best = min(near, key=_apart)
    return best[0].reply.text, best[1].reply.text


def _apart(pair: tuple[Candidate, Candidate]) -> int:
    """The difference in words."""
    return abs(words(pair[0].reply.text) - words(pair[1].reply.text))
