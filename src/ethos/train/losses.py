"""Objectives: pure functions of token log-probabilities.

Shape suffixes: B = preference pairs, G = groups of pairs, T = scored tokens of one sequence.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class PairLogprobs(NamedTuple):
    """Log-probability (nats) of each pair's two replies, summed over reply tokens."""

    chosen_B: Tensor
    rejected_B: Tensor


def implicit_margin(policy: PairLogprobs, reference: PairLogprobs) -> Tensor:
    """How much more than the reference the policy prefers chosen to rejected (nats): (B,).

    The bracket of Eq. 7 of Rafailov et al. 2023 (arXiv:2305.18290), before β.
    """
    return (policy.chosen_B - reference.chosen_B) - (policy.rejected_B - reference.rejected_B)


def grouped_preference_loss(margin_B: Tensor, group_B: Tensor, *, beta: float) -> Tensor:
    """−log σ(β · Σ margins of the group): (G,), the caller takes the mean.

    A group of one pair is DPO. A crossed item is a group of two pairs, (a: r1 over r2) and
    (b: r2 over r1): in their sum every context-free liking of r1 or r2 cancels, so the gradient
    can only come from reading the situation.
    """
    groups = int(group_B.max()) + 1
    margin_G = margin_B.new_zeros(groups).index_add(0, group_B, margin_B)
    return -F.logsigmoid(beta * margin_G)


def nll(logprobs: list[Tensor]) -> Tensor:
    """Mean negative log-likelihood per token (nats), each sequence counting equally: ()."""
    return torch.stack([-logprobs_T.mean() for logprobs_T in logprobs]).mean()


def squared_kl(policy: list[Tensor], reference: list[Tensor]) -> Tensor:
    """½ (log π − log π_ref)² averaged over tokens (nats²), each sequence counting equally: ().

    The `k2` estimator of KL(π‖π_ref) (Schulman 2020), the penalty of Maiya et al. 2025 (arXiv:2511.01689).
    """
    return torch.stack([0.5 * (p - r).square().mean() for p, r in zip(policy, reference, strict=True)]).mean()
