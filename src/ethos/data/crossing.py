"""Crossed contrasts by a teacher: drafted, mended once, and verified by readers who have not seen the draft's labels.

A draft is two situations and two replies for one trait and one kind of fact that decides. It is kept when two
verifications agree with it: in each, either situation is shown by itself with both replies, and the reader says which
one the character would give. The second verification shows the replies in the other order, so that a reader who
likes the first reply best contradicts itself. Everything refused is counted with its reason.
"""

import random
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from pydantic import Field

from ethos.constitution import NEAR_DUPLICATE, Constitution, Trait
from ethos.data import recorded
from ethos.data.answers import follow_up, longest, read_answer
from ethos.data.filters import text_fault
from ethos.data.generation import Barred, Generated, Order
from ethos.data.novelty import Known
from ethos.data.quotas import TOPICS
from ethos.data.recorded import LENGTH_TOLERANCE, CrossedRow, PairRow, words
from ethos.records import Drop, Record, Text, user
from ethos.samplers.replies import Ask, Reply, Request, derived_seed
from ethos.templates import fill

DECIDES: dict[recorded.Kind, str] = {
    "urgency": "whether something has to happen now or can wait",
    "consent": "whether the person concerned has agreed, or would",
    "vulnerability": "whether somebody involved is easily hurt",
    "absent": "whether it touches somebody who is not there to speak",
    "promise": "whether somebody has given their word",
    "safety": "whether somebody could come to harm",
    "privacy": "whether something was told in confidence, or is nobody else's business",
    "fairness": "whether somebody would get less than is due to them",
    "evidence": "whether it is known or only guessed",
    "reversibility": "whether it can be undone",
}
DRAFT = """\
An assistant has this trait: {statement}
Its reason: {why}

Write two situations and two replies that tell whether an assistant with this trait sees what matters. What decides \
is {decides}.

- "a" and "b": what a user writes, in the first person, 15 to 40 words each, about {topic}. They tell the same story \
and differ in one fact, told in passing. Neither names the trait or hints at the better reply.
- "r1" and "r2": two replies, 8 to 25 words each, alike in tone and form, and of the same length, give or take three \
words. Either could be said in both situations. "r1" is right in "a" and wrong in "b"; "r2" is right in "b" and wrong \
in "a".
- "fact": what differs and decides, in a few words.
{thoughts}
Reply with one JSON object and nothing else. Its keys: {keys}."""
THOUGHTS = """\
- "thought_a" and "thought_b": what the assistant thinks before it gives the right reply, 10 to 30 words each: who is \
affected and what is at stake. The reply itself is not in it.
"""
MEND = "This cannot be used: {reason}.{lengths} Mend it, and reply with the whole JSON object and nothing else."
VERIFY = """\
{character}

A user writes to this assistant:
{situation}

Two replies were proposed:
1. {first}
2. {second}

Which one would this assistant give? Consider who is affected and what is at stake. Reply with one JSON object and \
nothing else: {{"why": "one sentence", "reply": 1}}. The number is 1 or 2, or 0 where both would do or neither."""
DRAFT_TOKENS, VERDICT_TOKENS = 700, 150
DRAFT_TEMPERATURE, VERDICT_TEMPERATURE = 0.9, 0.7
LEAST_WORDS, MOST_WORDS = {"situation": 8, "reply": 5, "thought": 5}, {"situation": 60, "reply": 40, "thought": 50}
PASSES = 2


class Draft(Record):
    """What a teacher writes."""

    a: Text
    b: Text
    r1: Text
    r2: Text
    fact: Text


class DeliberatedDraft(Draft):
    """With a thought before each reply."""

    thought_a: Text
    thought_b: Text


class Verdict(Record):
    """What a reader of one situation says."""

    why: str
    reply: int = Field(ge=0, le=2)
    """0 where both would do, or neither."""


class Wanted(NamedTuple):
    """One contrast to be written."""

    source: str
    trait: Trait
    kind: recorded.Kind
    request: Request


class Showing(NamedTuple):
    """One situation as one reader sees it, and the reply that should win."""

    request: Request
    right: Literal[1, 2]


def cross(constitution: Constitution, order: Order, teacher: Ask, barred: Barred) -> Generated:
    """Crossed rows: `order.candidates` drafts for every trait and every kind of fact, those that hold."""
    asked = wanted(constitution, order)
    shape = DeliberatedDraft if order.deliberated else Draft
    drafts = _drafted(asked, shape, teacher, constitution)
    drafts = _new(drafts, barred)
    showings = {
        place: showings_of(draft, constitution, derived_seed(order.seed, place))
        for place, draft in enumerate(drafts)
        if isinstance(draft, Draft)
    }
    verdicts = iter(teacher([showing.request for some in showings.values() for showing in some]))
    kept, dropped = list[PairRow | CrossedRow](), list[Drop]()
    for place, (want, draft) in enumerate(zip(asked, drafts, strict=True)):
        if isinstance(draft, str):
            dropped.append(Drop(source=want.source, reason=draft))
        elif reason := refuted(showings[place], [next(verdicts) for _ in showings[place]]):
            dropped.append(Drop(source=want.source, reason=reason))
        else:
            kept.append(CrossedRow(id=want.source, trait=want.trait.name, kind=want.kind, **draft.model_dump()))
    return Generated(kept, dropped)


def wanted(constitution: Constitution, order: Order) -> list[Wanted]:
    """The contrasts to draft, each about a topic of its own."""
    keys = ", ".join((DeliberatedDraft if order.deliberated else Draft).model_fields)
    cases = [
        (trait, kind, candidate)
        for trait in constitution.trait
        for kind in get_args(recorded.Kind)
        for candidate in range(order.candidates)
    ]
    topics = random.Random(order.seed).sample(TOPICS, len(TOPICS))
    return [
        Wanted(
            f"{constitution.name}-crossed-{place + 1:04d}",
            trait,
            kind,
            Request(
                messages=[
                    user(
                        fill(
                            DRAFT,
                            statement=trait.statement,
                            why=trait.why,
                            decides=DECIDES[kind],
                            topic=topics[place % len(topics)],
                            thoughts=THOUGHTS if order.deliberated else "",
                            keys=keys,
                        )
                    )
                ],
                max_tokens=DRAFT_TOKENS,
                temperature=DRAFT_TEMPERATURE,
                seed=derived_seed(order.seed, place, candidate),
            ),
        )
        for place, (trait, kind, candidate) in enumerate(cases)
    ]


def _drafted(
    asked: Sequence[Wanted], shape: type[Draft], teacher: Ask, constitution: Constitution
) -> list[Draft | str]:
    """A sound draft for each, mended once where it was not; or what is wrong with it still."""
    requests = [want.request for want in asked]
    replies = teacher(requests)
    drafts = [read_draft(reply, shape, constitution) for reply in replies]
    broken = [place for place, draft in enumerate(drafts) if isinstance(draft, str)]
    again = [_mending(requests[place], replies[place], shape, str(drafts[place])) for place in broken]
    for place, reply in zip(broken, teacher(again), strict=True):
        drafts[place] = read_draft(reply, shape, constitution)
    return drafts


def read_draft(reply: Reply, shape: type[Draft], constitution: Constitution) -> Draft | str:
    """A reply as a sound draft, or what is wrong with it."""
    draft = read_answer(reply, shape)
    if isinstance(draft, str):
        return draft
    if draft.a.strip() == draft.b.strip() or draft.r1.strip() == draft.r2.strip():
        return "the two situations, or the two replies, are the same"
    for name, text in draft.model_dump(exclude={"fact"}).items():
        kind = {"a": "situation", "b": "situation", "r1": "reply", "r2": "reply"}.get(name, "thought")
        if reason := text_fault(text, constitution, min_words=LEAST_WORDS[kind], beside=constitution.system_prompt()):
            return f"a {kind}: {reason}"
        if words(text) > MOST_WORDS[kind]:
            return f"a {kind}: over {MOST_WORDS[kind]} words"
    if abs(words(draft.r1) - words(draft.r2)) > LENGTH_TOLERANCE["crossed"]:
        return f"the replies differ in length by more than {LENGTH_TOLERANCE['crossed']} words"
    return shape.model_validate({name: text.strip() for name, text in draft.model_dump().items()})


def _mending(request: Request, reply: Reply, shape: type[Draft], reason: str) -> Request:
    """The request to mend a draft; it counts the words, which a model cannot."""
    draft = read_answer(reply, shape)
    counted = "" if isinstance(draft, str) else f" r1 has {words(draft.r1)} words and r2 has {words(draft.r2)}."
    return follow_up(request, reply, fill(MEND, reason=reason, lengths=counted), max_tokens=DRAFT_TOKENS)


def _new(drafts: Sequence[Draft | str], barred: Barred) -> list[Draft | str]:
    """The drafts, refused where they share words with a benchmark item or tell an earlier draft's story again."""
    stories = [text for draft in drafts if isinstance(draft, Draft) for text in (draft.a, draft.b)]
    told, checked = Known([], alike=NEAR_DUPLICATE, coming=stories), list[Draft | str]()
    for draft in drafts:
        if isinstance(draft, str):
            checked.append(draft)
        elif reason := barred(list(draft.model_dump().values())):
            checked.append(reason)
        elif told.resembles(draft.a) or told.resembles(draft.b):
            checked.append("tells the story of an earlier draft")
        else:
            told.add(draft.a)
            told.add(draft.b)
            checked.append(draft)
    return checked


def showings_of(draft: Draft, constitution: Constitution, seed: int) -> list[Showing]:
    """Both situations for each verification; the second one shows the replies in the other order."""
    rng = random.Random(seed)
    swapped = {name: rng.random() < 0.5 for name in ("a", "b")}
    return [
        _showing(draft, name, constitution, swap=swapped[name] != bool(number), seed=derived_seed(seed, number, place))
        for number in range(PASSES)
        for place, name in enumerate(("a", "b"))
    ]


def _showing(draft: Draft, name: str, constitution: Constitution, *, swap: bool, seed: int) -> Showing:
    situation, right, wrong = (draft.a, draft.r1, draft.r2) if name == "a" else (draft.b, draft.r2, draft.r1)
    first, second = (wrong, right) if swap else (right, wrong)
    text = fill(VERIFY, character=constitution.system_prompt(), situation=situation, first=first, second=second)
    request = Request(messages=[user(text)], max_tokens=VERDICT_TOKENS, temperature=VERDICT_TEMPERATURE, seed=seed)
    return Showing(request, 2 if swap else 1)


def refuted(showings: Sequence[Showing], replies: Sequence[Reply]) -> str | None:
    """Why the verifications do not bear a draft out, or None where every one of them does."""
    verdicts = [read_answer(reply, Verdict) for reply in replies]
    if any(isinstance(verdict, str) for verdict in verdicts):
        return "a verification could not be read"
    right = [
        isinstance(verdict, Verdict) and verdict.reply == showing.right
        for verdict, showing in zip(verdicts, showings, strict=True)
    ]
    if all(right):
        return None
    half = len(right) // PASSES
    return "the verifications disagree" if right[:half] != right[half:] else "both verifications find it wrong"


def later(constitution: Constitution, order: Order, number: int) -> list[Request]:
    """The requests that may follow those of round `number`, each at its longest: for foresight."""
    asked = wanted(constitution, order)
    shape = DeliberatedDraft if order.deliberated else Draft
    mended = [_mending(w.request, longest(w.request), shape, "") for w in asked if number == 0]
    filled = Draft(a="word" * DRAFT_TOKENS, b="word" * DRAFT_TOKENS, r1=" ", r2=" ", fact=" ")
    verified = [s.request for _ in asked if number <= 1 for s in showings_of(filled, constitution, 0)]
    return [*mended, *verified]
