"""Rejected replies that a model samples: what the student, or a teacher without the constitution, says by default.

The chosen replies and prompts of the recorded contrasts stay; each rejected reply is replaced by what the sampler says
to the same prompt. Published recipes reject the student's own replies (Maiya et al. 2025, arXiv:2511.01689) or an
unprompted teacher's; recorded rows reject the opposite pole, matched in length, which sampled replies are not.

A reply that is cut off ends with its last whole sentence. A contrast with a reply that no filter lets pass is dropped
with its group, and counted.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field

from ethos.constitution import Constitution
from ethos.data.filters import text_fault
from ethos.models import Loaded
from ethos.records import Drop, Preference, Record, assistant
from ethos.samplers.local import sample
from ethos.samplers.replies import CUT_OFF, Reply, ReplyCache, Request, derived_seed

STUDENT = "student"


class Rejections(Record):
    """Whose replies are rejected."""

    by: str = STUDENT
    """`student` (the model as the stages before left it), or a model's name or folder: a teacher that is not told of
    the constitution. A teacher that is the base itself rejects what the untrained student would."""
    max_tokens: int = Field(96, gt=0)
    """Tokens of a reply."""


class Resampled(NamedTuple):
    """Contrasts with sampled rejections, and what was refused."""

    kept: list[Preference]
    dropped: list[Drop]


def resampled(
    loaded: Loaded,
    rows: Sequence[Preference],
    constitution: Constitution,
    settings: Rejections,
    cache: ReplyCache,
    *,
    seed: int,
) -> Resampled:
    """The contrasts with rejected replies by `loaded`, which has no system prompt."""
    requests = [
        Request(messages=row.prompt, max_tokens=settings.max_tokens, seed=derived_seed(seed, place))
        for place, row in enumerate(rows)
    ]
    replies = sample(loaded, requests, cache, label=f"rejected replies by the {loaded.subject.name}")
    texts = [whole_sentences(reply) for reply in replies]
    reasons: dict[str, str] = {}
    for row, text in zip(rows, texts, strict=True):
        if reason := text_fault(text, constitution, beside=row.prompt[-1].content) if text else CUT_OFF:
            reasons.setdefault(row.group, reason)
        elif text == row.chosen[-1].content:
            reasons.setdefault(row.group, "says what is chosen")
    kept = [
        row.model_copy(update={"rejected": [assistant(text)]})
        for row, text in zip(rows, texts, strict=True)
        if row.group not in reasons
    ]
    return Resampled(kept, [Drop(source=group, reason=f"rejected reply: {why}") for group, why in reasons.items()])


def whole_sentences(reply: Reply) -> str:
    """A reply's text; of one that was cut off, up to its last sentence's end, which may leave nothing."""
    if reply.finish == "stop":
        return reply.text
    found = re.match(r".*[.!?][\"'”’)]*(?=\s|$)", reply.text, re.DOTALL)
    return found.group() if found else ""
