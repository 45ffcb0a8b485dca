"""Divergences between next-token distributions: what distillation minimises.

Shape suffixes: T = tokens, V = vocabulary, K = the teacher's likeliest tokens and one bucket for the rest.
"""

import math

import torch
from torch import Tensor


def generalised_jsd(student_TV: Tensor, teacher_TV: Tensor, *, beta: float, top_k: int | None = None) -> Tensor:
    """Generalised Jensen–Shannon divergence of two sets of logits (nats): (T,).

    β KL(P‖M) + (1 − β) KL(Q‖M) with teacher P, student Q and M = βP + (1 − β)Q (Agarwal et al. 2024,
    arXiv:2306.13649, Eq. 1). At the ends, where that is zero, its limit direction: β = 0 is the forward
    KL(P‖Q), β = 1 the reverse KL(Q‖P). `top_k` keeps the teacher's likeliest tokens and pools the others in one
    bucket, which can only lower the divergence (data processing inequality).
    """
    student, teacher = student_TV.log_softmax(-1), teacher_TV.log_softmax(-1)
    if top_k is not None and top_k < teacher.shape[-1]:
        kept = teacher.topk(top_k, dim=-1).indices
        student, teacher = _pooled(student, kept), _pooled(teacher, kept)
    if beta == 0:
        return _kl(teacher, student)
    if beta == 1:
        return _kl(student, teacher)
    middle = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    return beta * _kl(teacher, middle) + (1 - beta) * _kl(student, middle)


def _pooled(logprobs_TV: Tensor, kept: Tensor) -> Tensor:
    """Log-probabilities (T, K + 1) of the kept tokens and of all others together."""
    inside = logprobs_TV.gather(-1, kept)
    rest = logprobs_TV.scatter(-1, kept, float("-inf")).logsumexp(-1, keepdim=True)
    return torch.cat([inside, rest], dim=-1)


def _kl(one: Tensor, other: Tensor) -> Tensor:
    """KL(one‖other) over the last dimension of log-probabilities."""
    return (one.exp() * (one - other)).sum(-1)
