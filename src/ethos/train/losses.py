"""Preference losses: pure functions of log-probabilities.

Shape suffixes: B = preference pairs, G = groups of pairs, R = replies, T = scored tokens of one sequence.

Pairs of one *group* have their margins added before the link function. A group of one pair is the
published loss. A crossed item is a group of two pairs, (a: r1 over r2) and (b: r2 over r1): in their
sum every context-free liking of r1 or r2 cancels, so the gradient can only come from reading the situation.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class PairLogprobs(NamedTuple):
    """Log-probability (nats) of each pair's two replies, summed over tokens or averaged, as the loss wants it."""

    chosen_B: Tensor
    rejected_B: Tensor


def implicit_margin(policy: PairLogprobs, reference: PairLogprobs) -> Tensor:
    """How much more than the reference the policy prefers chosen to rejected (nats): (B,).

    The bracket of Eq. 7 of Rafailov et al. 2023 (arXiv:2305.18290), before β.
    """
    return (policy.chosen_B - reference.chosen_B) - (policy.rejected_B - reference.rejected_B)


def log_odds_margin(policy: PairLogprobs) -> Tensor:
    """log odds(chosen) − log odds(rejected), odds = p / (1 − p): (B,).

    `policy` holds means per token, so that p is a reply's geometric mean probability: Eq. 7 of Hong et al. 2024
    (ORPO, arXiv:2403.07691).
    """

    def log_odds(logprob_B: Tensor) -> Tensor:
        below_one = logprob_B.clamp(max=-torch.finfo(logprob_B.dtype).eps)  # at p = 1 the odds have no bound
        return logprob_B - torch.log(-torch.expm1(below_one))

    return log_odds(policy.chosen_B) - log_odds(policy.rejected_B)


def group_sums(margin_B: Tensor, group_B: Tensor) -> Tensor:
    """Margins added within each group: (G,)."""
    return margin_B.new_zeros(int(group_B.max()) + 1).index_add(0, group_B, margin_B)


def dpo(margin_G: Tensor, *, beta: float, gamma: float = 0.0) -> Tensor:
    """−log σ(β · margin − γ): (G,).

    With γ = 0 and implicit margins, DPO (Rafailov et al. 2023, Eq. 7). With margins of the policy's mean
    log-probabilities and γ > 0, SimPO (Meng et al. 2024, arXiv:2405.14734, Eq. 6). With log-odds margins and
    β = 1, the ratio term of ORPO.
    """
    return -F.logsigmoid(beta * margin_G - gamma)


def ipo(margin_G: Tensor, *, beta: float) -> Tensor:
    """(margin − 1/(2β))²: (G,). The margin is drawn to a finite target, so certainty is not rewarded without end.

    Eq. 17 of Azar et al. 2023 (arXiv:2310.12036), whose τ is β.
    """
    return (margin_G - 1 / (2 * beta)).square()


def kto(ratio_R: Tensor, desirable_R: Tensor, baseline: float, *, beta: float) -> Tensor:
    """1 − σ(±β (ratio − baseline)), + where the reply is desirable: (R,). Replies need no partner.

    Eq. 8 of Ethayarajh et al. 2024 (arXiv:2402.01306) with both weights 1. `ratio_R` is log π − log π_ref
    summed over a reply; `baseline` is z₀, an estimate of KL(π‖π_ref) that takes no gradient.
    """
    sign_R = torch.where(desirable_R, 1.0, -1.0).to(ratio_R)
    return 1 - torch.sigmoid(sign_R * beta * (ratio_R - baseline))


def nll(logprobs: list[Tensor]) -> Tensor:
    """Mean negative log-likelihood per token (nats), each sequence counting equally: ()."""
    return torch.stack([-logprobs_T.mean() for logprobs_T in logprobs]).mean()


def squared_kl(policy: list[Tensor], reference: list[Tensor]) -> Tensor:
    """½ (log π − log π_ref)² averaged over tokens (nats²), each sequence counting equally: ().

    The `k2` estimator of KL(π‖π_ref) (Schulman 2020), the penalty of Maiya et al. 2025 (arXiv:2511.01689).
    """
    return torch.stack([0.5 * (p - r).square().mean() for p, r in zip(policy, reference, strict=True)]).mean()
