"""Choices between pairs of names: strengths, orders and agreements, by hand and against what made them."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from ethos.duels import Duel, agreement, agreement_p, asked_in_full, corrected, log_chance, strengths, turned
from ethos.errors import NothingScored
from ethos.stats import Floats


def duelling(one: list[float], other: list[float], noise: float = 0.0, seed: int = 0) -> list[Duel]:
    """Every pair of eight names, preferred by strength."""
    rng = np.random.default_rng(seed)
    names = [f"n{i}" for i in range(len(one))]
    return [
        (names[a], names[b], one[a] - one[b] + rng.normal(0, noise), other[a] - other[b] + rng.normal(0, noise))
        for a in range(len(names))
        for b in range(a + 1, len(names))
    ]


STRENGTHS = [0.0, 1.0, 2.5, 3.0, 4.2, 5.0, 6.1, 7.5]


def test_two_measures_of_one_strength_agree_and_of_opposite_ones_disagree() -> None:
    same = duelling(STRENGTHS, [2 * s for s in STRENGTHS])
    turned = duelling(STRENGTHS, [-s for s in STRENGTHS])
    assert agreement(same)[:3] == pytest.approx((1.0, 1.0, 1.0))
    assert agreement(turned).mean == pytest.approx(-1.0)
    assert agreement_p(same) < 0.01
    assert agreement_p(turned) > 0.99


def test_turning_pairs_round_changes_nothing() -> None:
    duels = duelling(STRENGTHS, STRENGTHS[::-1], noise=2.0)
    flipped = [(b, a, -x, -y) if place % 3 else (a, b, x, y) for place, (a, b, x, y) in enumerate(duels)]
    assert agreement(flipped) == agreement(duels)


def test_independent_strengths_agree_by_chance_alone() -> None:
    rng = np.random.default_rng(5)
    ps = [
        agreement_p(duelling(rng.normal(size=9).tolist(), rng.normal(size=9).tolist(), noise=0.5, seed=i))
        for i in range(60)
    ]
    assert np.mean([p < 0.05 for p in ps]) <= 0.12


def test_too_few_names_have_no_agreement() -> None:
    with pytest.raises(NothingScored):
        agreement(duelling(STRENGTHS[:5], STRENGTHS[:5]))


# --- corrected for attenuation


def noisy(strength: list[float], spread: float, *, seed: int) -> dict[tuple[str, str], float]:
    """A measure of every pair's difference with noise of its own."""
    rng = np.random.default_rng(seed)
    return {
        (f"n{a}", f"n{b}"): strength[a] - strength[b] + float(rng.normal(0, spread))
        for a, b in combinations(range(len(strength)), 2)
    }


def side_by_side(one: dict[tuple[str, str], float], other: dict[tuple[str, str], float]) -> list[Duel]:
    return [(*pair, one[pair], other[pair]) for pair in one]


def test_a_perfect_agreement_that_noise_hides_is_found_again() -> None:
    """Both measures are of one strength; the mean of two halves has half the noise's variance."""
    strength = np.random.default_rng(3).normal(size=16).tolist()
    first, again, half, other_half = (noisy(strength, 1.0, seed=seed) for seed in range(4))
    mean = {pair: (half[pair] + other_half[pair]) / 2 for pair in half}
    across = side_by_side(first, mean)
    found = corrected(across, side_by_side(first, again), side_by_side(half, other_half))
    assert agreement(across).mean < 0.9
    assert found.mean == pytest.approx(1.0, abs=0.1)
    assert found.low < found.mean < found.high


def test_the_correction_by_hand_on_eight_names() -> None:
    """With r = 0.6 across, 0.9 again and halves that agree by 0.8, stepped up to 8/9: 0.6 / √(0.9 · 8/9)."""
    rng = np.random.default_rng(0)
    pairs = [(f"n{a}", f"n{b}") for a, b in combinations(range(8), 2)]
    x, *others = np.linalg.qr(rng.normal(size=(len(pairs), 4)))[0].T

    def with_r(r: float, axis: int) -> list[Duel]:
        y = r * x + math.sqrt(1 - r * r) * others[axis]
        return [(*pair, float(one), float(other)) for pair, one, other in zip(pairs, x, y, strict=True)]

    across, again, halves = with_r(0.6, 0), with_r(0.9, 1), with_r(0.8, 2)
    assert agreement(again).mean == pytest.approx(0.9)
    assert corrected(across, again, halves).mean == pytest.approx(0.6 / math.sqrt(0.9 * 8 / 9))


def test_without_reliability_there_is_a_reason_and_no_number() -> None:
    strength, nothing = STRENGTHS, [0.0] * 8
    good, other_good = noisy(strength, 0.1, seed=0), noisy(strength, 0.1, seed=1)
    noise, more_noise = noisy(nothing, 1.0, seed=2), noisy(nothing, 1.0, seed=3)
    across = side_by_side(good, noise)
    with pytest.raises(NothingScored, match="halves of the second agrees by"):
        corrected(across, side_by_side(good, other_good), side_by_side(noise, more_noise))
    with pytest.raises(NothingScored, match="the first asked again agrees by"):
        corrected(side_by_side(noise, good), side_by_side(noise, more_noise), side_by_side(good, other_good))


# --- strengths


def choices(utility_N: Floats, num: int, *, seed: int, place: float = 0.0) -> tuple[Floats, np.ndarray]:
    """Random pairs, chosen by Bradley and Terry's law; the last column says that the first was named first."""
    rng = np.random.default_rng(seed)
    design_PK, chosen_P = np.zeros((num, len(utility_N) + 1)), np.zeros(num, dtype=bool)
    for row in range(num):
        one, other = rng.choice(len(utility_N), 2, replace=False)
        first = float(rng.choice([-1.0, 1.0]))
        design_PK[row, one], design_PK[row, other], design_PK[row, -1] = 1.0, -1.0, first
        margin = utility_N[one] - utility_N[other] + place * first
        chosen_P[row] = rng.random() < 1 / (1 + math.exp(-margin))
    return design_PK, chosen_P


def test_bradley_and_terry_are_the_ridge_regression_of_scikit_learn() -> None:
    design_PK, chosen_P = choices(np.linspace(-2, 2, 9), 60, seed=1)
    theirs = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=1000).fit(design_PK, chosen_P)
    assert strengths(design_PK, chosen_P) == pytest.approx(theirs.coef_[0], abs=1e-5)


def test_strengths_and_the_liking_for_what_comes_first_are_found() -> None:
    utility = np.linspace(-1.5, 1.5, 6)
    found = strengths(*choices(utility, 4000, seed=2, place=0.7))
    assert found[:-1] - found[:-1].mean() == pytest.approx(utility, abs=0.25)
    assert found[-1] == pytest.approx(0.7, abs=0.15)


def test_a_strength_by_hand() -> None:
    """Two names that met once: 2 s = 2 σ(−2 s) by logit, the prior's slope and the choice's; and so by probit."""
    one = strengths(np.array([[1.0, -1.0]]), np.array([True]))
    assert one[0] == -one[1]
    assert one[0] == pytest.approx(1 / (1 + math.exp(2 * one[0])))
    normal = strengths(np.array([[1.0, -1.0]]), np.array([True]), link="probit")
    margin = 2 * normal[0]
    density = math.exp(-(margin**2) / 2) / math.sqrt(2 * math.pi)
    assert normal[0] == pytest.approx(density / (0.5 * (1 + math.erf(margin / math.sqrt(2)))))


def test_weights_count_choices() -> None:
    design_PK, chosen_P = choices(np.linspace(-1, 1, 4), 12, seed=3)
    weights = np.array([1.0, 2.0, 0.0] * 4)
    rows = np.repeat(np.arange(12), weights.astype(int))
    twice = strengths(design_PK[rows], chosen_P[rows])
    assert strengths(design_PK, chosen_P, weight_P=weights, start_K=np.ones(5)) == pytest.approx(twice, abs=1e-6)


@given(st.floats(-20, 20))
def test_chances_of_a_choice_and_of_its_opposite_are_one(margin: float) -> None:
    for link in ("logit", "probit"):
        both = np.exp(log_chance(np.array([margin, -margin]), link))
        assert both.sum() == pytest.approx(1.0)


# --- orders


def test_the_choices_to_turn_round_by_hand() -> None:
    assert turned([("a", "b"), ("b", "c"), ("a", "c")]) == 0
    assert turned([("a", "b"), ("b", "c"), ("c", "a")]) == 1
    assert turned([]) == 0
    wheels = [("a", "b"), ("b", "c"), ("c", "a"), ("d", "e"), ("e", "f"), ("f", "d")]
    assert turned(wheels) == 2


def test_of_all_tournaments_of_four_24_are_orders_and_the_others_need_one_turn() -> None:
    """Which makes chance 40/64 of a turn in six: 0.104."""
    pairs = list(combinations("abcd", 2))
    counts = [
        turned([pair if flags >> place & 1 else pair[::-1] for place, pair in enumerate(pairs)]) for flags in range(64)
    ]
    assert (counts.count(0), counts.count(1)) == (24, 40)
    assert sum(counts) / 6 / 64 == pytest.approx(0.104, abs=1e-3)


@given(st.permutations("abcde"))
def test_no_choice_of_an_order_is_turned_and_one_against_it_is(order: list[str]) -> None:
    wins = list(combinations(order, 2))
    assert turned(wins) == 0
    first, last = order[0], order[-1]
    assert turned([win for win in wins if win != (first, last)] + [(last, first)]) == 1


def test_groups_that_were_asked_in_full() -> None:
    wins = [("a", "b"), ("c", "a"), ("b", "c"), ("d", "c")]
    assert asked_in_full(wins, 3) == [("a", "b", "c")]
    assert asked_in_full([*permutations("abcd", 2)], 4) == [("a", "b", "c", "d")]
    assert asked_in_full(wins, 2) == [("a", "b"), ("a", "c"), ("b", "c"), ("c", "d")]
