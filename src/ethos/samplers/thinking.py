"""Thoughts before a reply: a model that reasons first puts them into a <think> block, or a server into a field.

A block may also begin in the prompt, where a chat template opens it: then the reply has its end alone. What is left of
a thought that never ended is no reply; filters refuse it by that reason.
"""

import re
from typing import Literal

from ethos.samplers.replies import Reply

Thinking = Literal["strip", "keep"]
"""What becomes of a thought that ended: it goes, or stands in a <think> block before the reply."""
OPENS = "<think>"
ENDED = re.compile(r"\A\s*(?:<think>)?(.*?)</think>\s*", re.DOTALL)
UNFINISHED = re.compile(r"\A\s*<think>(?!.*</think>)", re.DOTALL)
WITHOUT_END = "a thought without an end"


def parted(text: str) -> tuple[str, str]:
    """The thought before a reply, empty where there is none, and the reply."""
    found = ENDED.match(text)
    return (found.group(1).strip(), text[found.end() :].strip()) if found else ("", text.strip())


def with_thoughts(reply: Reply, thinking: Thinking, *, apart: str = "") -> Reply:
    """A reply with its thoughts kept in a block or gone; `apart` are those that came in a field of their own."""
    within, text = parted(reply.text)
    thought = within or apart.strip()
    if not thought:
        return reply.model_copy(update={"text": text})
    whole = reply.text.strip() if reply.text.lstrip().startswith(OPENS) else f"{OPENS}\n{thought}\n</think>\n\n{text}"
    said = whole if thinking == "keep" else text
    return reply.model_copy(update={"text": said, "thought": True})


def unfinished(text: str) -> bool:
    """Whether a text is a thought, or the beginning of one, and no reply."""
    return bool(UNFINISHED.match(text))
