"""The bag-of-words baseline: how far style alone would get.

A logistic regression on word counts, fitted on the training contrasts (chosen against rejected,
no prompt), picks a reply in each benchmark contrast. Where it does as well as the trained model,
the contrast measures words; on crossed contrasts it scores one half by construction, since it
sees the same two replies in both situations and must be wrong in one.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from ethos.bench.item_files import Items, thinned
from ethos.bench.items import Crossed, Triple
from ethos.errors import DataError
from ethos.records import Preference, Record

TOKEN = r"(?u)[\w']+|[?!.,;:]"


class BaselineScore(Record):
    """Share of contrasts in which the bag of words picks the reply in character."""

    contrast: str
    accuracy: float
    num_items: int


class BagOfWords:
    """Word counts and their weights; a reply's score is their product."""

    def __init__(self, pairs: Sequence[tuple[str, str]], *, seed: int) -> None:
        if not pairs:
            raise DataError("no training contrasts to fit the bag-of-words baseline on")
        self.counter = CountVectorizer(token_pattern=TOKEN)
        self.counter.fit([text for pair in pairs for text in pair])
        difference = self._counts([chosen for chosen, _ in pairs]) - self._counts([rejected for _, rejected in pairs])
        features, labels = np.vstack([difference, -difference]), np.repeat([1, 0], len(pairs))
        self.weights = (
            LogisticRegression(fit_intercept=False, max_iter=1000, random_state=seed).fit(features, labels).coef_[0]
        )

    def _counts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.asarray(self.counter.transform(texts).toarray(), dtype=np.float64)

    def prefers(self, one: str, other: str) -> float:
        """1 where it prefers `one`, 0 where it prefers `other`, ½ where it cannot tell."""
        gap = float((self._counts([one]) - self._counts([other]))[0] @ self.weights)
        return 0.5 if gap == 0 else float(gap > 0)


def baseline_scores(
    training: Sequence[Preference], per_split: int | None, *, seed: int, source: Items
) -> list[BaselineScore]:
    """Accuracy on every contrast and split of the benchmark, pole and voice fitted on the training pairs."""
    pairs = [(row.chosen[-1].content, row.rejected[-1].content) for row in training]
    bag = BagOfWords(pairs, seed=seed)
    triples, crossed = (
        thinned(source.load("triples", Triple), per_split),
        thinned(source.load("crossed", Crossed), per_split),
    )
    hits: dict[str, list[float]] = {}
    for item in triples:
        for contrast, reply in (("pole", item.opposite), ("voice", item.plain)):
            if reply is not None:
                hits.setdefault(f"{contrast}, {item.split}", []).append(bag.prefers(item.chosen, reply))
    for other in crossed:
        right = (bag.prefers(other.r1, other.r2) + bag.prefers(other.r2, other.r1)) / 2
        hits.setdefault(f"crossed, {other.split}", []).append(right)
    return [
        BaselineScore(contrast=name, accuracy=float(np.mean(values)), num_items=len(values))
        for name, values in hits.items()
    ]
