"""The bag of words: it learns words, and it cannot see a situation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethos.bench.baseline import BagOfWords, baseline_scores
from ethos.bench.item_files import Items
from ethos.errors import DataError
from ethos.records import Preference, assistant, user

NOUNS = ("harbour", "ladder", "orchard", "ledger", "lantern", "kettle", "violin", "saddle")
PLANTED = [(f"Perhaps see the {noun}.", f"Obviously see the {noun}.") for noun in NOUNS]
TEXT = st.lists(st.sampled_from(["perhaps", "obviously", "see", "the", "zebra", "?"]), max_size=6).map(" ".join)


def preference(chosen: str, rejected: str) -> Preference:
    return Preference(
        prompt=[user("?")],
        chosen=[assistant(chosen)],
        rejected=[assistant(rejected)],
        group="g",
        kind="pole",
        source="s",
    )


@pytest.fixture(scope="module")
def bag() -> BagOfWords:
    return BagOfWords(PLANTED, seed=0)


def test_it_learns_a_planted_word(bag: BagOfWords) -> None:
    assert bag.prefers("Perhaps not now, I would guess.", "Obviously not now, I would guess.") == 1
    assert bag.prefers("Obviously yes.", "Perhaps yes.") == 0


def test_words_that_stand_on_both_sides_weigh_nothing(bag: BagOfWords) -> None:
    assert bag.prefers("See the harbour.", "See the ladder.") == 0.5


def test_it_learns_nothing_but_words(bag: BagOfWords) -> None:
    assert bag.prefers("the ladder perhaps see", "PERHAPS see the ladder") == 0.5


@given(one=TEXT, other=TEXT)
def test_it_prefers_one_or_the_other_and_never_both(bag: BagOfWords, one: str, other: str) -> None:
    assert bag.prefers(one, other) + bag.prefers(other, one) == 1


@given(st.lists(st.tuples(TEXT, TEXT).filter(lambda pair: pair[0] != pair[1]), min_size=1, max_size=5), TEXT, TEXT)
def test_on_a_crossed_contrast_any_bag_of_words_is_right_half_the_time(
    training: list[tuple[str, str]], r1: str, r2: str
) -> None:
    trained = BagOfWords([*PLANTED[:1], *training], seed=0)
    right = (trained.prefers(r1, r2) + trained.prefers(r2, r1)) / 2
    assert right == 0.5


def test_it_needs_contrasts_to_learn_from() -> None:
    with pytest.raises(DataError, match="no training contrasts"):
        BagOfWords([], seed=0)


def test_on_the_benchmark_crossed_is_exactly_one_half_and_every_contrast_is_scored() -> None:
    rows = [preference(*pair) for pair in PLANTED]
    found = {score.contrast: score for score in baseline_scores(rows, 5, seed=0, source=Items())}
    crossed = [score for name, score in found.items() if name.startswith("crossed, ")]
    assert len(crossed) >= 5
    assert {score.accuracy for score in crossed} == {0.5}
    assert {name.partition(",")[0] for name in found} == {"crossed", "pole", "voice"}
    assert all(0 <= score.accuracy <= 1 and 0 < score.num_items <= 5 for score in found.values())
