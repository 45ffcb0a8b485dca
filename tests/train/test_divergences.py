"""The divergence by hand, its limits, and what pooling may and may not do."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from ethos.train.divergences import generalised_jsd

BETA = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])
SEEDS = st.integers(0, 10_000)


def logits(seed: int, *, tokens: int = 3, vocabulary: int = 11) -> Tensor:
    return 3 * torch.randn(tokens, vocabulary, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_of_two_coins_by_hand() -> None:
    student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.8, 0.2]]).log()
    forward = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    reverse = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)
    middle = (0.25 * 0.8 + 0.75 * 0.5, 0.25 * 0.2 + 0.75 * 0.5)
    to_teacher = 0.8 * math.log(0.8 / middle[0]) + 0.2 * math.log(0.2 / middle[1])
    to_student = 0.5 * math.log(0.5 / middle[0]) + 0.5 * math.log(0.5 / middle[1])
    for beta, expected in ((0.0, forward), (1.0, reverse), (0.25, 0.25 * to_teacher + 0.75 * to_student)):
        assert_close(generalised_jsd(student, teacher, beta=beta).item(), expected)


@given(seed=SEEDS, beta=BETA, top_k=st.sampled_from([None, 1, 4, 11, 50]))
def test_it_is_zero_on_itself_and_positive_otherwise(seed: int, beta: float, top_k: int | None) -> None:
    one, other = logits(seed), logits(seed + 1)
    assert_close(generalised_jsd(one, one + 5, beta=beta, top_k=top_k), torch.zeros(3, dtype=torch.float64))
    assert (generalised_jsd(one, other, beta=beta, top_k=top_k) >= 0).all()
    assert (generalised_jsd(one, other, beta=beta) > 1e-4).all()


@given(seed=SEEDS, beta=BETA, small=st.integers(1, 10), more=st.integers(0, 5))
def test_pooling_more_tokens_never_raises_it(seed: int, beta: float, small: int, more: int) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    coarse, fine = (generalised_jsd(student, teacher, beta=beta, top_k=k) for k in (small, small + more))
    assert (coarse <= fine + 1e-9).all()
    assert (fine <= generalised_jsd(student, teacher, beta=beta) + 1e-9).all()


@given(seed=SEEDS)
def test_it_agrees_with_pytorch_at_both_ends(seed: int) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    q, p = student.log_softmax(-1), teacher.log_softmax(-1)
    assert_close(generalised_jsd(student, teacher, beta=0), F.kl_div(q, p, reduction="none", log_target=True).sum(-1))
    assert_close(generalised_jsd(student, teacher, beta=1), F.kl_div(p, q, reduction="none", log_target=True).sum(-1))


@pytest.mark.parametrize(("beta", "end"), [(1e-6, 0.0), (1 - 1e-6, 1.0)])
def test_close_to_an_end_it_points_where_the_end_does(beta: float, end: float) -> None:
    """JSD(β)/β → KL(P‖Q) as β → 0, and JSD(β)/(1 − β) → KL(Q‖P) as β → 1."""
    student, teacher = logits(3), logits(4)
    near = generalised_jsd(student, teacher, beta=beta) / min(beta, 1 - beta)
    assert_close(near, generalised_jsd(student, teacher, beta=end), rtol=1e-3, atol=1e-3)


@given(seed=SEEDS, beta=BETA, top_k=st.sampled_from([None, 3]))
def test_its_gradient_draws_the_student_to_the_teacher(seed: int, beta: float, top_k: int | None) -> None:
    student, teacher = logits(seed).requires_grad_(), logits(seed + 1)
    before = generalised_jsd(student, teacher, beta=beta, top_k=top_k)
    (gradient,) = torch.autograd.grad(before.sum(), student)
    assert gradient.isfinite().all()
    after = generalised_jsd(student.detach() - 1e-3 * gradient, teacher, beta=beta, top_k=top_k)
    assert after.sum() < before.sum()
