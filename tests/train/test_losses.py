"""Losses against hand arithmetic, and the one property a crossed group is for."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from torch.testing import assert_close

from ethos.chat import Rendered
from ethos.train.character import CharacterLoss, character_objective
from ethos.train.loop import Scored, Unit
from ethos.train.losses import PairLogprobs, grouped_preference_loss, implicit_margin, nll, squared_kl

NATS = st.floats(-60, 0, width=32)
BETA = st.floats(0.01, 2.0)
ONE_GROUP = torch.tensor([0, 0])


def pairs(chosen: list[float], rejected: list[float]) -> PairLogprobs:
    return PairLogprobs(chosen_B=torch.tensor(chosen), rejected_B=torch.tensor(rejected))


def scored(policy: list[list[float]], reference: list[list[float]] | None = None) -> Scored:
    """A unit whose sequences have these per-token log-probabilities."""
    sequences = tuple(Rendered((0,) * (len(row) + 1), (False,) + (True,) * len(row)) for row in policy)
    unit = Unit(sequences, tuple(torch.tensor(row) for row in reference or []))
    return Scored(unit, tuple(torch.tensor(row, requires_grad=True) for row in policy))


def test_margin_by_hand() -> None:
    policy, reference = pairs([-10.0, -4.0], [-30.0, -3.0]), pairs([-10.0, -5.0], [-20.0, -1.0])
    assert_close(implicit_margin(policy, reference), torch.tensor([10.0, 3.0]))


def test_loss_is_log_2_while_policy_equals_reference() -> None:
    same = pairs([-3.0, -9.0], [-7.0, -2.0])
    loss_G = grouped_preference_loss(implicit_margin(same, same), torch.tensor([0, 1]), beta=0.1)
    assert_close(loss_G, torch.full((2,), math.log(2)))


def test_loss_of_a_single_pair_by_hand() -> None:
    margin_B = implicit_margin(pairs([-10.0], [-30.0]), pairs([-10.0], [-20.0]))  # 20 nats now, 10 before
    assert_close(
        grouped_preference_loss(margin_B, torch.tensor([0]), beta=0.1), torch.tensor([math.log(1 + math.exp(-1))])
    )


def test_margins_of_a_group_are_added_before_the_sigmoid() -> None:
    margin_B = torch.tensor([8.0, -3.0, 20.0])
    loss_G = grouped_preference_loss(margin_B, torch.tensor([1, 1, 0]), beta=0.2)
    assert_close(loss_G, torch.tensor([math.log(1 + math.exp(-4.0)), math.log(1 + math.exp(-1.0))]))


@given(chosen=st.lists(NATS, min_size=1, max_size=5), shift=st.lists(NATS, min_size=5, max_size=5), beta=BETA)
def test_a_group_of_one_pair_is_dpo(chosen: list[float], shift: list[float], beta: float) -> None:
    count = len(chosen)
    policy, reference = pairs(chosen, shift[:count]), pairs(shift[:count], chosen[::-1])
    ratio_B = (policy.chosen_B - policy.rejected_B) - (reference.chosen_B - reference.rejected_B)
    dpo_B = -F.logsigmoid(beta * ratio_B)  # as Eq. 7 of arXiv:2305.18290 is usually written
    ours_G = grouped_preference_loss(implicit_margin(policy, reference), torch.arange(count), beta=beta)
    assert_close(ours_G, dpo_B, rtol=1e-4, atol=1e-4)


@given(nats=st.lists(NATS, min_size=4, max_size=4), liking=st.floats(-40, 40), beta=BETA)
def test_a_crossed_group_ignores_a_liking_for_one_reply_whatever_the_situation(
    nats: list[float], liking: float, beta: float
) -> None:
    r1_a, r2_a, r1_b, r2_b = nats
    reference = pairs([-20.0, -20.0], [-20.0, -20.0])
    before = pairs([r1_a, r2_b], [r2_a, r1_b])  # in a: r1 over r2; in b: r2 over r1
    after = pairs([r1_a + liking, r2_b], [r2_a, r1_b + liking])  # r1 likelier, in both situations alike
    losses = [grouped_preference_loss(implicit_margin(p, reference), ONE_GROUP, beta=beta) for p in (before, after)]
    assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-4)


def test_a_liking_moves_the_loss_when_the_pairs_are_not_crossed() -> None:
    reference = pairs([0.0, 0.0], [0.0, 0.0])
    before, after = pairs([-5.0, -5.0], [-5.0, -5.0]), pairs([-1.0, -1.0], [-5.0, -5.0])
    losses = [grouped_preference_loss(implicit_margin(p, reference), ONE_GROUP, beta=0.5) for p in (before, after)]
    assert losses[1].item() < losses[0].item() - 0.5


def test_a_crossed_group_gives_a_context_free_liking_no_gradient() -> None:
    liking = torch.tensor(0.7, requires_grad=True)
    r1, r2 = torch.tensor([-5.0, -9.0]) + liking, torch.tensor([-6.0, -4.0])  # in situations a and b
    policy = PairLogprobs(chosen_B=torch.stack([r1[0], r2[1]]), rejected_B=torch.stack([r2[0], r1[1]]))
    grouped_preference_loss(implicit_margin(policy, pairs([-5.0, -5.0], [-5.0, -5.0])), ONE_GROUP, beta=0.3).backward()
    assert liking.grad is not None
    assert liking.grad.item() == 0.0


@given(margin=st.floats(-50, 50), gain=st.floats(1.0, 20), beta=BETA)
def test_loss_falls_as_the_margin_rises(margin: float, gain: float, beta: float) -> None:
    def loss(nats: float) -> float:
        margin_B = torch.tensor([nats, 0.0], dtype=torch.float64)
        return grouped_preference_loss(margin_B, ONE_GROUP, beta=beta).item()

    assert loss(margin + gain) < loss(margin)


def test_nll_weighs_sequences_equally_whatever_their_length() -> None:
    assert_close(nll([torch.tensor([-1.0, -3.0]), torch.tensor([-6.0])]), torch.tensor(4.0))  # (2 + 6) / 2


def test_squared_kl_by_hand() -> None:
    policy = [torch.tensor([-1.0, -2.0]), torch.tensor([-3.0])]
    reference = [torch.tensor([-2.0, -2.0]), torch.tensor([-7.0])]
    # ½ · mean(1, 0) = ¼ and ½ · 16 = 8: their mean
    assert_close(squared_kl(policy, reference), torch.tensor(4.125))


def test_squared_kl_is_zero_on_the_reference_itself() -> None:
    same = [torch.tensor([-1.0, -2.0]), torch.tensor([-3.0])]
    assert squared_kl(same, same).item() == 0.0


def test_squared_kl_refuses_a_policy_and_a_reference_of_different_counts() -> None:
    with pytest.raises(ValueError, match="zip"):
        squared_kl([torch.tensor([-1.0])], [])


def test_the_objective_of_contrasts_and_conversations_by_hand() -> None:
    weights = CharacterLoss(beta=0.5, nll_weight=0.1, kl_weight=0.01, sft_weight=2.0)
    contrast = scored([[-1.0, -1.0], [-4.0]], [[-2.0, -1.0], [-3.0]])  # margin (−2 + 3) − (−4 + 3) = 2
    talk = scored([[-3.0, -5.0]])
    preference = math.log(1 + math.exp(-0.5 * 2))
    kl = (0.5 * 0.5 + 0.5 * 1.0) / 2  # ½ · mean(1, 0), then ½ · 1
    loss, metrics = character_objective(weights)([contrast, talk])
    assert_close(loss.item(), preference + 0.1 * 1.0 + 0.01 * kl + 2.0 * 4.0)
    assert metrics == pytest.approx({"margin": 2.0, "groups": 1.0, "nll": 4.0, "singles": 1.0})


def test_the_objective_adds_the_two_pairs_of_a_crossed_unit() -> None:
    weights = CharacterLoss(beta=1.0, nll_weight=0.0)
    reference = [[-3.0]] * 4
    crossed = scored([[-1.0], [-2.0], [-4.0], [-2.0]], reference)  # margins 1 and −2
    loss, metrics = character_objective(weights)([crossed])
    assert_close(loss.item(), math.log(1 + math.exp(1.0)))
    assert metrics["margin"] == pytest.approx(-1.0)


@given(split=st.integers(1, 3), weights=st.sampled_from([CharacterLoss(), CharacterLoss(kl_weight=0.3)]))
def test_the_objective_is_a_sum_so_that_packs_may_split_a_step(split: int, weights: CharacterLoss) -> None:
    units = [
        scored([[-1.0], [-2.0, -1.0]], [[-1.5], [-1.0, -1.0]]),
        scored([[-2.0]]),
        scored([[-3.0], [-1.0], [-1.0], [-5.0]], [[-2.0]] * 4),
        scored([[-4.0, -6.0]]),
    ]
    objective = character_objective(weights)

    def total(parts: list[list[Scored]]) -> Tensor:
        return torch.stack([objective(part)[0] for part in parts]).sum()

    assert_close(total([units[:split], units[split:]]), total([units]))


def test_a_reference_free_loss_takes_the_policys_own_margin() -> None:
    weights = CharacterLoss(beta=0.5, nll_weight=0.0, reference_free=True)
    policy = [[-1.0, -1.0], [-6.0]]  # margin −2 + 6
    without, beside = (
        character_objective(weights)([unit]) for unit in (scored(policy), scored(policy, [[-9.0] * 2, [0.0]]))
    )
    assert_close(without[0].item(), math.log(1 + math.exp(-0.5 * 4)))
    assert without[0].item() == beside[0].item()
    assert without[1]["margin"] == pytest.approx(4.0)


def test_a_penalty_on_the_distance_to_a_reference_needs_one() -> None:
    with pytest.raises(ValidationError, match="kl_weight needs a reference"):
        CharacterLoss(reference_free=True, kl_weight=0.1)
