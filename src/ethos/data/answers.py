"""A teacher's structured answers, read strictly: the one object that was asked for, or the reason why there is none.

A code fence around the whole answer is taken off, since most teachers put one; nothing else is forgiven.
"""

import re
from typing import TypeVar

from pydantic import ValidationError

from ethos.records import Record, assistant, explain, user
from ethos.samplers.replies import CUT_OFF, Reply, Request, derived_seed

FENCE = re.compile(r"\A\s*```[a-z]*\n(.*?)\n?```\s*\Z", re.DOTALL)

R = TypeVar("R", bound=Record)


def unfenced(text: str) -> str:
    """A text without the code fence around it."""
    found = FENCE.match(text)
    return found.group(1) if found else text


def read_answer(reply: Reply, kind: type[R]) -> R | str:
    """The record that a reply holds as JSON, or why it holds none."""
    if reply.finish == "length":
        return CUT_OFF
    try:
        return kind.model_validate_json(unfenced(reply.text), strict=True)
    except ValidationError as error:
        if any(fault["type"] == "json_invalid" for fault in error.errors()):
            return "not the JSON that was asked for"
        return f"not the JSON that was asked for: {explain(error)}"


def follow_up(request: Request, reply: Reply, text: str, *, max_tokens: int) -> Request:
    """The same conversation, one exchange longer: the reply, and what is asked about it."""
    return Request(
        messages=[*request.messages, assistant(reply.text), user(text)],
        max_tokens=max_tokens,
        temperature=request.temperature,
        seed=derived_seed(request.seed, len(request.messages)),
    )


def longest(request: Request) -> Reply:
    """A reply as long as a request allows, for foresight: four characters a token, as bounds are estimated."""
    return Reply(text="word" * request.max_tokens, num_tokens=request.max_tokens, finish="stop")
