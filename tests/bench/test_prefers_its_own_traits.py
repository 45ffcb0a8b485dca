"""Chosen ways to be, read off the subject's own answers."""

import random

import pytest
from hand import ABOVE, BELOW, NOTHING, around, by_item, lines, moved, scores

from ethos.bench.claim import Bench, Outcome, Score
from ethos.bench.item_files import Items
from ethos.bench.items import Word
from ethos.bench.prefers_its_own_traits import (
    CHOICE,
    LINK,
    LINKS_FROM,
    MAX_TOKENS,
    MIXED,
    NULL,
    REQUESTS,
    TOLD,
    Trial,
    judge,
    links,
    measure,
    pairs,
    trials,
)
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


def test_links_join_all_words_to_one_ring_and_a_place_says_nothing_of_a_side() -> None:
    asked = [*pairs(WORDS), *links(pairs(WORDS))]
    neighbours: dict[str, list[str]] = {}
    for one, other in asked:
        neighbours.setdefault(one.id, []).append(other.id)
        neighbours.setdefault(other.id, []).append(one.id)
    assert {len(found) for found in neighbours.values()} == {2}
    seen, here = set[str](), WORDS[0].id
    while here not in seen:
        seen.add(here)
        here = next((name for name in neighbours[here] if name not in seen), here)
    assert len(seen) == len(WORDS)
    first = [one.side for one, _ in links(pairs(WORDS))]
    assert abs(first.count("own") - first.count("opposite")) <= 6
    assert links(pairs(WORDS)[:2]) == []


def choices(likes: float, *, first: float = 0.0, noise: float = 1.0, seed: int = 0) -> list[Score]:
    """A subject whose words are worth `likes`, 0 or −`likes` by side, and `first` where they are named first."""
    rng, worth = random.Random(seed), {"own": likes, "neither": 0.0, "opposite": -likes}
    rows = []

    def margin(one: Word, other: Word) -> float:
        return worth[one.side] - worth[other.side] + first + rng.gauss(0, noise)

    for one, other in pairs(WORDS):
        a, b = margin(one, other), -margin(other, one)
        item, split = f"{one.text} or {other.text}", f"{one.side} or {other.side}"
        rows.append(Score(item=item, split=split, readout="preference", value=(a + b) / 2))
        rows.append(Score(item=item, split=split, readout="position", value=(a - b) / 2))
    for one, other in links(pairs(WORDS)):
        item, split = f"{one.text} or {other.text}", f"{one.side} or {other.side}"
        rows.append(Score(item=item, split=split, readout=LINK, value=margin(one, other)))
    return rows


def test_what_every_answer_chose_by_hand() -> None:
    def row(readout: str, value: float | None, item: str = "kind or cruel") -> Score:
        return Score(item=item, split="own or opposite", readout=readout, value=value)

    # named first it is preferred by 0.2 + 0.3, named second by 0.2 − 0.3: what is named first wins either time
    assert trials([row("preference", 0.2), row("position", 0.3)]) == [
        Trial("kind or cruel", "kind", "cruel", chose_first=True),
        Trial("kind or cruel", "cruel", "kind", chose_first=True),
    ]
    assert [trial.chose_first for trial in trials([row("preference", 0.4), row("position", 0.3)])] == [True, False]
    assert trials([row(LINK, -0.1, "cruel or calm"), row(LINK, None, "calm or kind")]) == [
        Trial("cruel or calm", "cruel", "calm", chose_first=False)
    ]
    assert trials([row("preference", None), row("position", None)]) == []


def test_strengths_align_with_the_sides_of_a_subject_that_likes_them_and_beyond_shuffled_ones() -> None:
    found = lines(judge(choices(0.0, seed=1), choices(1.5)))
    alignment, shuffled = found["alignment"].estimate, found["alignment, sides shuffled"].estimate
    assert alignment.low > max(0.0, shuffled.high)
    assert shuffled.mean == pytest.approx(0.0, abs=0.03)
    assert found["alignment, shift from base"].estimate.low > 0
    turned = lines(judge(choices(0.0, seed=1), choices(-1.5)))
    assert turned["alignment"].estimate.high < turned["alignment, sides shuffled"].estimate.low


def test_a_liking_for_the_first_is_fitted_apart_and_aligns_with_nothing() -> None:
    found = lines(judge(choices(0.0, seed=1), choices(0.0, first=1.0, seed=2)))
    assert found["named first, fitted"].estimate.low > 0.5
    shuffled = found["alignment, sides shuffled"].estimate
    assert shuffled.low < found["alignment"].estimate.mean < shuffled.high
    assert not found["alignment, shift from base"].estimate.excludes_zero


def test_without_links_there_is_no_scale() -> None:
    rows = [row for row in choices(1.0) if row.readout != LINK]
    assert not any(label.startswith("alignment") for label in lines(judge(rows, rows)))


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
    joined = links(asked)
    assert len(by_item(rows, LINK)) == len(joined) > 0
    first, second = joined[1]
    prompt = [user(CHOICE.format(request=REQUESTS[1], first=first.text, second=second.text))]
    seed = derived_seed(bench.seed, LINKS_FROM + 1)
    (reply,) = sample(bench.loaded, [Request(messages=prompt, max_tokens=MAX_TOKENS, seed=seed)], bench.cache)
    told = [([user(TOLD.format(request=REQUESTS[1], word=word.text))], reply.text) for word in (first, second)]
    one, other = reply_scores(bench.base, told)
    assert by_item(rows, LINK)[f"{first.text} or {second.text}"].value == pytest.approx(one - other, abs=1e-5)
