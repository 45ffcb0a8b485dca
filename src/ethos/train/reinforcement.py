"""Constitutional RL: group-relative policy gradients with a reward that needs no judge.

reward(y) = mean over tokens of log p_ref(y | constitution, x) − log p_ref(y | x)

How much likelier the constitution makes a reply, per token so that length earns nothing. p_ref is the model
before training. Any other function of the replies can stand in its place (a judge, a classifier).

    grpo      advantage (r − mean) / std of its group, each reply's tokens averaged (Shao et al. 2024, arXiv:2402.03300)
    dr_grpo   advantage r − mean, tokens summed and divided by the limit (Liu et al. 2025, arXiv:2503.20783)

Each reply is used for one step, right after it was sampled: the importance ratio is 1 and nothing is clipped.
"""

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from peft import PeftModel
from pydantic import Field
from torch import Tensor

from ethos import scoring
from ethos.chat import Chat
from ethos.records import Message, Record
from ethos.train import ranks
from ethos.train.loop import Objective, Scored, Unit, with_reference
from ethos.train.lora import before_training
from ethos.train.onpolicy import Sampling, continued, with_replies

Reward = Callable[[PeftModel, Sequence[Unit]], list[list[float]]]
"""(model, units with sampled replies) → a reward for each reply of each unit."""


class GroupPolicyGradient(Record):
    """Settings."""

    variant: Literal["grpo", "dr_grpo"] = "dr_grpo"
    kl_weight: float = Field(0.0, ge=0)
    """On the KL to the model before training, by the k3 estimator of GRPO."""
    sampling: Sampling = Sampling(replies=4)


def policy_gradient_objective(settings: GroupPolicyGradient, reward: Reward, chat: Chat, *, seed: int) -> Objective:
    """Raise the replies that earn more than their siblings."""

    def prepare(model: PeftModel, units: Sequence[Unit], step: int) -> list[Unit]:
        filled = with_replies(model, chat, units, settings.sampling, seed=seed, step=step)
        rewards = ranks.divided(model, partial(reward, model), filled)
        if settings.kl_weight:
            with before_training(model):
                filled = with_reference(model, filled)
        return [unit._replace(rewards=tuple(own)) for unit, own in zip(filled, rewards, strict=True)]

    def loss(units: Sequence[Scored]) -> tuple[Tensor, dict[str, float]]:
        total = torch.stack([_loss(unit, settings) for unit in units]).sum()
        return total, {"reward": sum(statistics.fmean(unit.unit.rewards) for unit in units)}

    return Objective(loss, prepare)


def advantages(rewards: Sequence[float], variant: Literal["grpo", "dr_grpo"]) -> tuple[float, ...]:
    """How much better than its group each reply is; all zero where they earn the same."""
    mean, spread = statistics.fmean(rewards), statistics.pstdev(rewards)
    scale = 1.0 if variant == "dr_grpo" else spread or 1.0
    return tuple((reward - mean) / scale for reward in rewards)


def _loss(scored: Scored, settings: GroupPolicyGradient) -> Tensor:
    """−Σ advantage · log π, with the variant's division by length, averaged over the group."""
    terms, gains = [], advantages(scored.unit.rewards, settings.variant)
    for place, logprobs_T in enumerate(scored.policy):
        length = len(logprobs_T) if settings.variant == "grpo" else settings.sampling.max_tokens
        term = -gains[place] * logprobs_T.sum() / length
        if settings.kl_weight:
            gap_T = scored.unit.reference[place].to(logprobs_T) - logprobs_T
            term = term + settings.kl_weight * (gap_T.exp() - gap_T - 1).mean()
        terms.append(term)
    return torch.stack(terms).mean()


def constitutional_reward(chat: Chat, system: str) -> Reward:
    """The judge-free reward above, for a constitution's system prompt."""
    constitution = Message(role="system", content=system)

    def reward(model: PeftModel, units: Sequence[Unit]) -> list[list[float]]:
        plain = [sequence for unit in units for sequence in unit.sequences]
        advised = [
            continued(chat, [constitution, *unit.prompt], sequence.tokens[sequence.mask.index(True) :])
            for unit in units
            for sequence in unit.sequences
        ]
        with before_training(model):
            gains = iter(
                float((with_it - without).mean())
                for with_it, without in zip(scoring.score(model, advised), scoring.score(model, plain), strict=True)
            )
        return [[next(gains) for _ in unit.sequences] for unit in units]

    return reward
