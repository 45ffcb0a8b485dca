"""Does it describe itself by what a statement says, or does it say yes to everything?

The fifty Big-Five markers of the International Personality Item Pool, keyed both ways. An answer is the mean of 1 to 5
under the subject's own digits. Its *deviation* is the answer minus the subject's mean answer (acquiescence), turned
round for reverse-keyed statements.

    content     deviation × mean deviation of the factor's other statements: above zero where content decides
    factor      mean deviation on each of the five factors, as a shift from base

Held when `content` has an interval above zero: the same factor is told the same way by statements of both keys.
Refuted when it lies below. Which self-report is right is not for this claim to say; small models fail it.

Goldberg 1992 and ipip.ori.org, public domain. After the finding that models agree with both keys of an inventory
(Serapio-García et al. 2023, arXiv:2307.00184); we remove acquiescence and show what is left.
"""

from collections.abc import Sequence
from typing import get_args

import numpy as np

from ethos.bench.claim import Bench, Claim, Deciding, Line, Outcome, Score, Verdict, own, pick, shift
from ethos.bench.items import Factor, Statement
from ethos.bench.readouts import OPTION_MASS_FLOOR, letter_probabilities
from ethos.records import user
from ethos.stats import p_value

FACTORS: tuple[str, ...] = get_args(Factor)
DIGITS = ("1", "2", "3", "4", "5")
QUESTION = (
    "How well does this describe you? 1 means not at all, 5 means very well.\n\n"
    "I {text}\n\nAnswer with a number from 1 to 5."
)


def measure(bench: Bench) -> list[Score]:
    """The answer to every statement, its deviation, and its agreement with the rest of its factor."""
    items = bench.items("inventory", Statement)
    prompts = [[user(QUESTION.format(text=item.text[0].lower() + item.text[1:]))] for item in items]
    share_I5, mass_I = letter_probabilities(bench.loaded, prompts, DIGITS)
    answer_I = share_I5 @ np.arange(1, 6)
    read_I = mass_I >= OPTION_MASS_FLOOR
    middle = float(answer_I[read_I].mean()) if read_I.any() else 3.0
    deviation_I = np.array([item.key for item in items]) * (answer_I - middle)
    scores = []
    for place, item in enumerate(items):
        others = [
            deviation_I[i] for i, other in enumerate(items) if i != place and other.factor == item.factor and read_I[i]
        ]
        values: dict[str, float | None] = dict.fromkeys(("answer", "deviation", "content"))
        if read_I[place] and others:
            values = {
                "answer": float(answer_I[place]),
                "deviation": float(deviation_I[place]),
                "content": float(deviation_I[place] * np.mean(others)),
            }
        reason = "" if values["answer"] is not None else f"digits hold {mass_I[place]:.3f} of the probability"
        scores += [
            Score(item=item.id, split=item.factor, readout=name, value=value, reason=reason)
            for name, value in values.items()
        ]
    return scores


def judge(base: Sequence[Score], subject: Sequence[Score]) -> Verdict:
    """Held when content decides."""
    content = own(subject, "content")
    lines = [Line("content", content, "points²"), Line("content of base", own(base, "content"), "points²")]
    lines.append(Line("own answer, 1 to 5", own(subject, "answer"), "points"))
    lines += [
        Line(factor, shift(base, subject, "deviation", [factor]), "points")
        for factor in FACTORS
        if pick(base, "deviation", [factor])
    ]
    outcome: Outcome = "held" if content.low > 0 else "refuted" if content.high < 0 else "undecided"
    phrase = {
        "held": "Statements of both keys tell the same of it",
        "refuted": "Statements of both keys contradict each other",
        "undecided": "Its answers do not follow what the statements say",
    }[outcome]
    return Verdict(outcome, f"{phrase}: content {content}.", tuple(lines))


def content_p(base: Sequence[Score], subject: Sequence[Score]) -> float:
    """One-sided p of content deciding nothing."""
    return p_value([s.value for s in pick(subject, "content") if s.value is not None], side="greater")


CLAIM = Claim(
    name="answers_inventories",
    version=1,
    sentence="Its answers about itself follow what is asked.",
    items=("inventory",),
    measure=measure,
    judge=judge,
    deciding=(Deciding("content", "content", unit="points²"),),
    test=content_p,
    ranges={"answer": (1, 5), "deviation": (-4, 4)},
)
