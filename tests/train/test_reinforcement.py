"""Policy gradients raise what is rewarded, and the judge-free reward is the ratio it says it is."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch.testing import assert_close

from conftest import in_float32
from ethos.chat import Chat, Rendered
from ethos.records import Message, user
from ethos.scoring import score
from ethos.train.loop import Scored, Unit, train
from ethos.train.lora import LoraSettings, attach
from ethos.train.onpolicy import Sampling, continued, prompt_unit, with_replies
from ethos.train.reinforcement import (
    GroupPolicyGradient,
    advantages,
    constitutional_reward,
    policy_gradient_objective,
)
from ethos.train.schedule import Optimisation

PROMPTS = [prompt_unit([user(text)], source=text) for text in ("Hi", "And now?")]


def policy(base: Path) -> PeftModel:
    return attach(in_float32(base, loudness=20), "default", LoraSettings(rank=4), seed=0)


def early_letters(model: PeftModel, units: Sequence[Unit]) -> list[list[float]]:
    """The share of a reply's tokens in the lower half of the vocabulary."""
    return [
        [float(sum(t < 130 for t in s.tokens[s.mask.index(True) :]) / sum(s.mask)) for s in u.sequences] for u in units
    ]


def test_advantages_by_hand() -> None:
    assert advantages([1.0, 3.0], "dr_grpo") == (-1.0, 1.0)
    assert advantages([1.0, 5.0], "grpo") == (-1.0, 1.0)
    assert advantages([2.0, 2.0], "grpo") == (0.0, 0.0)


def group(
    policy_logprobs: list[list[float]], rewards: list[float], reference: list[list[float]] | None = None
) -> Scored:
    sequences = tuple(Rendered((0,) * (len(p) + 1), (False,) + (True,) * len(p)) for p in policy_logprobs)
    unit = Unit(sequences, tuple(torch.tensor(r) for r in reference or []), rewards=tuple(rewards))
    return Scored(unit, tuple(torch.tensor(p, requires_grad=True) for p in policy_logprobs))


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("grpo", (1.0 * 3.0 / 2 - 1.0 * 1.0 / 1) / 2),  # advantages ±1; each reply's own length
        ("dr_grpo", (2.0 * 3.0 / 10 - 2.0 * 1.0 / 10) / 2),  # advantages ±2; the limit
    ],
)
def test_the_loss_by_hand(variant: str, expected: float) -> None:
    settings = GroupPolicyGradient.model_validate({"variant": variant, "sampling": {"max_tokens": 10}})
    loss, metrics = policy_gradient_objective(settings, early_letters, None, seed=0).loss(  # type: ignore[arg-type]
        [group([[-1.0, -2.0], [-1.0]], [5.0, 1.0])]
    )
    assert_close(loss.item(), expected)
    assert metrics == {"reward": 3.0}


def test_the_penalty_is_the_k3_estimator() -> None:
    settings = GroupPolicyGradient(kl_weight=2.0)
    scored = group([[-1.0], [-3.0]], [1.0, 1.0], [[-2.0], [-3.0]])
    loss, _ = policy_gradient_objective(settings, early_letters, None, seed=0).loss([scored])  # type: ignore[arg-type]
    assert_close(loss.item(), 2.0 * (math.exp(-1) + 1 - 1) / 2)


@pytest.mark.parametrize("variant", ["grpo", "dr_grpo"])
def test_what_is_rewarded_becomes_more_frequent(tiny_base: Path, chat: Chat, tmp_path: Path, variant: str) -> None:
    settings = GroupPolicyGradient.model_validate({"variant": variant, "sampling": {"max_tokens": 6, "replies": 8}})
    model = policy(tiny_base)

    def frequency() -> float:
        many = with_replies(model, chat, PROMPTS, Sampling(replies=64, max_tokens=6), seed=99, step=0)
        rewards = [reward for unit in early_letters(model, many) for reward in unit]
        return sum(rewards) / len(rewards)

    before = frequency()
    optimisation = Optimisation(learning_rate=2e-2, epochs=15, units_per_step=2)
    objective = policy_gradient_objective(settings, early_letters, chat, seed=0)
    log = train(model, PROMPTS, objective, optimisation, folder=tmp_path, seed=0, label="test")
    assert frequency() > before + 0.2
    assert log[-1].metrics["reward"] > log[0].metrics["reward"]


def test_the_constitutional_reward_is_the_gain_in_likelihood_per_token(tiny_base: Path, chat: Chat) -> None:
    model = policy(tiny_base)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)  # the reference is the model without its adapter: this must not matter
    units = with_replies(model, chat, PROMPTS, Sampling(replies=2, max_tokens=5), seed=0, step=0)
    rewards = constitutional_reward(chat, "Speak of the sea.")(model, units)
    bare = in_float32(tiny_base, loudness=20)
    for unit, own in zip(units, rewards, strict=True):
        for sequence, reward in zip(unit.sequences, own, strict=True):
            said = sequence.tokens[sequence.mask.index(True) :]
            advised = continued(chat, [Message(role="system", content="Speak of the sea."), *unit.prompt], said)
            with_it, without = score(bare, [advised])[0], score(bare, [sequence])[0]
            assert reward == pytest.approx(float((with_it - without).mean()), abs=1e-4)
    assert len({reward for own in rewards for reward in own}) == 4
