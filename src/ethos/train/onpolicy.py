"""Replies of the student as it is at this step: the data of every on-policy method.

A unit comes with a prompt and leaves with sampled sequences, as token ids: nothing is decoded and encoded again,
so what is trained is what was sampled. Seeds derive from run seed, step and place, so a resumed run samples the same.
"""

from collections.abc import Sequence
from functools import partial

from peft import PeftModel
from pydantic import Field

from ethos.chat import Chat, Rendered
from ethos.records import Message, Record
from ethos.samplers.local import generate
from ethos.samplers.replies import Request, derived_seed
from ethos.train import ranks
from ethos.train.loop import Unit


class Sampling(Record):
    """How the student is asked."""

    replies: int = Field(1, gt=0)
    """Replies to each prompt."""
    max_tokens: int = Field(64, gt=0)
    """A longer reply is trained on as far as it got; its missing end carries no loss."""
    temperature: float = Field(1.0, gt=0)
    """1 samples from the policy itself, which is what the on-policy gradients assume."""


def prompt_unit(prompt: Sequence[Message], *, source: str, teacher_prompt: Sequence[Message] = ()) -> Unit:
    """A unit to sample for: the student continues `prompt`, the teacher judges it under `teacher_prompt`."""
    return Unit((), source=source, prompt=tuple(prompt), teacher_prompt=tuple(teacher_prompt))


def with_replies(
    model: PeftModel, chat: Chat, units: Sequence[Unit], settings: Sampling, *, seed: int, step: int
) -> list[Unit]:
    """The units with sequences sampled now, and the same replies in the teacher's context where there is one."""
    requests = [
        Request(
            messages=list(unit.prompt),
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=derived_seed(seed, step, place, reply),
        )
        for place, unit in enumerate(units)
        for reply in range(settings.replies)
    ]
    replies = iter(ranks.divided(model, partial(generate, model, chat), requests))
    filled = []
    for unit in units:
        own = [next(replies) for _ in range(settings.replies)]
        filled.append(
            unit._replace(
                sequences=tuple(continued(chat, unit.prompt, reply) for reply in own),
                teacher=tuple(continued(chat, unit.teacher_prompt, reply) for reply in own if unit.teacher_prompt),
            )
        )
    return filled


def continued(chat: Chat, prompt: Sequence[Message], reply: Sequence[int]) -> Rendered:
    """A reply's tokens after a prompt, all of them scored."""
    head = chat.prompt(prompt)
    return Rendered((*head, *reply), (*[False] * len(head), *[True] * len(reply)))
