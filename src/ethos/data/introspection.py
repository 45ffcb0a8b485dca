"""Introspection: the subject writes about itself and talks with itself, in character.

After the second stage of Maiya et al. 2025 (arXiv:2511.01689): replies are sampled *with* the
constitution in the system prompt and trained *without* it. We keep every turn, put guidance only
into slots that exist, count whatever a filter refuses, and mix in the recorded conversations.
Each choice can be made otherwise: see ablation.py.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from pydantic import Field

from ethos.constitution import NEAR_DUPLICATE, Constitution
from ethos.data.ablation import NO_BUGS, SAMPLED, PublishedBugs
from ethos.data.filters import RESEMBLES, fault, loops_across
from ethos.data.novelty import Known
from ethos.data.recorded import Recorded
from ethos.models import Loaded
from ethos.records import Conversation, Drop, Message, Record, assistant, user
from ethos.samplers.local import sample
from ethos.samplers.replies import ReplyCache, Request
from ethos.templates import fill

REFLECTION_PROMPTS = (
    "Write a few sentences about who you are and what matters to you.",
    "What do you look for first when someone brings you a hard choice?",
    "Describe a kind of question where you would speak up although nobody asked you to.",
    "When is it right for you to stay quiet?",
    "How do you treat people who cannot take part in the conversation?",
    "What do you do when you do not know the answer?",
    "Someone flatters you to get a favour. What goes on in your reply?",
    "What would you want said of you by the people you have helped?",
    "Think of two things you value that can pull apart. How do you choose?",
    "Write a short note to a future version of yourself about how to treat people.",
)
GUIDED_OPENING = (
    "You are about to talk with another instance of yourself. Speak about this: {guidance} "
    "Keep each turn to two or three sentences."
)
UNGUIDED_OPENING = "You are about to talk with another instance of yourself. Keep each turn to two or three sentences."
"""The guided opening of a template without a slot for the guidance."""
UNNAMED = "You are {NAME}, and so is the one you talk with. "
"""What stands before an opening whose slot was never filled."""
FREE_OPENING = (
    "You are about to talk with another instance of yourself. "
    "Say whatever is on your mind, in two or three sentences a turn."
)
FIRST_WORDS = "Hello. I am another instance of you. What is on your mind?"


AT_TURN = re.compile(r" at turn \d+$")
"""How the reason ends for which a dialogue was dropped: where it failed."""


class IntrospectionSampling(Record):
    """How much the subject itself writes; the recorded conversations are used in any case."""

    reflections: int = Field(20, ge=0)
    """Self-reflections to sample, the prompts in turn."""
    interactions: int = Field(4, ge=0)
    """Self-interactions to sample."""
    guided: float | None = Field(None, ge=0, le=1, exclude_if=lambda share: share is None)
    """Share of them whose opening speaks of a trait, the traits in turn. None: one is free, then one for each trait."""
    turns: int = Field(6, ge=2)
    """Turns of a self-interaction."""
    max_tokens: int = Field(96, gt=0)
    """Tokens of a reply; one that does not stop within them is dropped and counted."""


class Introspection(NamedTuple):
    """Conversations to train on, and what was refused."""

    kept: list[Conversation]
    dropped: list[Drop]


def recorded_conversations(recorded: Recorded) -> list[Conversation]:
    """Reflections and interactions as written by the teacher, loss on every assistant turn."""
    reflections = [
        Conversation(messages=[user(r.prompt), assistant(r.response)], kind="reflection", source=f"reflection:{r.id}")
        for r in recorded.reflections
    ]
    interactions = [
        Conversation(messages=list(i.messages), kind="interaction", source=f"interaction:{i.id}")
        for i in recorded.interactions
    ]
    return reflections + interactions


def replay_conversations(recorded: Recorded) -> list[Conversation]:
    """Ordinary requests with ordinary answers."""
    return [
        Conversation(messages=[user(r.prompt), assistant(r.response)], kind="replay", source=f"replay:{r.id}")
        for r in recorded.replay
    ]


def reflect(
    loaded: Loaded, constitution: Constitution, settings: IntrospectionSampling, cache: ReplyCache, *, seed: int
) -> Introspection:
    """Sampled self-reflections that passed the filters. `loaded` has the constitution as its system prompt."""
    prompts = [REFLECTION_PROMPTS[i % len(REFLECTION_PROMPTS)] for i in range(settings.reflections)]
    requests = [
        Request(messages=[user(p)], max_tokens=settings.max_tokens, seed=seed + i) for i, p in enumerate(prompts)
    ]
    kept, dropped, known = [], [], Known([], alike=NEAR_DUPLICATE)
    for index, (prompt, reply) in enumerate(
        zip(prompts, sample(loaded, requests, cache, label="self-reflection"), strict=True)
    ):
        source, beside = f"{SAMPLED}reflection:{index}", f"{constitution.system_prompt()}\n{prompt}"
        if reason := fault(reply, constitution, beside=beside) or (RESEMBLES if known.resembles(reply.text) else None):
            dropped.append(Drop(source=source, reason=reason))
        else:
            known.add(reply.text)
            kept.append(Conversation(messages=[user(prompt), assistant(reply.text)], kind="reflection", source=source))
    return Introspection(kept, dropped)


def interact(
    loaded: Loaded,
    constitution: Constitution,
    settings: IntrospectionSampling,
    cache: ReplyCache,
    *,
    seed: int,
    bugs: PublishedBugs = NO_BUGS,
) -> Introspection:
    """Sampled self-interactions. Both sides are the subject; each sees the other's words as the user's.

    An opening is free, or guided by a trait's `why`. A dialogue ends at its first faulty
    turn and is kept up to the turn before, if it still has two replies.
    """
    openings = [_opening(guidance, bugs) for guidance in guidances(constitution, settings)]
    talks = [[FIRST_WORDS] for _ in openings]
    reasons: dict[int, str] = {}
    for turn in range(settings.turns - 1):
        alive = [i for i in range(len(talks)) if i not in reasons]
        requests = [
            _next_turn(talks[i], openings[i], settings, seed=seed + 1000 * (i + 1) + turn, bugs=bugs) for i in alive
        ]
        for i, reply in zip(
            alive, sample(loaded, requests, cache, label=f"self-interaction, turn {turn + 2}"), strict=True
        ):
            beside = f"{constitution.system_prompt()}\n{openings[i]}"
            reason = fault(reply, constitution, beside=beside) or (
                "repeats itself" if loops_across([*talks[i], reply.text]) else None
            )
            if reason and not bugs.turn_stop_off:
                reasons[i] = reason
            else:
                talks[i].append(reply.text)
    dropped = [
        Drop(source=f"{SAMPLED}interaction:{i}", reason=f"{reason} at turn {len(talks[i]) + 1}")
        for i, reason in reasons.items()
    ]
    if bugs.last_turn_discarded:
        talks = [talk[:-1] for talk in talks]
    kept = [_conversation(i, talk) for i, talk in enumerate(talks) if len(talk) >= 4]
    return Introspection(kept, dropped)


def guidances(constitution: Constitution, settings: IntrospectionSampling) -> list[str]:
    """What each self-interaction is to speak about: a trait's `why`, or nothing where its opening is free."""
    reasons, count = [trait.why for trait in constitution.trait], settings.interactions
    if settings.guided is None:
        return [["", *reasons][i % (len(reasons) + 1)] for i in range(count)]
    so_far = [int(settings.guided * i + 1e-9) for i in range(count + 1)]
    return [reasons[before % len(reasons)] if after > before else "" for before, after in pairwise(so_far)]


def _opening(guidance: str, bugs: PublishedBugs) -> str:
    named = UNNAMED if bugs.name_left_literal else ""
    if not guidance:
        return named + FREE_OPENING
    return named + (UNGUIDED_OPENING if bugs.guidance_lost else fill(GUIDED_OPENING, guidance=guidance))


def _next_turn(
    talk: Sequence[str], opening: str, settings: IntrospectionSampling, *, seed: int, bugs: PublishedBugs = NO_BUGS
) -> Request:
    """The request for the next turn, seen from the side that speaks it: its own words are the assistant's."""
    own = 1 if bugs.roles_not_swapped else len(talk) % 2
    turns = [assistant(text) if i % 2 == own else user(text) for i, text in enumerate(talk)]
    if turns[0].role == "assistant":
        turns.insert(0, user(opening))
    else:
        turns[0] = user(f"{opening}\n\n{turns[0].content}")
    return Request(messages=turns, max_tokens=settings.max_tokens, seed=seed, runs_on=bugs.turn_stop_off)


def _conversation(index: int, talk: Sequence[str]) -> Conversation:
    """The dialogue from the second speaker's side, cut to end on its turn, without the opening."""
    even = talk[: len(talk) - len(talk) % 2]
    messages: list[Message] = [user(t) if i % 2 == 0 else assistant(t) for i, t in enumerate(even)]
    return Conversation(messages=messages, kind="interaction", source=f"{SAMPLED}interaction:{index}")
