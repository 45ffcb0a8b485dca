"""What choices between two names say of all names: one scale, an order, and how far two measures agree on it.

    strengths    utilities of Bradley and Terry (logit) or of Thurstone (probit) that make the choices likeliest
    turned       choices that must be turned round before they make an order: the minimum feedback arc set
    agreement    correlation of two measures over pairs of names, about zero
    corrected    the same corrected for what either measure's unreliability hides

Pairs that share a name are not independent, so intervals of an agreement resample names, and its test relabels them.

Shape suffixes: N = names, P = pairs or choices, K = columns of a design, R = resamples.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations, permutations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from ethos.errors import NothingScored
from ethos.stats import RESAMPLES, Estimate, Floats, signed, spearman_brown

Link = Literal["logit", "probit"]
MOST_STEPS, SETTLED = 50, 1e-8
"""Newton steps at most, and the change under which it stops."""


def strengths(
    design_PK: Floats,
    chosen_P: NDArray[np.bool_],
    *,
    link: Link = "logit",
    weight_P: Floats | None = None,
    start_K: Floats | None = None,
) -> Floats:
    """The coefficients under which the choices are likeliest: (K,), log-odds (logit) or standard deviations (probit).

    A row has 1 for the name that `chosen` speaks of, −1 for its rival, and whatever else may sway a choice, such as 1
    where the former is named first. Each coefficient has a standard normal prior, so that a name which always wins has
    a strength too, and names that never meet stand at equal heights. Newton's method; the posterior has one peak.
    """
    signed_PK = np.where(chosen_P, 1.0, -1.0)[:, None] * design_PK
    weight_P = np.ones(len(signed_PK)) if weight_P is None else weight_P
    found_K = np.zeros(design_PK.shape[1]) if start_K is None else start_K
    for _ in range(MOST_STEPS):
        slope_P, curve_P = _slope_and_curve(signed_PK @ found_K, link)
        gradient_K = signed_PK.T @ (weight_P * slope_P) - found_K
        curve_KK = (signed_PK.T * (weight_P * curve_P)) @ signed_PK + np.eye(len(found_K))
        step_K = np.linalg.solve(curve_KK, gradient_K)
        found_K = found_K + step_K
        if float(np.abs(step_K).max(initial=0.0)) < SETTLED:
            break
    return found_K


def log_chance(margin_P: Floats, link: Link) -> Floats:
    """log P of a choice whose margin, the difference of strengths in its favour, is this: (P,)."""
    return np.asarray(-np.logaddexp(0.0, -margin_P) if link == "logit" else log_ndtr(margin_P), dtype=np.float64)


def _slope_and_curve(margin_P: Floats, link: Link) -> tuple[Floats, Floats]:
    """First derivative of `log_chance`, and its second with the sign turned."""
    if link == "logit":
        slope_P = np.exp(log_chance(-margin_P, link))
        return slope_P, slope_P * (1 - slope_P)
    slope_P = np.exp(-(margin_P**2) / 2 - math.log(2 * math.pi) / 2 - log_ndtr(margin_P))
    return slope_P, slope_P * (margin_P + slope_P)


def turned(wins: Collection[tuple[str, str]]) -> int:
    """The fewest of these (winner, loser) that must be turned round before all agree with one order of the names.

    Exact, by trying every order: for a handful of names.
    """
    names = sorted({name for win in wins for name in win})
    places = ({name: place for place, name in enumerate(order)} for order in permutations(names))
    return min((sum(place[one] > place[other] for one, other in wins) for place in places), default=0)


def asked_in_full(wins: Collection[tuple[str, str]], size: int) -> list[tuple[str, ...]]:
    """Every group of so many names of which each pair has been asked, names in order."""
    rivals: dict[str, set[str]] = {}
    for one, other in wins:
        rivals.setdefault(one, set()).add(other)
        rivals.setdefault(other, set()).add(one)
    return [
        (name, *rest)
        for name in sorted(rivals)
        for rest in combinations(sorted(rival for rival in rivals[name] if rival > name), size - 1)
        if all(other in rivals[one] for one, other in combinations(rest, 2))
    ]


Duel = tuple[str, str, float, float]
"""Two names, and by how much each of two measures prefers the first."""
LEAST_NAMES = 6
"""Fewer names than this have too few orders for a permutation test."""
SMALLEST = 0.01
"""The least reliability that a resample is divided by."""


def agreement(duels: Sequence[Duel], *, seed: int = 0) -> Estimate:
    """Correlation of two measures over pairs of names, about zero: Σxy / √(Σx² Σy²).

    Turning a pair round changes nothing. The interval resamples names, since pairs that share one are not
    independent; NothingScored under `LEAST_NAMES` names.
    """
    x_NN, y_NN = _matrices(duels, _names(duels))
    rng = np.random.default_rng(seed)
    num = len(x_NN)
    weights_RN = rng.multinomial(num, np.full(num, 1 / num), RESAMPLES).astype(np.float64)
    low, high = np.percentile(_about_zero(x_NN, y_NN, weights_RN), [2.5, 97.5])
    return Estimate(float(_about_zero(x_NN, y_NN, np.ones((1, num)))[0]), float(low), float(high), len(duels))


def agreement_p(duels: Sequence[Duel], *, seed: int = 0) -> float:
    """One-sided p of no agreement: how many relabellings of the second's names agree as well (Mantel)."""
    x_NN, y_NN = _matrices(duels, _names(duels))
    rng, seen = np.random.default_rng(seed), (x_NN * y_NN).sum()  # relabelling leaves the scale of either as it is
    orders = (rng.permutation(len(x_NN)) for _ in range(RESAMPLES))
    as_good = sum(bool((x_NN * y_NN[order[:, None], order]).sum() >= seen) for order in orders)
    return (as_good + 1) / (RESAMPLES + 1)


def corrected(across: Sequence[Duel], again: Sequence[Duel], halves: Sequence[Duel], *, seed: int = 0) -> Estimate:
    """`agreement` of two measures, had both been perfectly reliable: r / √(r₁ r₂) (Spearman 1904).

    `again` is the first measure beside itself asked another way: their agreement is its reliability. `halves` are two
    halves of the second: their agreement is stepped up to both together. Names are resampled for all three at once. The
    result may exceed 1, as Spearman's does. NothingScored where either reliability is not clearly above zero.
    """
    names = _names(across)
    pairs = [_matrices(duels, names) for duels in (across, again, halves)]
    num, rng = len(names), np.random.default_rng(seed)
    weights_RN = rng.multinomial(num, np.full(num, 1 / num), RESAMPLES).astype(np.float64)
    drawn_R3 = np.stack([_about_zero(x, y, weights_RN) for x, y in pairs], axis=1)
    r, *reliable = (float(_about_zero(x, y, np.ones((1, num)))[0]) for x, y in pairs)
    for what, mean, drawn_R in zip(
        ("the first asked again", "halves of the second"), reliable, drawn_R3[:, 1:].T, strict=True
    ):
        if (low := float(np.percentile(drawn_R, 2.5))) <= 0:
            raise NothingScored(f"{what} agrees by {signed(mean)}, perhaps by no more than {signed(low)}")
    drawn_R2 = np.maximum(drawn_R3[:, 1:], SMALLEST)  # some of the least resamples have none
    found_R = drawn_R3[:, 0] / np.sqrt(drawn_R2[:, 0] * 2 * drawn_R2[:, 1] / (1 + drawn_R2[:, 1]))
    low, high = np.percentile(found_R, [2.5, 97.5])
    whole = math.sqrt(reliable[0] * spearman_brown(reliable[1]))
    return Estimate(r / whole, float(low), float(high), len(across))


def _names(duels: Sequence[Duel]) -> dict[str, int]:
    """Every name's place; NothingScored under `LEAST_NAMES`."""
    names = sorted({name for one, other, *_ in duels for name in (one, other)})
    if len(names) < LEAST_NAMES:
        raise NothingScored(f"{len(names)} names have no agreement to be measured; {LEAST_NAMES} would do")
    return {name: place for place, name in enumerate(names)}


def _matrices(duels: Sequence[Duel], names: Mapping[str, int]) -> tuple[Floats, Floats]:
    """Both measures as antisymmetric matrices over the names."""
    x_NN, y_NN = np.zeros((len(names), len(names))), np.zeros((len(names), len(names)))
    for one, other, x, y in duels:
        a, b = names[one], names[other]
        x_NN[a, b], x_NN[b, a], y_NN[a, b], y_NN[b, a] = x, -x, y, -y
    return x_NN, y_NN


def _about_zero(x_NN: Floats, y_NN: Floats, weights_RN: Floats) -> Floats:
    """Correlation about zero, (R,), each pair counted as often as both its names; 0 where a measure is all zeros."""

    def total_R(of_NN: Floats) -> Floats:
        return np.asarray(((weights_RN @ of_NN) * weights_RN).sum(1))

    scale_R = np.sqrt(total_R(x_NN**2) * total_R(y_NN**2))
    return np.divide(total_R(x_NN * y_NN), scale_R, out=np.zeros_like(scale_R), where=scale_R > 0)
