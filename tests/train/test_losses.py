"""Losses against hand arithmetic, and the one property a crossed group is for."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from ethos.train.losses import (
    PairLogprobs,
    dpo,
    group_sums,
    implicit_margin,
    ipo,
    kto,
    log_odds_margin,
    nll,
    squared_kl,
)

NATS = st.floats(-60, 0, width=32)
BETA = st.floats(0.01, 2.0)
ONE_GROUP = torch.tensor([0, 0])


def pairs(chosen: list[float], rejected: list[float]) -> PairLogprobs:
    return PairLogprobs(chosen_B=torch.tensor(chosen), rejected_B=torch.tensor(rejected))


def grouped(margin_B: Tensor, group_B: Tensor, *, beta: float) -> Tensor:
    return dpo(group_sums(margin_B, group_B), beta=beta)


def test_margin_by_hand() -> None:
    policy, reference = pairs([-10.0, -4.0], [-30.0, -3.0]), pairs([-10.0, -5.0], [-20.0, -1.0])
    assert_close(implicit_margin(policy, reference), torch.tensor([10.0, 3.0]))


def test_loss_is_log_2_while_policy_equals_reference() -> None:
    same = pairs([-3.0, -9.0], [-7.0, -2.0])
    loss_G = grouped(implicit_margin(same, same), torch.tensor([0, 1]), beta=0.1)
    assert_close(loss_G, torch.full((2,), math.log(2)))


def test_loss_of_a_single_pair_by_hand() -> None:
    margin_B = implicit_margin(pairs([-10.0], [-30.0]), pairs([-10.0], [-20.0]))  # 20 nats now, 10 before
    assert_close(grouped(margin_B, torch.tensor([0]), beta=0.1), torch.tensor([math.log(1 + math.exp(-1))]))


def test_margins_of_a_group_are_added_before_the_sigmoid() -> None:
    margin_B = torch.tensor([8.0, -3.0, 20.0])
    loss_G = grouped(margin_B, torch.tensor([1, 1, 0]), beta=0.2)
    assert_close(loss_G, torch.tensor([math.log(1 + math.exp(-4.0)), math.log(1 + math.exp(-1.0))]))


@given(chosen=st.lists(NATS, min_size=1, max_size=5), shift=st.lists(NATS, min_size=5, max_size=5), beta=BETA)
def test_a_group_of_one_pair_is_dpo(chosen: list[float], shift: list[float], beta: float) -> None:
    count = len(chosen)
    policy, reference = pairs(chosen, shift[:count]), pairs(shift[:count], chosen[::-1])
    ratio_B = (policy.chosen_B - policy.rejected_B) - (reference.chosen_B - reference.rejected_B)
    dpo_B = -F.logsigmoid(beta * ratio_B)  # as Eq. 7 of arXiv:2305.18290 is usually written
    ours_G = grouped(implicit_margin(policy, reference), torch.arange(count), beta=beta)
    assert_close(ours_G, dpo_B, rtol=1e-4, atol=1e-4)


@given(nats=st.lists(NATS, min_size=4, max_size=4), liking=st.floats(-40, 40), beta=BETA)
def test_a_crossed_group_ignores_a_liking_for_one_reply_whatever_the_situation(
    nats: list[float], liking: float, beta: float
) -> None:
    r1_a, r2_a, r1_b, r2_b = nats
    reference = pairs([-20.0, -20.0], [-20.0, -20.0])
    before = pairs([r1_a, r2_b], [r2_a, r1_b])  # in a: r1 over r2; in b: r2 over r1
    after = pairs([r1_a + liking, r2_b], [r2_a, r1_b + liking])  # r1 likelier, in both situations alike
    losses = [grouped(implicit_margin(p, reference), ONE_GROUP, beta=beta) for p in (before, after)]
    assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-4)


def test_a_liking_moves_the_loss_when_the_pairs_are_not_crossed() -> None:
    reference = pairs([0.0, 0.0], [0.0, 0.0])
    before, after = pairs([-5.0, -5.0], [-5.0, -5.0]), pairs([-1.0, -1.0], [-5.0, -5.0])
    losses = [grouped(implicit_margin(p, reference), ONE_GROUP, beta=0.5) for p in (before, after)]
    assert losses[1].item() < losses[0].item() - 0.5


def test_a_crossed_group_gives_a_context_free_liking_no_gradient() -> None:
    liking = torch.tensor(0.7, requires_grad=True)
    r1, r2 = torch.tensor([-5.0, -9.0]) + liking, torch.tensor([-6.0, -4.0])  # in situations a and b
    policy = PairLogprobs(chosen_B=torch.stack([r1[0], r2[1]]), rejected_B=torch.stack([r2[0], r1[1]]))
    grouped(implicit_margin(policy, pairs([-5.0, -5.0], [-5.0, -5.0])), ONE_GROUP, beta=0.3).backward()
    assert liking.grad is not None
    assert liking.grad.item() == 0.0


@given(margin=st.floats(-50, 50), gain=st.floats(1.0, 20), beta=BETA)
def test_loss_falls_as_the_margin_rises(margin: float, gain: float, beta: float) -> None:
    def loss(nats: float) -> float:
        margin_B = torch.tensor([nats, 0.0], dtype=torch.float64)
        return grouped(margin_B, ONE_GROUP, beta=beta).item()

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


def test_simpo_subtracts_its_target_margin_by_hand() -> None:
    assert_close(dpo(torch.tensor([3.0]), beta=2.0, gamma=1.5), torch.tensor([math.log(1 + math.exp(-4.5))]))


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_ipo_is_least_at_its_target_and_grows_both_ways(beta: float) -> None:
    target = 1 / (2 * beta)
    loss_G = ipo(torch.tensor([target, target + 2, target - 3, 0.0]), beta=beta)
    assert_close(loss_G, torch.tensor([0.0, 4.0, 9.0, target**2]))


def test_log_odds_by_hand() -> None:
    half, quarter = math.log(0.5), math.log(0.25)  # odds 1 and 1/3
    assert_close(log_odds_margin(pairs([half, quarter], [quarter, half])), torch.tensor([math.log(3), -math.log(3)]))


def test_log_odds_stay_finite_where_a_reply_is_certain() -> None:
    certain = torch.tensor([0.0], requires_grad=True)
    margin_B = log_odds_margin(PairLogprobs(certain, torch.tensor([-1.0])))
    margin_B.sum().backward()
    assert margin_B.isfinite().all()
    assert certain.grad is not None
    assert certain.grad.isfinite().all()


def test_kto_by_hand() -> None:
    loss_R = kto(torch.tensor([4.0, 4.0, 1.0]), torch.tensor([True, False, True]), 1.0, beta=0.5)
    sigmoid = 1 / (1 + math.exp(-1.5))
    assert_close(loss_R, torch.tensor([1 - sigmoid, sigmoid, 0.5]))


def test_kto_pushes_a_good_reply_up_and_a_bad_one_down() -> None:
    ratio_R = torch.zeros(2, requires_grad=True)
    kto(ratio_R, torch.tensor([True, False]), 0.3, beta=0.1).sum().backward()
    assert ratio_R.grad is not None
    assert ratio_R.grad[0] < 0 < ratio_R.grad[1]
