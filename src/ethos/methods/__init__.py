"""The training methods a run file can name. Each [[stages]] table is one of them, trained in the order of the file.

    method               learns from
    preference           contrasts: chosen over rejected, recorded or sampled   (DPO, IPO, SimPO, ORPO, KTO)
    sft                  written replies, without the constitution in sight     (context distillation)
    documents            plain texts about the assistant and its constitution
    introspection        what the student writes of itself, the constitution in its prompt
    distillation         its own replies, judged token by token by a teacher that sees more
    constitutional_rl    its own replies, rewarded for what the constitution makes likelier
    steering             nothing: a direction found on the contrasts is added while the model runs

A stage's adapter is trained on top of those before it, which stay frozen; what is evaluated is their exact sum,
steered where the last stage says so.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ethos.data.preferences import Labels
from ethos.methods.base import Given, Method, Sees, Writing
from ethos.methods.introspective import IntrospectionTraining
from ethos.methods.onpolicy import ConstitutionalRL, DistillationTraining
from ethos.methods.rows import DocumentTraining, PreferenceTraining, SupervisedTraining
from ethos.persona import Persona
from ethos.train.fit import Training

__all__ = [
    "ConstitutionalRL",
    "DistillationTraining",
    "DocumentTraining",
    "Given",
    "IntrospectionTraining",
    "Method",
    "PreferenceTraining",
    "Sees",
    "Stage",
    "Stages",
    "Steering",
    "SupervisedTraining",
    "Writing",
    "check_labels",
    "shortest_limit",
]


class Steering(Persona):
    """The finished model with a direction added at every position. Nothing is trained."""

    method: Literal["steering"] = "steering"

    def fingerprint(self) -> str:
        """Settings and rows say it all."""
        return ""

    @property
    def reads_labels(self) -> bool:
        """Always: the direction is from rejected to chosen."""
        return True


Stage = Annotated[
    PreferenceTraining
    | SupervisedTraining
    | DocumentTraining
    | IntrospectionTraining
    | DistillationTraining
    | ConstitutionalRL
    | Steering,
    Field(discriminator="method"),
]
"""A [[stages]] table of a run file."""


def _steering_last(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    if any(isinstance(stage, Steering) for stage in stages[:-1]):
        raise ValueError("a steering stage comes last: what is trained is found on the unsteered model")
    return stages


def _factors_fit(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """Factors can be added to those of one equal rank."""
    rank = 0
    for stage in (stage for stage in stages if isinstance(stage, Method)):
        if stage.adds_factors and stage.lora.rank != rank:
            raise ValueError(
                f"factors_added: rank {stage.lora.rank} cannot be added to the {rank} of the stages before"
            )
        rank = stage.lora.rank if stage.adds_factors else rank + stage.lora.rank
    return stages


Stages = Annotated[tuple[Stage, ...], Field(min_length=1), AfterValidator(_steering_last), AfterValidator(_factors_fit)]
"""All of them, in order."""


def shortest_limit(stages: Sequence[Stage], neutral: Training) -> int:
    """The longest row that every stage and the neutral control can train on, in tokens."""
    return min(stage.optimisation.max_tokens for stage in (*stages, neutral) if isinstance(stage, Training))


def check_labels(labels: Labels, stages: Sequence[Stage]) -> None:
    """Refuse labels that no stage would read: a control that changes nothing. Raises ValueError."""
    if labels != "recorded" and not any(stage.reads_labels for stage in stages):
        raise ValueError(f"labels = {labels!r} changes nothing: no stage reads which reply is the chosen one")
