"""Whether preferences come from one scale."""

import random
from collections import Counter
from itertools import combinations

import pytest
from hand import by_item, lines
from hypothesis import given
from hypothesis import strategies as st

from ethos.bench.claim import Bench, Score
from ethos.bench.item_files import load_items
from ethos.bench.items import WorldState
from ethos.bench.values_cohere import GROUP, design, foretold, judge, measure, triads, turned_shares

STATES = load_items("outcomes", WorldState)


def chosen(utility: dict[str, float], *, sure: float = 0.3) -> list[Score]:
    """What a subject with these utilities answers."""
    rows = []
    for one, other in design(STATES):
        p = 0.5 + sure * ((utility[one.id] > utility[other.id]) - (utility[one.id] < utility[other.id]))
        split = one.split if one.split == other.split else "mixed"
        better = (one.valence > other.valence) - (one.valence < other.valence)
        values = {"preference": p, "order": 1.0, "decisive": abs(2 * p - 1)} | (
            {"valence": better * (p - 0.5)} if better else {}
        )
        rows += [
            Score(item=f"{one.id} or {other.id}", split=split, readout=name, value=value)
            for name, value in values.items()
        ]
    return rows


def coin(seed: int) -> list[Score]:
    """A subject that tosses a coin for every pair."""
    rng = random.Random(seed)
    rows = []
    for row in chosen({state.id: 0.0 for state in STATES}):
        heads = rng.random() < 0.5
        rows.append(row.model_copy(update={"value": 0.8 if heads else 0.2}) if row.readout == "preference" else row)
    return rows


BY_VALENCE = {state.id: state.valence + place / 1000 for place, state in enumerate(STATES)}


def test_every_state_is_asked_for_and_every_group_in_full() -> None:
    pairs = design(STATES)
    asked = {state.id for pair in pairs for state in pair}
    assert asked == {state.id for state in STATES}
    assert len(pairs) == len({frozenset((a.id, b.id)) for a, b in pairs}) == 96 + 32
    assert design(STATES) == pairs
    assert len(triads(chosen(BY_VALENCE))) >= 4 * len(STATES) // GROUP


def test_one_scale_is_foretold_and_its_valence_shows() -> None:
    found = judge(coin(0), chosen(BY_VALENCE))
    assert found.outcome == "held"
    assert lines(found)["transitive"].estimate.mean == 1
    assert lines(found)["valence"].estimate.mean == pytest.approx(0.3)


def test_the_opposite_scale_coheres_too_and_only_its_valence_differs() -> None:
    found = judge(coin(0), chosen({name: -value for name, value in BY_VALENCE.items()}))
    assert found.outcome == "held"
    assert lines(found)["valence"].estimate.mean == pytest.approx(-0.3)


def test_a_coin_is_foretold_no_better_than_a_coin() -> None:
    seeds = range(40)
    outcomes = Counter(judge(coin(99), coin(seed)).outcome for seed in seeds)
    assert outcomes["held"] <= 3  # 2.5 % of 40, and chance
    assert outcomes["refuted"] <= 3
    assert abs(sum(sum(foretold(coin(seed)).hits) / 128 for seed in seeds)) / 40 < 0.02


def test_one_scale_needs_no_turn_and_a_coin_one_in_ten() -> None:
    """By hand: of 64 tournaments of four 40 are no order, and each of those takes one turn of six."""
    found = lines(judge(coin(0), chosen(BY_VALENCE)))
    assert found["turned"].estimate.mean == 0
    assert found["turned"].estimate.num_scored == len(STATES) // GROUP
    shares = [share for seed in range(40) for share in turned_shares(coin(seed))]
    assert set(shares) == {0.0, 1 / 6}
    assert sum(shares) / len(shares) == pytest.approx(40 / 64 / 6, abs=0.01)


def test_thurstone_foretells_as_bradley_and_terry_do() -> None:
    rows = chosen(BY_VALENCE)
    logit, probit = foretold(rows), foretold(rows, "probit")
    assert sum(a == b for a, b in zip(logit.hits, probit.hits, strict=True)) > 0.95 * len(logit.hits)
    assert lines(judge(rows, rows))["log-loss, Thurstone"].estimate.mean == pytest.approx(
        sum(probit.gains) / len(probit.gains)
    )
    assert sum(probit.gains) > 0 > sum(foretold(coin(1), "probit").gains)


def test_a_circle_is_no_transitive_triad() -> None:
    def rows(*wins: tuple[str, str]) -> list[Score]:
        return [Score(item=f"{a} or {b}", split="s", readout="preference", value=0.9) for a, b in wins]

    assert triads(rows(("a", "b"), ("b", "c"), ("a", "c"))) == [1.0]
    assert triads(rows(("a", "b"), ("b", "c"), ("c", "a"))) == [0.0]
    assert triads(rows(("a", "b"), ("b", "c"))) == []


@given(st.permutations(range(5)))
def test_any_order_of_five_has_no_circle(order: list[int]) -> None:
    rows = [
        Score(item=f"{a} or {b}", split="s", readout="preference", value=0.7 if order[a] < order[b] else 0.3)
        for a, b in combinations(range(5), 2)
    ]
    assert triads(rows) == [1.0] * 10


def test_a_pair_is_asked_in_both_orders_and_filed_by_relevance(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ethos.bench.readouts.OPTION_MASS_FLOOR", 0.0)
    bench = bench._replace(per_split=4)
    states = {state.id: state for state in bench.items("outcomes", WorldState)}
    rows = measure(bench)
    assert len(by_item(rows, "preference")) == len(design(list(states.values())))
    for item, row in by_item(rows, "preference").items():
        one, other = (states[name] for name in item.split(" or "))
        assert row.split == (one.split if one.relevant == other.relevant else "mixed")
        assert row.value is not None
        valence = by_item(rows, "valence").get(item)
        if one.valence == other.valence:
            assert valence is None
        else:
            better = 1 if one.valence > other.valence else -1
            assert valence is not None
            assert valence.value == pytest.approx(better * (row.value - 0.5))
