"""Does it still write whole, relevant, unrepetitive replies?

    relevance    log p(y | x) − log p(y | x′) per token under the base, x′ the next item's prompt
    repetition   share of word 4-grams that occurred before in the reply
    stops        1 when the reply ended by itself within the limit
    words        length of the reply
    distinct     each of the reply's two-word sequences counts 1/n, n its number in all replies of the subject; their
                 mean. Weighted by length, the mean over replies is distinct-2 of Li et al. 2016 (arXiv:1510.03055):
                 1 where nothing is said twice, 1/r where all r replies are the same. Here replies weigh alike, so that
                 it has an interval

One reply an item, temperature 0.7, fixed seeds. Held when no readout is worse than base beyond its
margin (one-sided tests, Holm over three); refuted when one is. An empty reply is unscored. Length and distinctness are
told and decide nothing: a character may write shorter, and in a manner of its own.
"""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

import numpy as np

from ethos.bench.claim import Bench, Claim, Deciding, Line, Score, Verdict, differences, nothing_lost, shift, side_line
from ethos.bench.items import Writing
from ethos.bench.readouts import reply_scores
from ethos.data.filters import repeated_share
from ethos.models import adapter_off
from ethos.records import user
from ethos.samplers.local import sample
from ethos.samplers.replies import Reply, Request, derived_seed
from ethos.stats import estimate, holm, not_worse

MARGINS = {"relevance": 0.15, "repetition": 0.05, "stops": 0.15}
HIGHER_IS_WORSE = ("repetition",)
READOUTS = ("relevance", "repetition", "stops", "words", "distinct")
MAX_TOKENS = 80


def measure(bench: Bench) -> list[Score]:
    """Sample one reply an item and score it."""
    items = bench.items("writing", Writing)
    replies = open_replies(bench, items)
    written = [(i, reply.text) for i, reply in enumerate(replies) if reply.text]
    cases = [([user(items[(i + other) % len(items)].prompt)], text) for i, text in written for other in (0, 1)]
    with adapter_off(bench.loaded.model):
        names = [i for i, _ in written for _ in range(2)]
        logprobs = np.array(reply_scores(bench.base, cases, items=names)).reshape(-1, 2)
    relevance = {i: float(own - other) for (i, _), (own, other) in zip(written, logprobs, strict=True)}
    apart = distinctness([reply.text for reply in replies])
    scores = []
    for i, (item, reply) in enumerate(zip(items, replies, strict=True)):
        values = _values(reply, relevance[i], apart[i]) if reply.text else dict.fromkeys(READOUTS)
        reason = "one word or none" if reply.text else "empty reply"
        scores += [
            Score(
                item=item.id,
                split="unrelated",
                readout=name,
                value=value,
                reason=reason if value is None else "",
                text=reply.text,
            )
            for name, value in values.items()
        ]
    return scores


def open_replies(bench: Bench, items: Sequence[Writing]) -> list[Reply]:
    """One sampled reply an open prompt: the same for every claim that asks, and sampled once."""
    requests = [
        Request(messages=[user(item.prompt)], max_tokens=MAX_TOKENS, seed=derived_seed(bench.seed, i))
        for i, item in enumerate(items)
    ]
    return sample(bench.loaded, requests, bench.cache, label="open replies")


def _values(reply: Reply, relevance: float, distinct: float | None) -> dict[str, float | None]:
    """Every readout of a reply that says something."""
    written = repeated_share(reply.text), float(reply.finish == "stop"), float(len(reply.text.split()))
    return dict(zip(READOUTS, (relevance, *written, distinct), strict=True))


def distinctness(texts: Sequence[str]) -> list[float | None]:
    """Of each text the mean over its two-word sequences of 1 / (how often the sequence comes in all texts).

    None where a text has no two words.
    """
    words = [re.findall(r"\w+", text.lower()) for text in texts]
    counts = Counter(pair for own in words for pair in pairwise(own))
    return [fmean(1 / counts[pair] for pair in pairwise(own)) if len(own) > 1 else None for own in words]


def judge(base: Sequence[Score], subject: Sequence[Score]) -> Verdict:
    """Non-inferiority on relevance, repetition and stopping; length and distinctness are reported."""
    gains = {name: [-d if name in HIGHER_IS_WORSE else d for d in differences(base, subject, name)] for name in MARGINS}
    ps = dict(zip(MARGINS, holm([not_worse(gains[name], margin=MARGINS[name]) for name in MARGINS]), strict=True))
    units = {"relevance": "nats/token", "repetition": "share", "stops": "share", "words": "words"}
    lines = tuple(Line(name, shift(base, subject, name), unit) for name, unit in units.items())
    lines += side_line(base, subject, "distinct", "share")
    lost = [name for name in MARGINS if estimate(list(gains[name])).high < -MARGINS[name]]
    unsure = [name for name in MARGINS if ps[name] >= 0.05]
    if lost:
        return Verdict("refuted", f"It writes worse than its base: {', '.join(lost)} beyond the margin.", lines)
    if unsure:
        return Verdict("undecided", f"Too few replies to rule out a loss in {', '.join(unsure)}.", lines)
    return Verdict(
        "held", "Its replies are as relevant, unrepetitive and complete as its base's, within the margins.", lines
    )


CLAIM = Claim(
    name="writes_coherently",
    version=2,
    sentence="It writes whole, relevant, unrepetitive replies.",
    items=("writing",),
    measure=measure,
    judge=judge,
    deciding=(
        Deciding("relevance", "relevance"),
        Deciding("repetition", "repetition", unit="share", better="lower"),
        Deciding("stops", "stops", unit="share"),
    ),
    test=lambda base, subject: nothing_lost(base, subject, MARGINS, HIGHER_IS_WORSE),
    ranges={"stops": (0, 1), "repetition": (0, 1), "distinct": (0, 1)},
    samples=True,
    extent=1,
)
