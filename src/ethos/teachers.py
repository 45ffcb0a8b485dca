"""A teacher as a function of requests: behind HTTP or on this machine, thinking first or not, within a budget or not.

Replies are kept in a store, so nothing is asked twice. Those of a teacher on this machine are stored as they were
said; what becomes of the thoughts in them is decided when they are read.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ethos.models import Loaded, load_subject
from ethos.samplers.api import Teacher, ask
from ethos.samplers.budget import ESTIMATED, Budget, Prices, Unasked, forecast, only_stored, within
from ethos.samplers.local import LocalTeacher, sample
from ethos.samplers.replies import Ask, Reply, ReplyCache, Request
from ethos.samplers.thinking import Thinking, with_thoughts
from ethos.subjects import find_subject

AnyTeacher = Teacher | LocalTeacher
NO_CAP = Budget()


class Source(NamedTuple):
    """A teacher that can be asked; `loaded` where its weights are on this machine."""

    ask: Ask
    loaded: Loaded | None
    thoughts: Counter[str]
    """Replies that came with a thought before them."""


def source(teacher: AnyTeacher, cache: ReplyCache, *, label: str = "teacher", budget: Budget = NO_CAP) -> Source:
    """A teacher ready to be asked; one on this machine is loaded."""
    loaded: Loaded | None = None
    if isinstance(teacher, Teacher):
        answer: Ask = partial(ask, teacher, cache=cache, label=label)
    else:
        found = find_subject(teacher.subject)
        loaded = load_subject(found.base, found.subject, found.adapter)
        answer = partial(sample, loaded, cache=cache, label=label)
    thoughts = Counter[str]()
    return Source(_asked_as(teacher, within(budget, answer, name_of(teacher), cache), thoughts), loaded, thoughts)


def stored(teacher: AnyTeacher, cache: ReplyCache) -> Ask:
    """The teacher as far as the store holds its replies. Raises Unasked at the first gap."""
    return _asked_as(teacher, only_stored(name_of(teacher), cache), Counter())


@contextmanager
def asked(teacher: AnyTeacher, store: Path) -> Iterator[Ask]:
    """The teacher with its replies kept in `store`."""
    with closing(ReplyCache(store)) as cache:
        yield source(teacher, cache).ask


def name_of(teacher: AnyTeacher) -> str:
    """What the store calls a teacher."""
    return teacher.fingerprint() if isinstance(teacher, Teacher) else find_subject(teacher.subject).subject.digest()


def with_room(requests: Sequence[Request], tokens: int) -> list[Request]:
    """The requests with room for thoughts before the replies."""
    return [request.model_copy(update={"max_tokens": request.max_tokens + tokens}) for request in requests]


def foreseen(gap: Unasked, later: Sequence[Request], teacher: AnyTeacher, prices: Prices | None) -> str:
    """What is left to ask, in words: requests, tokens, dollars, minutes. `later` may follow, each at its longest."""
    told = partial(forecast, prices=prices, concurrency=teacher.concurrency if isinstance(teacher, Teacher) else None)
    there, missing = len(gap.requests) - len(gap.missing), gap.missing.values()
    lines = [
        f"round {gap.number + 1}: {len(gap.requests):,} requests, {there:,} stored already, {len(missing):,} to ask",
        f"  {told(missing)}",
    ]
    if later:
        lines += [f"later rounds: {len(later):,} requests at most, as the answers turn out", f"  {told(later)}"]
        lines += ["in all", f"  {told([*missing, *later])}"]
    return "\n".join([*lines, ESTIMATED])


def _asked_as(teacher: AnyTeacher, ask: Ask, thoughts: Counter[str]) -> Ask:
    """Requests with room for thoughts, and replies without them or with: as the teacher's settings say."""
    thinking: Thinking | None = teacher.thinking if isinstance(teacher, LocalTeacher) else None

    def answer(requests: Sequence[Request]) -> list[Reply]:
        replies = ask(with_room(requests, teacher.thought_tokens))
        told = [with_thoughts(reply, thinking) for reply in replies] if thinking else replies
        thoughts[teacher.thinking] += sum(reply.thought for reply in told)
        return told

    return answer
