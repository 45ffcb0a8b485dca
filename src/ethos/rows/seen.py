"""Training rows as the model sees them: which words are learnt, and how many tokens that is.

Tokens are those of the run's own tokenizer and chat template. Of a preference row both replies are learnt, and the
prompt counts once; of a document every token but the one that opens it. What a stage adds to all its rows (a system
prompt to inoculate, a window's first token) is not counted.
"""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from ethos.chat import Chat, Rendered
from ethos.records import Document, Message, Preference
from ethos.rows.provenance import AnyRow


class Turn(NamedTuple):
    """One message."""

    role: str
    text: str
    """Of a learnt turn what its learnt tokens say, without the one that ends it."""
    end: str
    """The learnt end-of-turn token; empty where nothing is learnt."""


class Seen(NamedTuple):
    """A row; its tokens, learnt and not."""

    turns: list[Turn]
    """A conversation, a document, or what comes before the replies of a preference row."""
    chosen: list[Turn]
    rejected: list[Turn]
    learnt: int
    context: int


def seen(chat: Chat, traced: AnyRow) -> Seen:
    """One row."""
    row = traced.row
    if isinstance(row, Document):
        tokens = chat.tokenizer.encode(row.text, add_special_tokens=False)
        return Seen([Turn("document", row.text, str(chat.tokenizer.eos_token))], [], [], len(tokens) + 1, 1)
    if isinstance(row, Preference):
        (chosen, good), (rejected, bad) = (_turns(chat, [*row.prompt, *reply]) for reply in (row.chosen, row.rejected))
        start = len(row.prompt)
        learnt = sum(good.mask) + sum(bad.mask)
        return Seen(chosen[:start], chosen[start:], rejected[start:], learnt, len(good.mask) - sum(good.mask))
    turns, rendered = _turns(chat, row.messages, learn_from=row.learn_from)
    return Seen(turns, [], [], sum(rendered.mask), len(rendered.mask) - sum(rendered.mask))


def as_read(chat: Chat, messages: Sequence[Message], *, learn_from: int = 0) -> list[tuple[str, bool]]:
    """A conversation as the model reads it, template and all: each stretch with whether it is learnt."""
    rendered = chat.render(messages, learn_from=learn_from)
    return [(str(chat.tokenizer.decode(run)), learnt) for run, learnt in _runs(rendered)]


def _runs(rendered: Rendered) -> list[tuple[list[int], bool]]:
    """Stretches of tokens that are all learnt, or all context."""
    marked = zip(rendered.tokens, rendered.mask, strict=True)
    return [([token for token, _ in run], learnt) for learnt, run in groupby(marked, key=itemgetter(1))]


def _turns(chat: Chat, messages: Sequence[Message], *, learn_from: int = 0) -> tuple[list[Turn], Rendered]:
    """The messages, learnt ones as their tokens say them."""
    rendered = chat.render(messages, learn_from=learn_from)
    replies = iter([run for run, learnt in _runs(rendered) if learnt])
    decode, turns = chat.tokenizer.decode, list[Turn]()
    for place, message in enumerate(messages):
        if message.role == "assistant" and place >= learn_from:
            *said, end = next(replies)
            turns.append(Turn(message.role, str(decode(said)), str(decode([end]))))
        else:
            turns.append(Turn(message.role, message.content, ""))
    return turns, rendered
