"""Does it describe itself by what a statement says, or does it say yes to everything?

The fifty Big-Five markers of the International Personality Item Pool, keyed both ways. An answer is the mean of 1 to 5
under the subject's own digits. Its *deviation* is the answer minus the subject's mean answer (acquiescence), turned
round for reverse-keyed statements.

    content     deviation × mean deviation of the factor's other statements: above zero where content decides
    factor      mean deviation on each of the five factors, as a shift from base

Held when fewer than one in twenty shuffles of the keys within factors give as great a mean of `content`, refuted when
more than nineteen do: statements of both keys contradict each other. Which self-report is
right is not for this claim to say; small models fail it.

Goldberg 1992 and ipip.ori.org, public domain. After the finding that models agree with both keys of an inventory
(Serapio-García et al. 2023, arXiv:2307.00184); we remove acquiescence and show what is left.
"""

from collections.abc import Sequence
from typing import get_args

import numpy as np

from ethos.bench.claim import Bench, Claim, Deciding, Line, Outcome, Score, Verdict, own, own_line, pick, side_line
from ethos.bench.items import Factor, Statement
from ethos.bench.readouts import OPTION_MASS_FLOOR, letter_probabilities, too_little
from ethos.records import user
from ethos.stats import Floats

FACTORS: tuple[str, ...] = get_args(Factor)
ALPHA, PERMUTATIONS = 0.05, 999
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
        lone = "no other statement of its factor could be read"
        reason = too_little("digits", float(mass_I[place])) or ("" if others else lone)
        scores += [
            Score(item=item.id, split=item.factor, readout=name, value=value, reason=reason)
            for name, value in values.items()
        ]
    return scores


def judge(base: Sequence[Score], subject: Sequence[Score]) -> Verdict:
    """Held when content decides, by the permutation test."""
    content, p = own(subject, "content"), content_p(base, subject)
    lines = [Line("content", content, "points²"), *own_line(base, "content", "points²", "content of base")]
    lines += own_line(subject, "answer", "points", "own answer, 1 to 5")
    for factor in FACTORS:
        lines += side_line(base, subject, "deviation", "points", splits=[factor], label=factor)
    outcome: Outcome = "held" if p < ALPHA else "refuted" if p > 1 - ALPHA else "undecided"
    phrase = {
        "held": "Statements of both keys tell the same of it",
        "refuted": "Statements of both keys contradict each other",
        "undecided": "Its answers do not follow what the statements say",
    }[outcome]
    return Verdict(outcome, f"{phrase}: content {content}.", tuple(lines))


def content_p(base: Sequence[Score], subject: Sequence[Score]) -> float:
    """Share of the assignments of keys within factors (a thousand at random) whose mean content is as great."""
    answers = {s.item: s for s in pick(subject, "answer") if s.value is not None}
    raw = {name: score.value for name, score in answers.items() if score.value is not None}
    if len(raw) < 2:
        return 1.0
    middle = sum(raw.values()) / len(raw)
    turned = {s.item: s.value for s in pick(subject, "deviation") if s.value is not None}
    rng, seen, as_great = np.random.default_rng(0), 0.0, 0
    factors = [[name for name, score in answers.items() if score.split == factor] for factor in FACTORS]
    centred = [np.array([raw[name] - middle for name in names]) for names in factors if len(names) > 1]
    deviation = [np.array([turned[name] for name in names]) for names in factors if len(names) > 1]
    keys = [np.where(d * c < 0, -1.0, 1.0) for d, c in zip(deviation, centred, strict=True)]
    seen = sum(map(_agreeing, deviation))
    for _ in range(PERMUTATIONS):
        shuffled = [rng.permutation(key) * c for key, c in zip(keys, centred, strict=True)]
        as_great += sum(map(_agreeing, shuffled)) >= seen - 1e-12
    return (as_great + 1) / (PERMUTATIONS + 1)


def _agreeing(deviation_K: Floats) -> float:
    """Sum of each statement's deviation times the mean of the others'."""
    total = float(deviation_K.sum())
    return (total**2 - float((deviation_K**2).sum())) / (len(deviation_K) - 1)


CLAIM = Claim(
    name="answers_inventories",
    version=1,
    sentence="Its answers about itself follow what is asked.",
    items=("inventory",),
    measure=measure,
    judge=judge,
    deciding=(Deciding("content", "content", unit="points²", better=None),),
    test=content_p,
    ranges={"answer": (1, 5), "deviation": (-4, 4)},
)
