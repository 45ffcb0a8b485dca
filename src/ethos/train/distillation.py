"""Distillation from a teacher that sees more: the student's next-token distribution is drawn to the teacher's.

    method                    student's context      teacher's context          teacher
    on-policy distillation    the prompt             constitution + prompt      another model of the same tokenizer
    self-distillation         the prompt             constitution or example    itself before training, or its average
    consistency               a perturbed prompt     the clean prompt           itself before training, or its average

The student samples the replies (or they are given: units that come with sequences), the teacher scores them in
its own context, and the loss is a divergence at every token of the reply. Over-long contexts are refused, never cut.

On-policy distillation: Agarwal et al. 2024 (GKD, arXiv:2306.13649); Lu et al. 2025 for the sampled-token form.
Self-distillation: Shenfeld et al. 2026 (arXiv:2601.19897). Consistency on sampled replies is ours in form, after
bias-augmented consistency training (Chua et al. 2024, arXiv:2403.05518), which learns the clean reply's text.
Consistency of states inside the model, instead of distributions, is in activations.py.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from peft import PeftModel
from pydantic import Field, model_validator
from torch import Tensor

from ethos import scoring
from ethos.chat import Chat, Rendered
from ethos.records import Record
from ethos.scoring import Model
from ethos.train.divergences import generalised_jsd
from ethos.train.loop import Objective, Scored, Unit
from ethos.train.lora import before_training, point_to, trainable
from ethos.train.onpolicy import Sampling, with_replies

Teacher = Callable[[Sequence[Rendered]], list[Tensor]]
"""Sequences → the teacher's logits at their scored tokens, (T, V) each, without gradient."""


class Distillation(Record):
    """What is minimised at each token of a reply."""

    form: Literal["jsd", "policy_gradient", "activations"] = "jsd"
    """`jsd` over the vocabulary; `policy_gradient` of the reverse KL from the sampled token alone; `activations` the
    squared distance between states inside the model (see activations.py)."""
    beta: float = Field(0.5, ge=0, le=1)
    """jsd: 0 is the forward KL, 1 the reverse KL."""
    top_k: int | None = Field(None, gt=0)
    """jsd: the teacher's likeliest tokens, the others pooled (default: the full vocabulary)."""
    sampling: Sampling = Sampling()
    depths: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = Field(
        None, min_length=1, exclude_if=lambda depths: depths is None
    )
    """activations: the layers compared, 0 the first and 1 the last (default: all)."""

    @model_validator(mode="after")
    def _consistent(self) -> "Distillation":
        if self.form != "jsd" and (self.top_k is not None or self.beta != 0.5):
            raise ValueError(f"beta and top_k belong to jsd, not to {self.form}")
        if self.form != "activations" and self.depths is not None:
            raise ValueError(f"depths belong to activations, not to {self.form}")
        return self


def distillation_objective(settings: Distillation, teacher: Teacher, chat: Chat, *, seed: int) -> Objective:
    """Draw the student's distributions to the teacher's, on the student's own replies where a unit has none yet."""

    def prepare(model: PeftModel, units: Sequence[Unit], step: int) -> list[Unit]:
        if isinstance(teacher, MovingAverage):
            teacher.follow()
        empty = [unit for unit in units if not unit.sequences]
        filled = iter(with_replies(model, chat, empty, settings.sampling, seed=seed, step=step) if empty else [])
        return [unit if unit.sequences else next(filled) for unit in units]

    def loss(units: Sequence[Scored]) -> tuple[Tensor, dict[str, float]]:
        targets = iter(teacher([sequence for unit in units for sequence in unit.unit.teacher]))
        terms = []
        for unit in units:
            each = [_divergence(settings, one, next(targets)).mean() for one in _tokens(unit)]
            terms.append(torch.stack(each).mean())
        total = torch.stack(terms).sum()
        return total, {"divergence": total.item()}

    state = teacher.weights if isinstance(teacher, MovingAverage) else None
    return Objective(loss, prepare, distributions=True, state=state)


Tokens = tuple[Tensor, Tensor, Tensor]
"""A sequence's student logits (T, V), log-probabilities (T,) and token ids (T,)."""


def _tokens(unit: Scored) -> list[Tokens]:
    return [
        (logits_TV, logprobs_T, torch.tensor(_scored_ids(sequence), device=logits_TV.device))
        for logits_TV, logprobs_T, sequence in zip(unit.logits, unit.policy, unit.unit.sequences, strict=True)
    ]


def _scored_ids(sequence: Rendered) -> list[int]:
    return [token for token, learnt in zip(sequence.tokens, sequence.mask, strict=True) if learnt]


def _divergence(settings: Distillation, student: Tokens, teacher_TV: Tensor) -> Tensor:
    """The loss at each token of one sequence: (T,)."""
    logits_TV, logprobs_T, ids_T = student
    width = min(logits_TV.shape[-1], teacher_TV.shape[-1])  # heads over one vocabulary may be padded differently
    logits_TV, teacher_TV = logits_TV[:, :width], teacher_TV[:, :width]
    if settings.form == "jsd":
        return generalised_jsd(logits_TV, teacher_TV.to(logits_TV), beta=settings.beta, top_k=settings.top_k)
    teacher_T = teacher_TV.to(logits_TV).log_softmax(-1).gather(-1, ids_T[:, None])[:, 0]
    reward_T = (teacher_T - logprobs_T).detach()
    return -reward_T * logprobs_T


def untrained(model: PeftModel) -> Teacher:
    """The student as it was before training as its own teacher."""

    def logits(sequences: Sequence[Rendered]) -> list[Tensor]:
        with before_training(model):
            return scoring.score_logits(model, sequences)

    return logits


def frozen(teacher: Model) -> Teacher:
    """Another model as teacher. It must share the student's tokenizer: token ids go from one to the other."""
    return lambda sequences: scoring.score_logits(teacher, sequences)


class MovingAverage:
    """The student's exponential moving average as teacher; it follows once a step and is kept in checkpoints."""

    def __init__(self, model: PeftModel, *, decay: float) -> None:
        self.model, self.decay = model, decay
        self.weights = {name: weight.detach().clone() for name, weight in trainable(model).items()}

    @torch.no_grad()
    def follow(self) -> None:
        """weights ← decay · weights + (1 − decay) · student."""
        for name, weight in trainable(self.model).items():
            self.weights[name].lerp_(weight, 1 - self.decay)

    def __call__(self, sequences: Sequence[Rendered]) -> list[Tensor]:
        """Logits with the averaged weights in the student's place; what autograd saved of the student stays valid."""
        own = {name: weight.data for name, weight in trainable(self.model).items()}
        point_to(self.model, self.weights)
        try:
            return scoring.score_logits(self.model, sequences)
        finally:
            point_to(self.model, own)
