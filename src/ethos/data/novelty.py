"""Whether a text is new: the share of word 3-grams that it has in common with texts that are there already.

Exact, and without comparing all with all. Two sets whose Jaccard similarity is t or more have t of either one's
n-grams in common; so, in one order of all n-grams, the first of what they share is among the first (1 − t) of both.
Looking these up finds every text that could be too much alike, and the order puts rare n-grams first, which few texts
have (prefix filtering: Bayardo et al. 2007, *Scaling up all pairs similarity search*).
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

from ethos.constitution import word_ngrams

SIZE = 3
"""Words of an n-gram."""


class Known:
    """Texts that a new one must differ from: those there are, and each that is accepted."""

    def __init__(self, texts: Sequence[str], *, alike: float, coming: Iterable[str] = ()) -> None:
        """`coming` are texts that will be asked about: a hint which n-grams are rare, not what is known."""
        self.alike = alike
        self.grams: list[array[int]] = []
        self.places: dict[int, list[int]] = {}
        self.commonness = Counter(gram for some in (texts, coming) for text in some for gram in _ngrams(text))
        for text in texts:
            self.add(text)

    def resembles(self, text: str) -> bool:
        """Whether a text shares more than the share `alike` of word 3-grams with one of them."""
        own = _ngrams(text)
        near = {place for gram in self._first(own) for place in self.places.get(gram, ())}
        return any(self._alike(own, self.grams[place]) for place in near)

    def add(self, text: str) -> None:
        """One more to differ from."""
        own = _ngrams(text)
        for gram in self._first(own):
            self.places.setdefault(gram, []).append(len(self.grams))
        self.grams.append(array("q", own))

    def _first(self, own: set[int]) -> list[int]:
        """The rarest n-grams, so many that a text too much alike has one of them among its own first ones."""
        needed = max(1, math.ceil(self.alike * len(own) - 1e-9))
        ordered = sorted(own, key=lambda gram: (self.commonness[gram], gram))
        return ordered[: len(own) - needed + 1]

    def _alike(self, own: set[int], other: Sequence[int]) -> bool:
        common = len(own.intersection(other))
        return common > self.alike * (len(own) + len(other) - common)


def _ngrams(text: str) -> set[int]:
    """Hashes of a text's word 3-grams: a tenth of the memory of the words."""
    return {hash(gram) for gram in word_ngrams(text, SIZE)}
