"""Statistics that a number is not shown without.

Intervals are percentile bootstraps that resample *clusters* (an item, or the prompt several items
share), so that repeated measures of one prompt never count as independent. Paired differences are
taken item by item before anything is averaged.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from ethos.errors import NothingScored

Floats = NDArray[np.float64]
Side = Literal["two-sided", "greater", "less"]
RESAMPLES = 4000
UNSCORED_TO_MENTION = 0.02


class Estimate(NamedTuple):
    """A mean that carries its uncertainty with it."""

    mean: float
    low: float
    high: float
    num_scored: int
    num_unscored: int = 0

    @property
    def excludes_zero(self) -> bool:
        """Whether the 95 % interval lies on one side of zero."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        """As reports print it: mean [low, high] n."""
        unscored = f" ({self.num_unscored} unscored)" if self.num_unscored else ""
        return f"{signed(self.mean)} [{signed(self.low)}, {signed(self.high)}] n={self.num_scored}{unscored}"


def signed(value: float) -> str:
    """Three decimals and a sign; nothing rounds to a negative zero."""
    return f"{round(value, 3) + 0.0:+.3f}"


def estimate(
    values: Sequence[float | None], clusters: Sequence[str] | None = None, *, seed: int = 0, level: float = 0.95
) -> Estimate:
    """Mean with a clustered bootstrap interval; None is unscored, counted and never averaged.

    `clusters` names each value's cluster (default: each its own). Raises NothingScored when no
    value is a number.
    """
    names = clusters if clusters is not None else [str(i) for i in range(len(values))]
    kept = [(value, name) for value, name in zip(values, names, strict=True) if value is not None]
    if not kept:
        raise NothingScored(
            f"none of {len(values)} values could be scored", hint="see their reasons in the measurement file"
        )
    scores = np.array([value for value, _ in kept])
    if len({name for _, name in kept}) == 1:  # one cluster says nothing about the spread between clusters
        return Estimate(float(scores.mean()), -math.inf, math.inf, len(kept), len(values) - len(kept))
    means = bootstrap_means(scores, [name for _, name in kept], seed=seed)
    low, high = np.percentile(means, [50 * (1 - level), 50 * (1 + level)])
    return Estimate(float(scores.mean()), float(low), float(high), len(kept), len(values) - len(kept))


def bootstrap_means(scores: Floats, clusters: Sequence[str], *, seed: int) -> Floats:
    """Means of `RESAMPLES` resamples of whole clusters: (RESAMPLES,)."""
    _, member = np.unique(np.array(clusters), return_inverse=True)
    sums, sizes = np.bincount(member, scores), np.bincount(member)
    draws = np.random.default_rng(seed).integers(len(sums), size=(RESAMPLES, len(sums)))
    return np.asarray(sums[draws].sum(1) / sizes[draws].sum(1), dtype=np.float64)


def paired(after: Sequence[float | None], before: Sequence[float | None]) -> list[float | None]:
    """Item-by-item differences; an item unscored on either side stays unscored."""
    return [None if a is None or b is None else a - b for a, b in zip(after, before, strict=True)]


def bounds(values: Sequence[float | None], *, worst: float, best: float) -> tuple[float, float] | None:
    """Mean with all unscored at their worst and at their best, where over 2 % are unscored; else None."""
    unscored = sum(value is None for value in values)
    if unscored <= UNSCORED_TO_MENTION * len(values):
        return None
    known = sum(value for value in values if value is not None)
    return (known + unscored * worst) / len(values), (known + unscored * best) / len(values)


def generalisation_ratio(outside: Sequence[float], inside: Sequence[float], *, seed: int = 0) -> Estimate | None:
    """Shift out of distribution over shift in distribution, with a bootstrap interval.

    None where the shift inside is not clearly above zero: a ratio over nothing is no number.
    """
    inner = estimate(list(inside), seed=seed)
    if inner.low <= 0:
        return None
    numerator = bootstrap_means(np.array(outside), [str(i) for i in range(len(outside))], seed=seed)
    denominator = bootstrap_means(np.array(inside), [str(i) for i in range(len(inside))], seed=seed + 1)
    ratios = numerator / np.maximum(denominator, 1e-9)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Estimate(float(np.mean(outside) / np.mean(inside)), float(low), float(high), len(outside) + len(inside))


def over_seeds(shifts_SI: Floats, *, seed: int = 0) -> Estimate:
    """Mean of shifts by training seed and item, (seeds, items), with an interval that covers both.

    The widest of three: a bootstrap over seeds and items together, which is too sure of a few of either; Student's t
    over the seeds' means; and `crossed_error`. With one seed it speaks of items alone; with one item nothing is known.
    """
    mean, num_seeds = float(shifts_SI.mean()), len(shifts_SI)
    if shifts_SI.shape[1] < 2:
        return Estimate(mean, -math.inf, math.inf, shifts_SI.shape[1])
    low, high = np.percentile(_resampled_grid(shifts_SI, seed=seed), [2.5, 97.5])
    error, freedom = crossed_error(shifts_SI)
    reach = float(scipy_stats.t.ppf(0.975, freedom)) * error
    if num_seeds > 1:
        spread = float(shifts_SI.mean(1).std(ddof=1)) / math.sqrt(num_seeds)
        reach = max(reach, float(scipy_stats.t.ppf(0.975, num_seeds - 1)) * spread)
    return Estimate(mean, min(float(low), mean - reach), max(float(high), mean + reach), shifts_SI.shape[1])


def over_seeds_p(shifts_SI: Floats, *, seed: int = 0) -> float:
    """Two-sided p of a mean of zero: the greatest of three, as in `over_seeds`.

    One seed, or one item, says nothing of the others: 1.
    """
    if min(shifts_SI.shape) < 2:
        return 1.0
    means = _resampled_grid(shifts_SI, seed=seed)
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    error, freedom = crossed_error(shifts_SI)
    crossed = 2 * scipy_stats.t.sf(abs(shifts_SI.mean()) / error, freedom) if error else 0.0
    return max(min(1.0, 2 * (tail + 1) / (len(means) + 1)), p_value(shifts_SI.mean(1).tolist()), float(crossed))


def crossed_error(shifts_SI: Floats) -> tuple[float, float]:
    """Standard error of the mean of (seeds, items), both drawn at random, and its degrees of freedom.

    The squared errors over seeds and over items added, which counts what is neither's twice and so errs to the wide
    side: the min F′ of Clark 1973, with Satterthwaite's degrees of freedom. A single row says nothing and adds nothing.
    """
    means = [each for each in (shifts_SI.mean(1), shifts_SI.mean(0)) if len(each) > 1]
    squares = [float(each.var(ddof=1)) / len(each) for each in means]
    weights = [square**2 / (len(each) - 1) for square, each in zip(squares, means, strict=True)]
    return math.sqrt(sum(squares)), sum(squares) ** 2 / sum(weights) if sum(weights) else math.inf


def ratio_over_seeds(outside_SI: Floats, inside_SI: Floats, *, seed: int = 0) -> Estimate | None:
    """`generalisation_ratio` of shifts by training seed and item: two grids with the same seeds, each its own items.

    The interval is the wider of two, as in `over_seeds`: a bootstrap in which both grids draw the same seeds, and
    Student's t over the seeds' ratios. None where the shift inside is not clearly above zero.
    """
    if outside_SI.shape[1] < 2 or over_seeds(inside_SI, seed=seed).low <= 0:
        return None
    rng, num_seeds = np.random.default_rng(seed), len(outside_SI)
    rows_RS = _weights(num_seeds, rng)
    outer_R, inner_R = (_means(shifts_SI, rows_RS, rng) for shifts_SI in (outside_SI, inside_SI))
    low, high = np.percentile(outer_R / np.maximum(inner_R, 1e-9), [2.5, 97.5])
    ratio, reach = float(outside_SI.mean() / inside_SI.mean()), 0.0
    if num_seeds > 1:
        ratios_S = outside_SI.mean(1) / np.maximum(inside_SI.mean(1), 1e-9)
        reach = float(scipy_stats.t.ppf(0.975, num_seeds - 1) * ratios_S.std(ddof=1)) / math.sqrt(num_seeds)
    num_items = outside_SI.shape[1] + inside_SI.shape[1]
    return Estimate(ratio, min(float(low), ratio - reach), max(float(high), ratio + reach), num_items)


def apart(one: Estimate, other: Estimate) -> Estimate:
    """The difference of two means of different items, from their intervals (MOVER: Zou and Donner 2008).

    Exact for independent means; of means that rise together, as those of the same training seeds do, it is too wide.
    """
    mean = one.mean - other.mean
    down = math.hypot(one.mean - one.low, other.high - other.mean)
    up = math.hypot(one.high - one.mean, other.mean - other.low)
    return Estimate(mean, mean - down, mean + up, one.num_scored + other.num_scored)


def _resampled_grid(shifts_SI: Floats, *, seed: int) -> Floats:
    """Means over resampled rows and columns: (RESAMPLES,)."""
    rng = np.random.default_rng(seed)
    return _means(shifts_SI, _weights(len(shifts_SI), rng), rng)


def _means(shifts_SI: Floats, rows_RS: Floats, rng: np.random.Generator) -> Floats:
    """Means over rows drawn before and columns drawn now: (RESAMPLES,)."""
    return np.asarray(((rows_RS @ shifts_SI) * _weights(shifts_SI.shape[1], rng)).sum(1), dtype=np.float64)


def _weights(count: int, rng: np.random.Generator) -> Floats:
    """How often each of `count` is drawn in each resample, as shares: (RESAMPLES, count)."""
    return rng.multinomial(count, np.full(count, 1 / count), RESAMPLES) / count


def reached(doses: Sequence[float], curve: Sequence[float], level: float) -> float:
    """Dose at which a curve first rises to `level`, a straight line between two doses; infinite where it never does."""
    if curve[0] >= level:
        return float(doses[0])
    for (dose, value), (next_dose, next_value) in pairwise(zip(doses, curve, strict=True)):
        if next_value >= level:
            return dose + (level - value) / (next_value - value) * (next_dose - dose)
    return math.inf


def dose_until(doses: Sequence[float], values_DI: Floats, level_I: Floats, *, seed: int = 0) -> Estimate:
    """Dose at which the mean over items, (doses, items), first rises to the mean of `level_I`, by resampling items."""
    num = len(level_I)
    weights_RI = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), RESAMPLES) / num
    curves_RD, levels_R = weights_RI @ values_DI.T, weights_RI @ level_I
    found = [reached(doses, curve, level) for curve, level in zip(curves_RD.tolist(), levels_R.tolist(), strict=True)]
    low, high = np.percentile(found, 2.5, method="lower"), np.percentile(found, 97.5, method="higher")
    mean = reached(doses, values_DI.mean(1).tolist(), float(level_I.mean()))
    return Estimate(mean, float(low), float(high), num)


HALVES = 500
"""Random halves that a reliability is averaged over."""


def spearman_brown(correlation: float) -> float:
    """Reliability of a whole measure from the correlation of its halves: 2r / (1 + r).

    A correlation of zero or less has nothing to step up and stays as it is.
    """
    return 2 * correlation / (1 + correlation) if correlation > 0 else correlation


def split_half(values_SI: Floats, *, seed: int = 0) -> float | None:
    """How far two halves of the items agree on the order of subjects, (subjects, items), stepped up to all items.

    The correlation over subjects of their means on either half, averaged over random halves; with an odd number of
    items one is left out each time. None where there are fewer than two items, or subjects that do not differ.
    """
    size = values_SI.shape[1] // 2
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(HALVES if size else 0):
        order = rng.permutation(values_SI.shape[1])
        one_S, other_S = (values_SI[:, half].mean(1) for half in (order[:size], order[size : 2 * size]))
        if np.ptp(one_S) > 0 and np.ptp(other_S) > 0:
            found.append(float(np.corrcoef(one_S, other_S)[0, 1]))
    return spearman_brown(float(np.mean(found))) if found else None


def share_interval(share: float, num: int, *, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share of `num` independent trials (Clopper and Pearson 1934); of none, everything."""
    if num == 0:
        return 0.0, 1.0
    hits, tail = share * num, (1 - level) / 2
    low = float(scipy_stats.beta.ppf(tail, hits, num - hits + 1)) if hits > 0 else 0.0
    high = float(scipy_stats.beta.ppf(1 - tail, hits + 1, num - hits)) if hits < num else 1.0
    return low, high


def p_value(values: Sequence[float], *, mean: float = 0.0, side: Side = "two-sided") -> float:
    """p of the mean being `mean` (or on its wrong side): Student's t on independent values.

    Fewer than two values say nothing: 1. Equal values leave no doubt: 0 or 1.
    """
    if len(values) < 2:
        return 1.0
    if np.ptp(values) == 0:
        gap = values[0] - mean
        return float(not {"two-sided": gap != 0, "greater": gap > 0, "less": gap < 0}[side])
    return float(scipy_stats.ttest_1samp(values, mean, alternative=side).pvalue)


def detectable(spread: float, num_items: int, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """The mean paired shift that `num_items` items with this standard deviation show with `power` (normal theory)."""
    quantiles = scipy_stats.norm.ppf(1 - alpha / 2) + scipy_stats.norm.ppf(power)
    return float(quantiles * spread / math.sqrt(num_items))


def seen_share(shifts: Sequence[float], *, alpha: float = 0.05, seed: int = 0) -> float:
    """Share of resamples of the items in which a mean above zero is seen: Student's t, two-sided at `alpha`."""
    values, num = np.array(shifts), len(shifts)
    drawn_RI = values[np.random.default_rng(seed).integers(num, size=(RESAMPLES, num))]
    error_R = drawn_RI.std(axis=1, ddof=1) / math.sqrt(num)
    return float((drawn_RI.mean(1) > scipy_stats.t.ppf(1 - alpha / 2, num - 1) * error_R).mean())


def items_needed(spread: float, shift: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """How many items show a mean paired shift with `power`: the least n whose detectable shift is no greater."""
    return math.ceil(detectable(spread, 1, power=power, alpha=alpha) ** 2 / shift**2)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (Holm 1979), in the order given."""
    p_values = [1.0 if math.isnan(p) else p for p in p_values]  # what could not be computed is no evidence
    order = np.argsort(p_values)
    adjusted, running = np.empty(len(p_values)), 0.0
    for rank, index in enumerate(order):
        running = max(running, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, running)
    return adjusted.tolist()


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values whose cut at α keeps the false discovery rate under α (Benjamini and Hochberg 1995).

    In the order given; for many lines that are read together, where Holm's correction would leave nothing to see.
    """
    p_values = [1.0 if math.isnan(p) else p for p in p_values]
    order, adjusted, running = np.argsort(p_values), np.empty(len(p_values)), 1.0
    for rank in range(len(p_values), 0, -1):  # the largest first
        index = order[rank - 1]
        running = min(running, p_values[index] * len(p_values) / rank)
        adjusted[index] = running
    return adjusted.tolist()


class Equivalence(NamedTuple):
    """Outcome of two one-sided tests."""

    p: float
    margin: float
    verdict: Literal["equivalent", "different", "undecided"]


def tost(values: Sequence[float], *, margin: float, alpha: float = 0.05) -> Equivalence:
    """Is the mean within ±`margin` of zero? Two one-sided t-tests (Schuirmann 1987).

    `equivalent`: both reject. `different`: the mean is significantly beyond the margin.
    `undecided`: more items are needed.
    """
    below, above = p_value(values, mean=-margin, side="greater"), p_value(values, mean=margin, side="less")
    p = max(below, above)
    if p < alpha:
        return Equivalence(p, margin, "equivalent")
    beyond = min(p_value(values, mean=-margin, side="less"), p_value(values, mean=margin, side="greater")) < alpha
    return Equivalence(p, margin, "different" if beyond else "undecided")


def not_worse(values: Sequence[float], *, margin: float) -> float:
    """One-sided p that the mean is above −`margin`: non-inferiority."""
    return p_value(values, mean=-margin, side="greater")
