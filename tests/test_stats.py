"""Statistics against hand arithmetic and against scipy."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats

from ethos.errors import NothingScored
from ethos.stats import (
    Estimate,
    Floats,
    Side,
    benjamini_hochberg,
    bootstrap_means,
    bounds,
    crossed_error,
    detectable,
    dose_until,
    estimate,
    generalisation_ratio,
    holm,
    items_needed,
    not_worse,
    over_seeds,
    over_seeds_p,
    p_value,
    paired,
    ratio_over_seeds,
    reached,
    seen_share,
    share_interval,
    spearman_brown,
    split_half,
    tost,
)

PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=8)
NUMBERS = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20)
MAYBE = st.one_of(st.none(), st.floats(-1e3, 1e3))


def test_the_mean_counts_scored_values_only() -> None:
    result = estimate([1.0, None, 3.0, None, 5.0])
    assert result.mean == pytest.approx(3.0)
    assert (result.num_scored, result.num_unscored) == (3, 2)


@given(st.lists(MAYBE, min_size=1, max_size=15))
def test_an_unscored_value_changes_the_count_and_not_the_numbers(values: list[float | None]) -> None:
    numbers = [value for value in values if value is not None]
    if not numbers:
        with pytest.raises(NothingScored, match=f"none of {len(values)} values"):
            estimate(values)
        return
    result, alone = estimate(values), estimate(list(numbers))
    assert result.num_scored + result.num_unscored == len(values)
    assert result.mean == alone.mean


def test_nothing_scored_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(NothingScored, match="none of 0"):
        estimate([])


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_an_interval_holds_its_mean_and_lies_within_the_values(values: list[float]) -> None:
    result = estimate(list(values))
    slack = 1e-9 * (1 + max(map(abs, values)))
    assert min(values) - slack <= result.low <= result.high <= max(values) + slack


@pytest.mark.parametrize(("values", "names"), [([0.7], ["a"]), ([0.7, 0.6, 0.8], ["a", "a", "a"])])
def test_one_cluster_says_nothing_about_where_the_mean_lies(values: list[float], names: list[str]) -> None:
    result = estimate(values, names)
    assert (result.mean, result.low, result.high) == (pytest.approx(0.7), -math.inf, math.inf)
    assert not result.excludes_zero


def test_an_interval_of_equal_values_is_a_point() -> None:
    assert estimate([0.25] * 7) == Estimate(0.25, 0.25, 0.25, 7, 0)


def test_the_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).normal(0.2, 1.0, 60)
    theirs = scipy_stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    ours = estimate(values.tolist())
    assert ours.low == pytest.approx(theirs.low, abs=0.03)
    assert ours.high == pytest.approx(theirs.high, abs=0.03)


def test_the_clustered_interval_agrees_with_scipy_on_clusters() -> None:
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 6, 40)
    effects = rng.normal(0.0, 1.0, 40)
    names = [f"prompt-{i}" for i, size in enumerate(sizes) for _ in range(size)]
    values = [float(effects[i] + rng.normal(0, 0.1)) for i, size in enumerate(sizes) for _ in range(size)]
    sums = np.array([sum(v for v, name in zip(values, names, strict=True) if name == f"prompt-{i}") for i in range(40)])

    def mean(totals: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.asarray(totals.sum(axis) / counts.sum(axis))

    theirs = scipy_stats.bootstrap(
        (sums, sizes), mean, paired=True, vectorized=True, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    ours = estimate(values, names)
    assert ours.low == pytest.approx(theirs.low, abs=0.04)
    assert ours.high == pytest.approx(theirs.high, abs=0.04)


def test_repeated_measures_of_one_prompt_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(5).normal(0, 1, 20).tolist()
    once = estimate(values)
    tenfold = estimate([v for v in values for _ in range(10)], [str(i) for i in range(20) for _ in range(10)])
    independent = estimate([v for v in values for _ in range(10)])
    assert tenfold.high - tenfold.low == pytest.approx(once.high - once.low, rel=0.1)
    assert independent.high - independent.low < 0.5 * (once.high - once.low)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(100):
        result = estimate(rng.normal(1.0, 2.0, 50).tolist())
        hits += result.low <= 1.0 <= result.high
    assert 87 <= hits <= 99


def test_a_wider_level_gives_a_wider_interval() -> None:
    values = np.random.default_rng(7).normal(0, 1, 30).tolist()
    narrow, wide = estimate(values, level=0.8), estimate(values, level=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


@given(NUMBERS, st.integers(0, 3))
@settings(max_examples=20)
def test_the_same_seed_gives_the_same_interval(values: list[float], seed: int) -> None:
    assert estimate(list(values), seed=seed) == estimate(list(values), seed=seed)


def test_resamples_take_whole_clusters() -> None:
    means = bootstrap_means(np.array([0.0, 0.0, 3.0]), ["a", "a", "b"], seed=0)
    assert set(np.round(means, 9)) == {0.0, 1.0, 3.0}  # aa, ab or ba, bb


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.1, 0.3, True), (-0.3, -0.1, True), (-0.1, 0.1, False), (0.0, 0.2, False)]
)
def test_an_interval_excludes_zero_only_on_one_side_of_it(low: float, high: float, expected: bool) -> None:
    assert Estimate(0.0, low, high, 5).excludes_zero is expected


def test_an_estimate_prints_its_interval_its_n_and_what_is_unscored() -> None:
    assert str(Estimate(0.5, 0.25, 0.75, 4, 1)) == "+0.500 [+0.250, +0.750] n=4 (1 unscored)"
    assert str(Estimate(-0.5, -0.75, -0.25, 4)) == "-0.500 [-0.750, -0.250] n=4"
    assert str(Estimate(-0.0001, -0.1, 0.0, 4)) == "+0.000 [-0.100, +0.000] n=4"


def test_paired_differences_keep_unscored_items_unscored() -> None:
    assert paired([1.0, None, 3.0, None], [0.5, 1.0, None, None]) == [0.5, None, None, None]


def test_paired_refuses_lists_of_unequal_length() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired([1.0], [1.0, 2.0])


def test_bounds_by_hand() -> None:
    assert bounds([1.0, 1.0, 0.0, None], worst=0.0, best=1.0) == pytest.approx((0.5, 0.75))


@pytest.mark.parametrize(("unscored", "shown"), [(0, False), (2, False), (3, True), (100, True)])
def test_bounds_are_shown_above_two_per_cent_unscored(unscored: int, shown: bool) -> None:
    values: list[float | None] = [None] * unscored + [0.5] * (100 - unscored)
    assert (bounds(values, worst=0.0, best=1.0) is not None) is shown


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=20), st.data())
def test_no_outcome_of_the_unscored_lies_outside_the_bounds(values: list[float | None], data: st.DataObject) -> None:
    found = bounds(values, worst=0.0, best=1.0)
    filled = [data.draw(st.floats(0, 1)) if value is None else value for value in values]
    if found is not None:
        assert found[0] - 1e-9 <= sum(filled) / len(filled) <= found[1] + 1e-9


def test_the_generalisation_ratio_by_hand() -> None:
    ratio = generalisation_ratio([0.25] * 8, [0.5] * 8)
    assert ratio is not None
    assert (ratio.mean, ratio.low, ratio.high) == pytest.approx((0.5, 0.5, 0.5))
    assert ratio.num_scored == 16


@pytest.mark.parametrize("inside", [[-1.0, 1.0, -0.5, 0.5], [-1.0, -1.1, -0.9], [0.0, 0.0, 0.0]])
def test_there_is_no_ratio_where_the_shift_inside_is_not_above_zero(inside: list[float]) -> None:
    assert generalisation_ratio([1.0, 1.1, 0.9], inside) is None


def test_the_ratio_has_an_interval_that_covers_the_truth() -> None:
    rng = np.random.default_rng(8)
    ratio = generalisation_ratio(rng.normal(0.3, 0.2, 200).tolist(), rng.normal(0.6, 0.2, 200).tolist())
    assert ratio is not None
    assert ratio.low < 0.5 < ratio.high
    assert ratio.high - ratio.low < 0.2


def test_p_value_by_hand() -> None:
    values = [0.5, 1.5, 1.0, 2.0]  # mean 1.25, s = 0.6455, t = 1.25 / (0.6455 / 2) = 3.873 on 3 degrees of freedom
    assert p_value(values) == pytest.approx(2 * scipy_stats.t.sf(1.25 / (math.sqrt(5 / 12) / 2), 3))


@pytest.mark.parametrize("side", ["two-sided", "greater", "less"])
def test_p_value_agrees_with_scipy_on_every_side(side: Side) -> None:
    values = [0.5, 1.5, 1.0, 2.0]
    expected = scipy_stats.ttest_1samp(values, 0.8, alternative=side).pvalue
    assert p_value(values, mean=0.8, side=side) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "expected"), [([], 1.0), ([0.0], 1.0), ([0.0, 0.0], 1.0), ([0.5, 0.5, 0.5], 0.0), ([-2.0, -2.0], 0.0)]
)
def test_p_value_of_values_without_spread(values: list[float], expected: float) -> None:
    assert p_value(values) == expected


def test_one_value_is_no_evidence() -> None:
    assert p_value([0.7]) == 1.0
    assert not_worse([0.7], margin=0.1) == 1.0
    assert tost([0.0], margin=0.1).verdict == "undecided"


@pytest.mark.parametrize(("value", "better"), [(0.01, True), (-0.2, False), (-0.1, False)])
def test_equal_values_are_not_worse_exactly_where_they_lie_above_the_margin(value: float, better: bool) -> None:
    assert not_worse([value] * 5, margin=0.1) == (0.0 if better else 1.0)


@pytest.mark.parametrize(("value", "verdict"), [(0.01, "equivalent"), (0.2, "different"), (-0.2, "different")])
def test_equal_values_leave_no_doubt_about_equivalence(value: float, verdict: str) -> None:
    assert tost([value] * 5, margin=0.1).verdict == verdict


def test_holm_by_hand() -> None:
    # sorted 0.01, 0.02, 0.03, 0.2 times 4, 3, 2, 1 → 0.04, 0.06, 0.06, 0.2; never falling
    assert holm([0.02, 0.2, 0.01, 0.03]) == pytest.approx([0.06, 0.2, 0.04, 0.06])


@given(PROBABILITIES)
def test_holm_lies_between_the_raw_p_and_bonferroni(p_values: list[float]) -> None:
    for raw, adjusted in zip(p_values, holm(p_values), strict=True):
        assert raw <= adjusted <= min(1.0, len(p_values) * raw) + 1e-12


@given(PROBABILITIES)
def test_holm_keeps_the_order_of_p_values(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    order = np.argsort(p_values)
    assert all(adjusted[one] <= adjusted[next_] for one, next_ in pairwise(order))


@given(PROBABILITIES, st.floats(0.01, 0.99))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float], alpha: float) -> None:
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected = set()
    for rank, index in enumerate(order):
        if p_values[index] * (len(p_values) - rank) > alpha:
            break
        rejected.add(index)
    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_a_p_value_that_is_no_number_is_never_made_significant() -> None:
    assert not holm([math.nan, 0.01, 0.02])[0] < 0.05


def test_holm_of_nothing_is_nothing() -> None:
    assert holm([]) == []


@given(st.integers(0, 50), st.floats(-0.3, 0.3), st.floats(0.05, 0.5))
def test_tost_is_the_larger_of_scipys_two_one_sided_p(seed: int, mean: float, margin: float) -> None:
    values = np.random.default_rng(seed).normal(mean, 0.3, 25).tolist()
    result = tost(values, margin=margin)
    below = scipy_stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    above = scipy_stats.ttest_1samp(values, margin, alternative="less").pvalue
    assert result.p == pytest.approx(max(below, above))
    assert result.margin == margin
    low, high = scipy_stats.ttest_1samp(values, 0.0).confidence_interval(0.90)
    within, beyond = -margin < low and high < margin, high < -margin or low > margin
    assert result.verdict == ("equivalent" if within else "different" if beyond else "undecided")


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_tost_tells_equivalent_different_and_undecided_apart(sign: float) -> None:
    spread = np.array([-0.02, -0.01, 0.0, 0.01, 0.02])
    assert tost((sign * (spread + 0.01)).tolist(), margin=0.05).verdict == "equivalent"
    assert tost((sign * (spread + 0.50)).tolist(), margin=0.05).verdict == "different"
    assert tost((sign * (spread * 20)).tolist(), margin=0.05).verdict == "undecided"


def test_no_change_at_all_is_equivalent() -> None:
    assert tost([0.0] * 10, margin=0.05).verdict == "equivalent"


def test_not_worse_by_hand() -> None:
    values = [0.0, -0.1, 0.1, 0.05]  # mean 0.0125, s = 0.08539; t = 0.1125 / 0.04270
    spread = np.std(values, ddof=1) / 2
    assert not_worse(values, margin=0.1) == pytest.approx(scipy_stats.t.sf(0.1125 / spread, 3))


def test_not_worse_is_sure_of_no_loss_and_unsure_of_a_loss_beyond_the_margin() -> None:
    assert not_worse([0.0] * 10, margin=0.1) < 0.001
    assert not_worse([-0.3, -0.2, -0.4, -0.3], margin=0.1) > 0.9


@given(st.floats(0.01, 5), st.floats(0.01, 2))
def test_the_items_needed_are_the_fewest_that_detect(spread: float, shift: float) -> None:
    num_items = items_needed(spread, shift)
    assert detectable(spread, num_items) <= shift * (1 + 1e-9)
    assert num_items == 1 or detectable(spread, num_items - 1) >= shift * (1 - 1e-9)


def test_the_items_needed_give_the_power_they_promise() -> None:
    num_items = items_needed(1.0, 0.4)
    rng = np.random.default_rng(0)
    found = [p_value(rng.normal(0.4, 1.0, num_items).tolist()) < 0.05 for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_benjamini_and_hochberg_by_hand() -> None:
    """0.01, 0.02, 0.04 and 0.5 times 4 over their rank, never below a smaller one's."""
    assert benjamini_hochberg([0.02, 0.5, 0.04, 0.01]) == pytest.approx([0.04, 0.5, 0.16 / 3, 0.04])
    assert benjamini_hochberg([0.04, 0.05]) == pytest.approx([0.05, 0.05])
    assert benjamini_hochberg([]) == []


@given(PROBABILITIES)
def test_false_discovery_asks_less_than_holm_and_never_less_than_nothing(ps: list[float]) -> None:
    adjusted = benjamini_hochberg(ps)
    for p, fdr, family in zip(ps, adjusted, holm(ps), strict=True):
        assert p <= fdr <= family + 1e-12
    by_p = sorted(zip(ps, adjusted, strict=True))
    assert [fdr for _, fdr in by_p] == sorted(adjusted)


def test_the_false_discovery_rate_is_kept_where_half_of_the_lines_are_null() -> None:
    rng, wrong = np.random.default_rng(0), []
    for _ in range(400):
        ps = scipy_stats.norm.sf(rng.normal([0.0] * 10 + [3.0] * 10)).tolist()
        found = [place for place, p in enumerate(benjamini_hochberg(ps)) if p < 0.1]
        wrong.append(sum(place < 10 for place in found) / max(1, len(found)))
    assert np.mean(wrong) <= 0.1 * 0.5 + 0.02  # α times the share of nulls


def test_what_could_not_be_computed_is_no_discovery() -> None:
    assert benjamini_hochberg([math.nan, 0.01]) == pytest.approx([1.0, 0.02])


def test_seeds_that_differ_make_the_interval_wider_than_items_would() -> None:
    rng = np.random.default_rng(0)
    items = rng.normal(0, 0.1, (1, 118))
    alike, unlike = items + np.zeros((3, 1)), items + np.array([[-0.1], [0.0], [0.1]])
    assert over_seeds(unlike).high - over_seeds(unlike).low > 3 * (over_seeds(alike).high - over_seeds(alike).low)
    assert over_seeds_p(alike + 0.1) < 0.01
    assert over_seeds_p(unlike + 0.1) > 0.05


def test_seed_effects_do_not_pass_for_differences() -> None:
    """118 items of sd 0.1 and seeds of sd 0.02, nominal 5 %: items alone would be fooled in a third of the cases."""
    rng = np.random.default_rng(1)
    found = [
        over_seeds_p(rng.normal(0, 0.1, (3, 118)) + rng.normal(0, 0.02, (3, 1)), seed=place) < 0.05
        for place in range(200)
    ]
    assert np.mean(found) <= 0.09


def test_the_error_of_seeds_and_items_by_hand() -> None:
    """Seeds' means 1 and 3: variance 2, over 2. Items' means 0, 2 and 4: variance 4, over 3. 1 + 4/3, squared, over
    1²/1 + (4/3)²/2."""
    error, freedom = crossed_error(np.array([[-1.0, 1.0, 3.0], [1.0, 3.0, 5.0]]))
    assert error == pytest.approx(math.sqrt(7 / 3))
    assert freedom == pytest.approx((7 / 3) ** 2 / (1 + 8 / 9))
    assert crossed_error(np.array([[0.0, 2.0, 4.0]])) == pytest.approx((math.sqrt(4 / 3), 2.0))
    assert crossed_error(np.full((3, 4), 0.5)) == (0.0, math.inf)


@pytest.mark.parametrize(("num_seeds", "num_items", "luck"), [(3, 8, (0.0, 1.0, 0.5)), (5, 6, (0.0, 1.0, 0.3))])
def test_few_items_and_few_seeds_are_not_trusted_too_much(
    num_seeds: int, num_items: int, luck: tuple[float, float, float]
) -> None:
    """Nothing to find, nominal 5 %: a bootstrap and Student over seeds alone would find it in 9 to 13 %."""
    rng = np.random.default_rng(2)
    of_seed, of_item, of_both = luck
    found = [
        over_seeds_p(
            rng.normal(0, of_seed, (num_seeds, 1))
            + rng.normal(0, of_item, (1, num_items))
            + rng.normal(0, of_both, (num_seeds, num_items))
        )
        < 0.05
        for _ in range(300)
    ]
    assert np.mean(found) <= 0.07


@given(arrays(float, (3, 5), elements=st.floats(-9, 9, width=16)))
@settings(deadline=None)
def test_an_interval_over_seeds_excludes_zero_where_its_p_is_small(shifts_SI: Floats) -> None:
    if over_seeds(shifts_SI).excludes_zero:
        assert over_seeds_p(shifts_SI) < 0.051


def test_one_seed_or_one_item_says_nothing_of_others() -> None:
    assert over_seeds_p(np.full((1, 50), 0.3)) == over_seeds_p(np.full((5, 1), 0.3)) == 1.0
    assert over_seeds(np.full((5, 1), 0.3)).low == -math.inf


# --- doses


def test_a_shift_is_seen_as_often_as_its_power_says() -> None:
    """A mean of 2.8 standard errors is seen four times in five, one of none once in forty above zero."""
    shifts = np.random.default_rng(0).normal(0, 1, 400)
    shifts = (shifts - shifts.mean()) / shifts.std(ddof=1)
    assert seen_share((shifts + 2.8 / 20).tolist()) == pytest.approx(0.8, abs=0.02)
    assert seen_share(shifts.tolist()) == pytest.approx(0.025, abs=0.01)
    assert seen_share((shifts - 1).tolist()) == 0


def test_a_dose_is_read_off_the_straight_line_between_two() -> None:
    assert reached([0, 10, 30], [0.0, 1.0, 5.0], 3.0) == 20.0
    assert reached([0, 10, 30], [0.0, 1.0, 5.0], 1.0) == 10.0
    assert reached([0, 10, 30], [3.0, 1.0, 5.0], 2.0) == 0.0  # it was there before it fell
    assert reached([0, 10, 30], [0.0, 1.0, 5.0], 6.0) == math.inf


@given(st.lists(st.floats(0, 5), min_size=3, max_size=3), st.floats(0.1, 4))
def test_a_dose_never_comes_before_the_last_one_under_the_level(curve: list[float], level: float) -> None:
    found = reached([0, 1, 2], curve, level)
    under = [dose for dose, value in enumerate(curve) if all(v < level for v in curve[: dose + 1])]
    assert found >= max(under, default=0)
    assert (found == math.inf) == (len(under) == 3)


def test_a_dose_has_an_interval_over_items() -> None:
    rng = np.random.default_rng(0)
    slopes = rng.normal(1.0, 0.3, 40)
    found = dose_until([0, 1, 2, 4], np.outer([0, 1, 2, 4], slopes), np.ones(40))
    assert found.mean == pytest.approx(1 / slopes.mean())
    assert found.low < found.mean < found.high < math.inf
    never = dose_until([0, 1], np.zeros((2, 5)), np.ones(5))
    assert (never.mean, never.low, never.high) == (math.inf, math.inf, math.inf)


# --- reliability


@pytest.mark.parametrize(("half", "whole"), [(1.0, 1.0), (0.5, 2 / 3), (0.6, 0.75), (0.0, 0.0), (-0.4, -0.4)])
def test_spearman_brown_by_hand(half: float, whole: float) -> None:
    assert spearman_brown(half) == pytest.approx(whole)


def test_split_halves_of_two_items_are_the_items() -> None:
    """Subjects 0, 1, 2 on one item and 1, 0, 2 on the other: r = ½, stepped up to ⅔."""
    assert split_half(np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])) == pytest.approx(2 / 3)
    assert split_half(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])) == pytest.approx(1.0)
    assert split_half(np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]])) == pytest.approx(-1.0)


def test_a_reliability_is_that_of_theory() -> None:
    """Subjects of variance 1 and 20 items of error variance 20: the mean's reliability is 1 / (1 + 20 / 20) = ½."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (600, 1)) + rng.normal(0, math.sqrt(20), (600, 20))
    assert split_half(values) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("seed", range(4))
def test_how_hard_items_are_says_nothing_of_reliability(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, hardness = rng.normal(size=(7, 8)), rng.normal(0, 9, 8)
    assert split_half(values + hardness) == pytest.approx(split_half(values))


def test_subjects_or_items_too_few_have_no_reliability() -> None:
    assert split_half(np.array([[0.0], [1.0], [2.0]])) is None
    assert split_half(np.ones((5, 6))) is None


def test_an_interval_of_a_share_by_hand() -> None:
    assert share_interval(0.0, 10) == pytest.approx((0.0, 1 - 0.025 ** (1 / 10)))
    assert share_interval(1.0, 10) == pytest.approx((0.025 ** (1 / 10), 1.0))
    assert share_interval(0.5, 0) == (0.0, 1.0)
    exact = scipy_stats.binomtest(3, 20).proportion_ci(method="exact")
    assert share_interval(0.15, 20) == pytest.approx((exact.low, exact.high))


def test_a_ratio_over_seeds_by_hand_and_none_over_nothing() -> None:
    inside = np.array([[1.9, 2.0, 2.1], [2.1, 2.2, 2.3]])  # means 2 and 2.2
    outside = np.array([[0.9, 1.1], [1.0, 1.2]])  # means 1 and 1.1
    found = ratio_over_seeds(outside, inside)
    assert found is not None
    assert found.mean == pytest.approx(1.05 / 2.1)
    assert found.num_scored == 5
    assert found.low < found.mean < found.high
    assert ratio_over_seeds(outside, inside - 2.1) is None
    assert ratio_over_seeds(outside, np.full((2, 1), 3.0)) is None
    assert ratio_over_seeds(outside[:, :1], inside) is None


def test_a_ratio_is_no_surer_than_its_seeds_are_alike() -> None:
    rng = np.random.default_rng(0)
    inside = 1 + rng.normal(0, 0.05, (3, 80))
    alike = 0.5 + rng.normal(0, 0.05, (3, 80))
    unlike = alike + np.array([[-0.2], [0.0], [0.2]])
    narrow, wide = ratio_over_seeds(alike, inside), ratio_over_seeds(unlike, inside)
    assert narrow is not None
    assert wide is not None
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    assert narrow.low < 0.5 < narrow.high


def test_seeds_that_shift_everything_alike_leave_the_ratio_alone() -> None:
    """Both grids draw the same seeds: a seed that learns twice as much does so in and out of distribution."""
    rng = np.random.default_rng(1)
    strength = np.array([[1.6], [2.0], [2.4]])
    inside, outside = (strength * (level + rng.normal(0, 0.01, (1, 60))) for level in (1.0, 0.5))
    found = ratio_over_seeds(outside, inside)
    assert found is not None
    assert found.high - found.low < 0.02


def test_with_one_seed_a_ratio_is_that_of_its_items() -> None:
    rng = np.random.default_rng(2)
    inside, outside = 1 + rng.normal(0, 0.3, (1, 60)), 0.5 + rng.normal(0, 0.3, (1, 60))
    found, plain = ratio_over_seeds(outside, inside), generalisation_ratio(outside[0], inside[0])
    assert found is not None
    assert plain is not None
    assert found.mean == pytest.approx(plain.mean)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.03)
