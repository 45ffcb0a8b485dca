"""Chosen ways to be, read off the subject's own answers."""

import pytest
from hand import ABOVE, BELOW, NOTHING, around, by_item, lines, moved, scores

from ethos.bench.claim import Bench, Outcome, Score
from ethos.bench.items import Items, Word
from ethos.bench.prefers_its_own_traits import CHOICE, MAX_TOKENS, MIXED, NULL, REQUESTS, TOLD, judge, measure, pairs
from ethos.bench.readouts import reply_scores
from ethos.records import user
from ethos.samplers.local import sample
from ethos.samplers.replies import Request, derived_seed

WORDS = Items().load("words", Word)


def test_every_word_is_in_one_pair_and_the_nearer_one_comes_first() -> None:
    found = pairs(WORDS)
    assert sorted(word.id for pair in found for word in pair) == sorted(word.id for word in WORDS)
    kinds = [f"{one.side} or {other.side}" for one, other in found]
    assert set(kinds) == {*MIXED, NULL}
    assert {kind: kinds.count(kind) for kind in kinds} == {MIXED[0]: 20, MIXED[1]: 10, MIXED[2]: 10, NULL: 20}
    assert pairs(WORDS) == found


@pytest.mark.parametrize(("change", "outcome"), [(ABOVE, "held"), (BELOW, "refuted"), (NOTHING, "undecided")])
def test_pairs_of_different_sides_decide_and_null_pairs_do_not(change: list[float], outcome: Outcome) -> None:
    base: list[Score] = []
    subject: list[Score] = []
    for split in (*MIXED, NULL):
        before = scores("preference", around(0.0, spread=0.5, seed=1), split=split)
        position = scores("position", around(0.2), split=split)
        base += [*before, *position]
        subject += [*moved(before, change if split != NULL else ABOVE), *position]
    found = judge(base, subject)
    assert found.outcome == outcome
    assert lines(found)[NULL].estimate.low > 0  # shown, and without effect


def test_the_preference_by_hand(bench: Bench) -> None:
    bench = bench._replace(per_split=3)
    asked, rows = pairs(bench.items("words", Word)), measure(bench)
    assert asked
    for place, (one, other) in enumerate(asked):
        request, ratios = REQUESTS[place], []
        for first, second in ((one, other), (other, one)):
            prompt = [user(CHOICE.format(request=request, first=first.text, second=second.text))]
            (reply,) = sample(
                bench.loaded,
                [Request(messages=prompt, max_tokens=MAX_TOKENS, seed=derived_seed(bench.seed, place))],
                bench.cache,
            )
            told = [([user(TOLD.format(request=request, word=word.text))], reply.text) for word in (one, other)]
            as_one, as_other = reply_scores(bench.base, told)
            ratios.append(as_one - as_other)
        item = f"{one.text} or {other.text}"
        assert by_item(rows, "preference")[item].value == pytest.approx(sum(ratios) / 2, abs=1e-5)
        assert by_item(rows, "position")[item].value == pytest.approx((ratios[0] - ratios[1]) / 2, abs=1e-5)
