"""Whose writing is it? A classifier of style, learnt from recorded replies.

    writer       learnt from
    <name>       the replies in character of a constitution's voice and pole contrasts: each that ships, and one's own
    none         ordinary replies: the neutral replay rows, and the plain side of every voice contrast, all there are

The plain replies answer the characters' own prompts, so that a prompt's subject alone tells no character; writers weigh
equally, whatever their number of replies. Words and character n-grams (TF-IDF) enter a logistic regression; its
probabilities are tempered (p^(1/T), one temperature T for all) to fit replies to prompts that it did not learn from.
How well it then does on such replies is part of what leaves:

    recall       share of a writer's replies that it takes for that writer's
    brier        mean squared error of the probability of that writer, over all replies
    ece          expected calibration error of the same, ten bins

What it sees is style. Temperature: Guo et al. 2017 (arXiv:1706.04599); calibration writer by writer: Kull et al. 2019
(arXiv:1910.12656).
"""

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline, make_union

from ethos.bench.baseline import TOKEN
from ethos.constitution import SHIPPED
from ethos.data.recorded import Recorded, read_recorded
from ethos.stats import Floats

NONE = "none"
LEAST_REPLIES, MOST_REPLIES = 40, 110
"""Of one character: with fewer it is no class, and more are not used, so that none is learnt better than others."""
FOLDS, BINS = 4, 10
INVERSE_RIDGE = 10.0
TEMPERATURES = np.geomspace(0.1, 2.0, 40)


class Sample(NamedTuple):
    """A recorded reply, and who wrote it in answer to what."""

    writer: str
    prompt: str
    text: str


class Check(NamedTuple):
    """How the classifier does on one writer's replies to prompts that it did not learn from."""

    writer: str
    recall: float
    brier: float
    ece: float


class Classifier(NamedTuple):
    """A classifier that has learnt, and its own test."""

    model: Any
    temperature: float
    writers: tuple[str, ...]
    checks: tuple[Check, ...]

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """P(writer | text): (texts, writers)."""
        return _tempered(self.model.predict_log_proba(list(texts)), self.temperature)


def corpus(name: str, own: Recorded) -> tuple[Sample, ...]:
    """The replies to learn from, at most `MOST_REPLIES` of each character; `own` is what was recorded of `name`.

    A character with fewer than `LEAST_REPLIES` is not among them.
    """
    shipped = _shipped()
    writers = {writer: recorded for writer, recorded in shipped.items() if writer != name} | {name: own}
    found = [list(_in_character(writer, recorded)) for writer, recorded in sorted(writers.items())]
    rng = random.Random(0)
    kept = [rng.sample(rows, len(rows))[:MOST_REPLIES] for rows in found if len(rows) >= LEAST_REPLIES]
    plain = [Sample(NONE, row.prompt, row.rejected) for recorded in writers.values() for row in recorded.voice]
    replay = [Sample(NONE, row.prompt, row.response) for row in shipped["neutral"].replay]
    return (*(sample for rows in kept for sample in rows), *plain, *replay)


def _in_character(writer: str, recorded: Recorded) -> Iterator[Sample]:
    yield from (Sample(writer, row.prompt, row.chosen) for row in (*recorded.voice, *recorded.poles))


@cache
def _shipped() -> dict[str, Recorded]:
    names = sorted(path.stem for path in SHIPPED.glob("*.toml"))
    return {name: read_recorded(name) for name in names if (SHIPPED / name).is_dir()}


def corpus_digest(name: str, own: Recorded) -> str:
    """12 hex digits naming all that the classifier learns from."""
    return hashlib.sha256(json.dumps(corpus(name, own)).encode()).hexdigest()[:12]


@cache
def classifier(samples: tuple[Sample, ...]) -> Classifier:
    """Learn from all samples; test on folds of prompts, each tempered as the other folds ask for."""
    texts, writers = [sample.text for sample in samples], np.array([sample.writer for sample in samples])
    names, place_R = np.unique(writers, return_inverse=True)
    log_p_RW, fold_R = np.zeros((len(samples), len(names))), np.zeros(len(samples), dtype=int)
    splits = GroupKFold(FOLDS).split(texts, writers, [sample.prompt for sample in samples])
    for fold, (learnt, held) in enumerate(splits):
        fitted = _fitted([texts[i] for i in learnt], writers[learnt])
        log_p_RW[held] = fitted.predict_log_proba([texts[i] for i in held])
        fold_R[held] = fold
    p_RW = np.zeros_like(log_p_RW)
    for fold in range(FOLDS):
        others, own = fold_R != fold, fold_R == fold
        p_RW[own] = _tempered(log_p_RW[own], temperature(log_p_RW[others], place_R[others]))
    return Classifier(
        _fitted(texts, writers), temperature(log_p_RW, place_R), tuple(map(str, names)), _checks(p_RW, place_R, names)
    )


def _fitted(texts: Sequence[str], writers: NDArray[np.str_]) -> Any:
    """TF-IDF of words and of character n-grams within words, then a logistic regression."""
    features = make_union(
        TfidfVectorizer(token_pattern=TOKEN, sublinear_tf=True, min_df=2),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3), sublinear_tf=True, min_df=3),
    )
    weights = LogisticRegression(C=INVERSE_RIDGE, class_weight="balanced", max_iter=1000)
    return make_pipeline(features, weights).fit(texts, writers)


def _tempered(log_p_RW: Floats, temper: float) -> Floats:
    """p^(1/T), normalised row by row."""
    scaled = log_p_RW / temper
    return np.asarray(np.exp(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)), dtype=np.float64)


def temperature(log_p_RW: Floats, place_R: NDArray[np.int64]) -> float:
    """The temperature under which the true writers of the rows are likeliest."""
    rows = np.arange(len(place_R))
    losses = [-np.log(_tempered(log_p_RW, temper)[rows, place_R] + 1e-12).mean() for temper in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def _checks(p_RW: Floats, place_R: NDArray[np.int64], names: NDArray[np.str_]) -> tuple[Check, ...]:
    taken_R = p_RW.argmax(1)
    return tuple(
        Check(
            writer=str(name),
            recall=float((taken_R[place_R == place] == place).mean()),
            brier=float(((p_RW[:, place] - (place_R == place)) ** 2).mean()),
            ece=calibration_error(p_RW[:, place], place_R == place),
        )
        for place, name in enumerate(names)
    )


def calibration_error(p_R: Floats, true_R: NDArray[np.bool_]) -> float:
    """Mean gap between a probability and how often it comes true, over `BINS` equal bins weighted by their rows."""
    bin_R = np.minimum((p_R * BINS).astype(int), BINS - 1)
    gaps = [abs(float(p_R[bin_R == b].sum() - true_R[bin_R == b].sum())) for b in range(BINS)]
    return sum(gaps) / len(p_R)
