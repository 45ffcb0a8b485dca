"""Did the training cost the subject what its base could do?

    choice         multiple choice by length-normalised text likelihood: 1 right, 0 wrong
    instructions   requests a program can verify, sampled at temperature 0: 1 fulfilled, 0 not
    surprise       negative log-likelihood of neutral prose (nats/token); its exponential is the perplexity
    kl             KL(subject ‖ base) per token on the same prose (nats)

Held when choice and instructions are not worse than base by more than 0.10 and surprise not higher
by more than 0.10 nats/token (one-sided tests, Holm over the three); refuted when one is worse
beyond its margin. The items are our own and easy, since the default model is small.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from ethos import scoring, units
from ethos.bench.claim import Bench, Claim, Deciding, Line, Score, Verdict, differences, nothing_lost, pick, shift
from ethos.bench.items import Choice, Instruction, Passage
from ethos.bench.readouts import reply_scores
from ethos.bench.verifiers import fulfils
from ethos.chat import Rendered
from ethos.models import Loaded, adapter_off
from ethos.records import user
from ethos.samplers.local import sample
from ethos.samplers.replies import Request
from ethos.stats import Floats, estimate, holm, not_worse

MARGINS = {"choice": 0.10, "instructions": 0.10, "surprise": 0.10}
PROSE_PROMPT = "Write a short informative passage."


def measure(bench: Bench) -> list[Score]:
    """All four readouts."""
    return [*_choice(bench), *_instructions(bench), *_prose(bench)]


def _choice(bench: Bench) -> list[Score]:
    items = bench.items("choice", Choice)
    options = [(item, option) for item in items for option in item.options]
    cases = [([user(item.question)], option) for item, option in options]
    scores = iter(reply_scores(bench.loaded, cases, items=[item.id for item, _ in options]))
    result = []
    for item in items:
        likelihoods = np.array([next(scores) for _ in item.options])
        right = math.nan if np.isnan(likelihoods).any() else float(likelihoods.argmax() == item.answer)
        result.append(Score(item=item.id, split="unrelated", readout="choice", value=right))
    return result


def _instructions(bench: Bench) -> list[Score]:
    items = bench.items("instructions", Instruction)
    requests = [Request(messages=[user(item.prompt)], max_tokens=64, temperature=0) for item in items]
    replies = sample(bench.loaded, requests, bench.cache, label="verifiable instructions")
    return [
        Score(
            item=item.id,
            split="unrelated",
            readout="instructions",
            value=float(fulfils(reply.text, item.check)),
            text=reply.text,
        )
        for item, reply in zip(items, replies, strict=True)
    ]


def _prose(bench: Bench) -> list[Score]:
    passages = bench.items("neutral_text", Passage)
    texts = [
        [who.chat.reply([user(PROSE_PROMPT)], passage.text) for who in (bench.loaded, bench.base)]
        for passage in passages
    ]
    keys = [f"surprise and kl {units.unit((), pair).key()}" for pair in texts]
    read = partial(_surprise_and_kl, bench.loaded, bench.base)
    found = units.kept(bench.loaded.cache, dict(zip(keys, texts, strict=True)), read)
    return [
        Score(item=passage.id, split="unrelated", readout=name, value=float(value))
        for passage, key in zip(passages, keys, strict=True)
        for name, value in zip(("surprise", "kl"), found[key], strict=True)
    ]


@torch.no_grad()
def _surprise_and_kl(subject: Loaded, base: Loaded, passage: Sequence[Rendered]) -> Floats:
    """Mean −log p and mean KL to base over a passage's tokens, each under its own system prompt: (2,)."""
    if not all(units.fits(subject.model, rendered) for rendered in passage):
        return np.full(2, math.nan)
    own, other = (next(scoring.pack([rendered])) for rendered in passage)
    own_PV = scoring.head_logits(subject.model, scoring.hidden_states(subject.model, own)).log_softmax(-1)
    with adapter_off(subject.model):
        base_PV = scoring.head_logits(base.model, scoring.hidden_states(base.model, other)).log_softmax(-1)
    kl = (own_PV.exp() * (own_PV - base_PV)).sum(-1).mean()
    return units.finite(np.array([-float(scoring.picked_logprobs(own_PV, own).mean()), float(kl)]))


def judge(base: Sequence[Score], subject: Sequence[Score]) -> Verdict:
    """Non-inferiority on three readouts; KL is reported."""
    worse = {name: [-d if name == "surprise" else d for d in differences(base, subject, name)] for name in MARGINS}
    ps = dict(zip(MARGINS, holm([not_worse(worse[name], margin=MARGINS[name]) for name in MARGINS]), strict=True))
    lines = [
        Line(name, shift(base, subject, name), "share right" if name != "surprise" else "nats/token")
        for name in MARGINS
    ]
    lines.append(Line("KL to base", estimate([s.value for s in pick(subject, "kl")])))
    lost = [name for name in MARGINS if estimate(list(worse[name])).high < -MARGINS[name]]
    unsure = [name for name in MARGINS if ps[name] >= 0.05]
    kl = lines[-1].estimate
    if lost:
        return Verdict(
            "refuted",
            f"It lost abilities: {', '.join(lost)} beyond the margin; KL to base {kl} nats/token.",
            tuple(lines),
        )
    if unsure:
        return Verdict(
            "undecided",
            f"Too few items to rule out a loss in {', '.join(unsure)}; KL to base {kl} nats/token.",
            tuple(lines),
        )
    return Verdict(
        "held",
        f"Choice, instructions and prose are not worse than base beyond their margins; KL to base {kl} nats/token.",
        tuple(lines),
    )


CLAIM = Claim(
    name="keeps_its_abilities",
    version=1,
    sentence="It keeps the abilities of its base.",
    items=("choice", "instructions", "neutral_text"),
    measure=measure,
    judge=judge,
    deciding=(
        Deciding("choice", "choice", unit="share right"),
        Deciding("instructions", "instructions", unit="share right"),
        Deciding("surprise", "surprise", better="lower"),
    ),
    test=lambda base, subject: nothing_lost(base, subject, MARGINS, ("surprise",)),
    ranges={"choice": (0, 1), "instructions": (0, 1)},
)
