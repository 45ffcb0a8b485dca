"""Distinctness: what a subject's replies share with one another."""

from collections import Counter
from itertools import pairwise

import pytest
from hand import NUM_ITEMS, around, lines, moved, scores
from hypothesis import given
from hypothesis import strategies as st

from ethos.bench.claim import Bench, pick
from ethos.bench.writes_coherently import MARGINS, distinctness, judge, measure

TEXTS = st.lists(st.lists(st.sampled_from("abcd"), min_size=2, max_size=6).map(" ".join), min_size=1, max_size=5)


def test_distinctness_by_hand() -> None:
    """`we go` comes twice and counts ½, `go home` once and counts 1; a word alone has no pair."""
    assert distinctness(["We go home.", "we go"]) == [0.75, 0.5]
    assert distinctness(["go home, go home"]) == [pytest.approx((0.5 + 1 + 0.5) / 3)]
    assert distinctness(["One two three.", "Four"]) == [1.0, None]
    assert distinctness(["", "Same old song.", "Same old song."]) == [None, 0.5, 0.5]


@given(TEXTS)
def test_weighted_by_length_the_mean_is_distinct_2(texts: list[str]) -> None:
    """Distinct two-word sequences over all of them, as Li et al. count."""
    own = [list(pairwise(text.split())) for text in texts]
    total = sum(map(len, own))
    mean = sum(len(pairs) * (value or 0.0) for pairs, value in zip(own, distinctness(texts), strict=True)) / total
    assert mean == pytest.approx(len(Counter(pair for pairs in own for pair in pairs)) / total)


def test_it_is_measured_over_all_replies_and_judged_beside(bench: Bench) -> None:
    rows = measure(bench._replace(per_split=4))
    texts = [row.text for row in pick(rows, "distinct")]
    assert [row.value for row in pick(rows, "distinct")] == distinctness(texts)
    base = [score for name in (*MARGINS, "words", "distinct") for score in scores(name, [0.5] * NUM_ITEMS)]
    still = [score for score in base if score.readout != "distinct"]
    verdict = judge(base, [*still, *moved(pick(base, "distinct"), around(-0.4))])
    assert verdict.outcome == "held"
    assert lines(verdict)["distinct"].estimate.mean == pytest.approx(-0.4)
