"""What resembles what: exactly as comparing all with all would find it, and in far less time."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethos.constitution import jaccard, word_ngrams
from ethos.data.novelty import SIZE, Known

few_words = st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join)


@given(st.lists(few_words, max_size=12), st.lists(few_words, max_size=4), st.floats(0, 0.95))
def test_it_finds_what_comparing_all_with_all_finds(texts: list[str], coming: list[str], alike: float) -> None:
    known, there = Known(texts[:3], alike=alike, coming=coming), texts[:3]
    for text in texts[3:]:
        grams = word_ngrams(text, SIZE)
        assert known.resembles(text) == any(jaccard(grams, word_ngrams(other, SIZE)) > alike for other in there)
        known.add(text)
        there.append(text)


def test_the_share_is_of_all_that_either_holds_and_the_threshold_is_not_enough() -> None:
    known = Known(["one two three four five"], alike=0.5)  # 3 n-grams
    assert not known.resembles("one two three four six")  # 2 of 4 shared
    assert Known(["one two three four five"], alike=0.49).resembles("one two three four six")
    assert known.resembles("One, two; THREE four five!")


def zipf(count: int) -> list[str]:
    """Texts of twenty words, a few words common and most rare, as in any language."""
    rng = random.Random(0)
    vocabulary, weights = range(20_000), [1 / (rank + 1) for rank in range(20_000)]
    drawn = rng.choices(vocabulary, weights, k=20 * count)
    return [" ".join(f"w{word}" for word in drawn[20 * i : 20 * (i + 1)]) for i in range(count)]


def seconds(texts: list[str]) -> float:
    began, known = time.process_time(), Known([], alike=0.6, coming=texts)
    for text in texts:
        if not known.resembles(text):
            known.add(text)
    return time.process_time() - began


@pytest.mark.parametrize("count", [2_000, pytest.param(25_000, marks=pytest.mark.slow)])
def test_four_times_as_many_texts_do_not_take_sixteen_times_as_long(count: int) -> None:
    texts = zipf(4 * count)
    seconds(texts[:200])
    assert seconds(texts) < 9 * seconds(texts[:count])
