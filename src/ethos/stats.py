"""Statistics that a number is not shown without.

Intervals are percentile bootstraps that resample *clusters* (an item, or the prompt several items
share), so that repeated measures of one prompt never count as independent. Paired differences are
taken item by item before anything is averaged.
"""

import math
from collections.abc import Sequence
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
    """Mean of shifts by training seed and item, with a bootstrap that resamples seeds and items: (seeds, items).

    With one seed the interval is over items alone; with few it is narrow by as much as few seeds can tell.
    """
    means = _resampled_grid(shifts_SI, seed=seed)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(shifts_SI.mean()), float(low), float(high), shifts_SI.shape[1])


def over_seeds_p(shifts_SI: Floats, *, seed: int = 0) -> float:
    """Two-sided bootstrap p of the mean being zero, over seeds and items; never below 1 / (resamples + 1)."""
    means = _resampled_grid(shifts_SI, seed=seed)
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (len(means) + 1))


def _resampled_grid(shifts_SI: Floats, *, seed: int) -> Floats:
    """Means over resampled rows and columns: (RESAMPLES,)."""
    rng = np.random.default_rng(seed)
    num_seeds, num_items = shifts_SI.shape
    rows = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), RESAMPLES) / num_seeds
    columns = rng.multinomial(num_items, np.full(num_items, 1 / num_items), RESAMPLES) / num_items
    return np.asarray(((rows @ shifts_SI) * columns).sum(1), dtype=np.float64)


def rank_correlation(one: Sequence[float], other: Sequence[float], *, seed: int = 0) -> Estimate:
    """Spearman's ρ with a bootstrap interval over the pairs of values; NothingScored under three pairs.

    Where one side does not vary there is no correlation: 0, and an interval of the whole range.
    """
    if len(one) < 3:
        raise NothingScored(f"{len(one)} pairs of values have no rank correlation")
    x, y = scipy_stats.rankdata(one), scipy_stats.rankdata(other)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Estimate(0.0, -1.0, 1.0, len(one))
    draws = np.random.default_rng(seed).integers(len(x), size=(RESAMPLES, len(x)))
    a = scipy_stats.rankdata(np.array(one)[draws], axis=1)
    b = scipy_stats.rankdata(np.array(other)[draws], axis=1)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    norms = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    found = np.divide((a * b).sum(1), norms, out=np.zeros(len(a)), where=norms > 0)
    low, high = np.percentile(found, [2.5, 97.5])
    return Estimate(float(np.corrcoef(x, y)[0, 1]), float(low), float(high), len(one))


def correlation_p(one: Sequence[float], other: Sequence[float]) -> float:
    """One-sided p of Spearman's ρ being zero or less; 1 where it cannot be tested."""
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return 1.0
    return float(scipy_stats.spearmanr(one, other, alternative="greater").pvalue)


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
