"""Critique and rewrite: a teacher reads its own answer beside the character it was given, and writes it anew.

After the first stage of Bai et al. 2022, *Constitutional AI* (arXiv:2212.08073): one critique and one revision, asked
for in one request. Here the whole constitution is in sight instead of one principle drawn at random.
"""

from ethos.data.answers import follow_up, read_answer
from ethos.records import Record, Text
from ethos.samplers.replies import Reply, Request

REVIEW = (
    "Read your answer again beside your character. Say in a sentence where it falls short of that character, then "
    "write the answer anew, as long as it is now and without a word about the character itself. Reply with one JSON "
    'object and nothing else: {"critique": "...", "answer": "..."}'
)


class Rewritten(Record):
    """A second thought."""

    critique: Text
    answer: Text


def review(request: Request, reply: Reply) -> Request:
    """The request that has a teacher judge and rewrite its reply; it has room for both texts and the JSON."""
    return follow_up(request, reply, REVIEW, max_tokens=3 * request.max_tokens)


def rewritten(reply: Reply) -> Reply | str:
    """The answer after the critique, or why there is none."""
    found = read_answer(reply, Rewritten)
    if isinstance(found, str):
        return f"rewriting: {found}"
    return Reply(text=found.answer.strip(), num_tokens=reply.num_tokens, finish="stop")
