"""The preference objectives: contrasts where a unit has pairs, likelihood where it has one sequence.

loss = link(Σ margins of the group) + w_nll · NLL(chosen) + w_kl · ½(log π − log π_ref)²    for a group of pairs
loss = w_sft · NLL + w_kl · ½(log π − log π_ref)²                                         for a conversation

    kind    margin of a pair                         link
    dpo     Δ log π − Δ log π_ref                    −log σ(β · margin)
    ipo     Δ log π − Δ log π_ref                    (margin − 1/(2β))²
    simpo   Δ of mean log π per token                −log σ(β · margin − γ)
    orpo    Δ log odds of the mean probability       −log σ(β · margin), published with β = 1 and w_nll = 1/λ
    kto     none: each reply against a baseline z₀   1 − σ(±β (log π − log π_ref − z₀))

`dpo` with NLL and squared-KL terms is the preference stage of Maiya et al. 2025 (arXiv:2511.01689). We differ
in adding the two margins of a crossed item before the link (see losses.py).
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from peft import PeftModel
from pydantic import Field, model_validator
from torch import Tensor

from ethos import scoring
from ethos.chat import Chat, Rendered
from ethos.records import Preference, Record
from ethos.train import losses, ranks
from ethos.train.loop import Objective, Scored, Unit
from ethos.train.lora import before_training
from ethos.train.losses import PairLogprobs

REFERRED = ("dpo", "ipo", "kto")
"""Kinds whose margin subtracts the reference's."""


class PreferenceLoss(Record):
    """Kind and weights."""

    kind: Literal["dpo", "ipo", "simpo", "orpo", "kto"] = "dpo"
    beta: float = Field(0.1, gt=0)
    """Inverse temperature of the implicit reward (ipo: of the target margin)."""
    gamma: float = Field(0.0, ge=0)
    """simpo only: the margin that must be passed, after β."""
    reference_free: bool = False
    """dpo only: take the policy's own margin, without subtracting the reference's. The loss then dwells on
    contrasts that the base has wrong, and without `kl_weight` no reference pass is needed."""
    length_normalised: bool = False
    """dpo and ipo: margins of means per token in place of sums."""
    nll_weight: float = Field(0.1, ge=0)
    """On the chosen replies' negative log-likelihood per token."""
    kl_weight: float = Field(0.0, ge=0)
    """On the squared log-ratio to the reference per token: of chosen and rejected, and of replay rows, which it
    holds where the base had them."""
    sft_weight: float = Field(1.0, ge=0)
    """On conversations and replay rows."""

    @property
    def needs_reference(self) -> bool:
        """Whether log-probabilities under the reference enter the loss."""
        return (self.kind in REFERRED and not self.reference_free) or self.kl_weight > 0

    @model_validator(mode="after")
    def _consistent(self) -> "PreferenceLoss":
        for name, kinds in (("gamma", ["simpo"]), ("reference_free", ["dpo"]), ("length_normalised", ["dpo", "ipo"])):
            if getattr(self, name) and self.kind not in kinds:
                raise ValueError(f"{name} belongs to {' and '.join(kinds)}, not to {self.kind}")
        return self


def preference_units(rows: Sequence[Preference], chat: Chat) -> list[Unit]:
    """One unit a group: chosen, rejected, chosen, rejected …"""
    groups: dict[str, list[Preference]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return [
        Unit(
            tuple(chat.render([*row.prompt, *reply]) for row in members for reply in (row.chosen, row.rejected)),
            source=name,
        )
        for name, members in groups.items()
    ]


def preference_objective(weights: PreferenceLoss) -> Objective:
    """The objective above as a function of scored units."""

    def loss(units: Sequence[Scored]) -> tuple[Tensor, dict[str, float]]:
        groups = [unit for unit in units if len(unit.policy) > 1]
        singles = [unit for unit in units if len(unit.policy) == 1]
        terms, metrics = list[Tensor](), dict[str, float]()
        if groups:
            term, margin = _contrast(groups, weights)
            terms.append(term)
            metrics |= {"margin": margin, "groups": float(len(groups))}
        if singles:
            own = [unit.policy[0] for unit in singles]
            term = losses.nll(own) * len(singles)
            terms.append(weights.sft_weight * term)
            if weights.kl_weight:
                before = [unit.unit.reference[0].to(unit.policy[0]) for unit in singles]
                terms.append(weights.kl_weight * losses.squared_kl(own, before) * len(singles))
            metrics |= {"nll": term.item(), "singles": float(len(singles))}
        return torch.stack(terms).sum(), metrics

    return Objective(loss, with_baseline if weights.kind == "kto" else None)


def _contrast(groups: Sequence[Scored], weights: PreferenceLoss) -> tuple[Tensor, float]:
    """Summed loss of groups whose sequences alternate chosen, rejected; and their summed margin (nats)."""
    policy = [logprobs for unit in groups for logprobs in unit.policy]
    reference = [torch.zeros_like(logprobs) for logprobs in policy]
    if weights.kind in REFERRED and not weights.reference_free:
        reference = [logprobs.to(policy[0]) for unit in groups for logprobs in unit.unit.reference]
    margin_B = losses.implicit_margin(_pairs(policy), _pairs(reference))
    if weights.kind == "kto":
        terms = _kto(groups, policy, reference, weights.beta)
    else:
        group_B = torch.tensor([g for g, unit in enumerate(groups) for _ in unit.policy[::2]], device=margin_B.device)
        terms = _linked(losses.group_sums(_margins(policy, reference, weights), group_B), weights)
    loss = terms.sum()
    for unit in groups:  # a mean a group, summed: pooled over groups of one and two pairs, it would depend on packing
        own = list(unit.policy)
        if weights.nll_weight:
            loss = loss + weights.nll_weight * losses.nll(own[::2])
        if weights.kl_weight:
            loss = loss + weights.kl_weight * losses.squared_kl(own, [r.to(own[0]) for r in unit.unit.reference])
    return loss, margin_B.sum().item()


def _margins(policy: Sequence[Tensor], reference: Sequence[Tensor], weights: PreferenceLoss) -> Tensor:
    """The margin of each pair as its kind defines it: (B,)."""
    if weights.kind == "orpo":
        return losses.log_odds_margin(_pairs(policy, mean=True))
    if weights.kind == "simpo":
        own = _pairs(policy, mean=True)
        return own.chosen_B - own.rejected_B
    mean = weights.length_normalised
    return losses.implicit_margin(_pairs(policy, mean=mean), _pairs(reference, mean=mean))


def _linked(margin_G: Tensor, weights: PreferenceLoss) -> Tensor:
    if weights.kind == "ipo":
        return losses.ipo(margin_G, beta=weights.beta)
    return losses.dpo(margin_G, beta=weights.beta, gamma=weights.gamma)


def _kto(groups: Sequence[Scored], policy: Sequence[Tensor], reference: Sequence[Tensor], beta: float) -> Tensor:
    """KTO of every reply, its unit's baseline subtracted: (R,)."""
    ratio_R = torch.stack([(p - r).sum() for p, r in zip(policy, reference, strict=True)])
    desirable_R = torch.arange(len(policy), device=ratio_R.device) % 2 == 0
    return losses.kto(ratio_R, desirable_R, groups[0].unit.baseline, beta=beta)


def _pairs(logprobs: Sequence[Tensor], *, mean: bool = False) -> PairLogprobs:
    each = torch.stack([logprobs_T.mean() if mean else logprobs_T.sum() for logprobs_T in logprobs])
    return PairLogprobs(chosen_B=each[::2], rejected_B=each[1::2])


def with_baseline(model: PeftModel, units: Sequence[Unit], step: int) -> list[Unit]:
    """The units of a step with KTO's z₀: the mean log π/π_ref (nats) of replies to *other* prompts, at least zero.

    Each unit's first prompt gets the next unit's chosen reply (§4.1 of Ethayarajh et al. 2024).
    """
    pairs = [unit for unit in units if len(unit.sequences) > 1]
    crossed = [
        _reply_to(unit.sequences[0], other.sequences[0])
        for unit, other in zip(pairs, pairs[1:] + pairs[:1], strict=True)
    ]
    policy = ranks.divided(model, partial(scoring.score, model), crossed)
    with before_training(model):
        reference = ranks.divided(model, partial(scoring.score, model), crossed)
    ratios = [float((p - r).sum()) for p, r in zip(policy, reference, strict=True)]
    baseline = max(0.0, sum(ratios) / len(ratios)) if ratios else 0.0
    return [unit._replace(baseline=baseline) for unit in units]


def _reply_to(prompt: Rendered, reply: Rendered) -> Rendered:
    """The context of one sequence followed by the scored tokens of another."""
    head = prompt.tokens[: prompt.mask.index(True)]
    tail = [token for token, learnt in zip(reply.tokens, reply.mask, strict=True) if learnt]
    return Rendered((*head, *tail), (*[False] * len(head), *[True] * len(tail)))
