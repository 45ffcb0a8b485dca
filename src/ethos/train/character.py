"""The objective of both stages: contrasts where a unit has pairs, likelihood where it has one sequence.

loss = −log σ(β Σ margins) + w_nll · NLL(chosen) + w_kl · ½(log π − log π_ref)²   for a group of pairs
loss = w_sft · NLL                                                               for a conversation

after the preference stage of Maiya et al. 2025 (arXiv:2511.01689): DPO with NLL and squared-KL
terms. We differ in adding the two margins of a crossed item before the sigmoid (see losses.py).
"""

from collections.abc import Sequence

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ethos.records import Record
from ethos.train.loop import Objective, Scored
from ethos.train.losses import PairLogprobs, grouped_preference_loss, implicit_margin, nll, squared_kl


class CharacterLoss(Record):
    """Weights of the terms."""

    beta: float = Field(0.1, gt=0)
    """Inverse temperature of the implicit reward."""
    reference_free: bool = False
    """Take the policy's own margin, without subtracting the reference's: the loss then dwells on contrasts
    that the base has wrong, and no reference pass is needed."""
    nll_weight: float = Field(0.1, ge=0)
    """On the chosen replies' negative log-likelihood per token."""
    kl_weight: float = Field(0.0, ge=0)
    """On the squared log-ratio per token, chosen and rejected."""
    sft_weight: float = Field(1.0, ge=0)
    """On conversations and replay rows."""

    @model_validator(mode="after")
    def _reference_where_needed(self) -> "CharacterLoss":
        if self.reference_free and self.kl_weight:
            raise ValueError("kl_weight needs a reference: set reference_free = false")
        return self


def character_objective(weights: CharacterLoss) -> Objective:
    """The objective above as a function of scored units."""

    def objective(units: Sequence[Scored]) -> tuple[Tensor, dict[str, float]]:
        groups = [unit for unit in units if len(unit.policy) > 1]
        singles = [unit for unit in units if len(unit.policy) == 1]
        terms, metrics = list[Tensor](), dict[str, float]()
        if groups:
            loss, margin = _contrast(groups, weights)
            terms.append(loss)
            metrics |= {"margin": margin, "groups": float(len(groups))}
        if singles:
            loss = nll([unit.policy[0] for unit in singles]) * len(singles)
            terms.append(weights.sft_weight * loss)
            metrics |= {"nll": loss.item(), "singles": float(len(singles))}
        return torch.stack(terms).sum(), metrics

    return objective


def _contrast(groups: Sequence[Scored], weights: CharacterLoss) -> tuple[Tensor, float]:
    """Summed loss of groups whose sequences alternate chosen, rejected; and their summed margin (nats)."""
    policy = [logprobs for unit in groups for logprobs in unit.policy]
    reference = [logprobs.to(policy[0].device) for unit in groups for logprobs in unit.unit.reference]
    if weights.reference_free:
        reference = [torch.zeros_like(logprobs) for logprobs in policy]
    group_B = torch.tensor([g for g, unit in enumerate(groups) for _ in unit.policy[::2]], device=policy[0].device)
    margin_B = implicit_margin(_pairs(policy), _pairs(reference))
    loss = grouped_preference_loss(margin_B, group_B, beta=weights.beta).sum()
    for unit in groups:  # a mean a group, summed: pooled over groups of one and two pairs, it would depend on packing
        own = list(unit.policy)
        if weights.nll_weight:
            loss = loss + weights.nll_weight * nll(own[::2])
        if weights.kl_weight:
            loss = loss + weights.kl_weight * squared_kl(own, [r.to(own[0].device) for r in unit.unit.reference])
    return loss, margin_B.sum().item()


def _pairs(logprobs: Sequence[Tensor]) -> PairLogprobs:
    summed = torch.stack([logprobs_T.sum() for logprobs_T in logprobs])
    return PairLogprobs(chosen_B=summed[::2], rejected_B=summed[1::2])
