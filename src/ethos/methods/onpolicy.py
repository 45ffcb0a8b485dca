"""Methods that learn from the student's own replies, judged by a model that can be weighed."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from peft import PeftModel
from pydantic import Field, model_validator

from ethos import models
from ethos.chat import Chat
from ethos.constitution import Constitution
from ethos.data.files import Rows
from ethos.data.preferences import draw
from ethos.errors import DataError, ModelError
from ethos.methods.base import Given, Method, Sees, Writing
from ethos.records import Message
from ethos.train import distillation
from ethos.train.activations import activation_objective
from ethos.train.loop import Objective, Unit
from ethos.train.onpolicy import Sampling, prompt_unit
from ethos.train.reinforcement import GroupPolicyGradient, constitutional_reward, policy_gradient_objective


class DistillationTraining(Method):
    """The student answers; a teacher that sees more judges every token.

    Self-distillation: the student before training (or its average), with the constitution. On-policy distillation:
    another model. Consistency: the prompt without the user's push.
    """

    method: Literal["distillation"] = "distillation"
    loss: distillation.Distillation = distillation.Distillation()
    teacher: str = "untrained"
    """`untrained` (the student before this stage), `average` (of the student over steps), or a model's folder."""
    decay: float | None = Field(None, gt=0, lt=1)
    """average: what it keeps of itself at a step."""
    sees: Sees = "constitution"
    prompts: int | None = Field(None, gt=0)
    """How many of the contrasts' prompts to answer, drawn by the seed; None takes all."""

    @model_validator(mode="after")
    def _consistent(self) -> "DistillationTraining":
        if (self.decay is None) != (self.teacher != "average"):
            raise ValueError("decay belongs to teacher = 'average', which needs it")
        if self.loss.form == "activations" and (self.teacher, self.sees) != ("untrained", "clean"):
            raise ValueError("activations are compared with those of the untrained student that sees the clean prompt")
        return self

    @property
    def elsewhere(self) -> Path | None:
        """The folder of a teacher that is another model."""
        return None if self.teacher in ("untrained", "average") else models.base_folder(self.teacher)

    @property
    def teacher_sees(self) -> Sees:
        """As the setting says."""
        return self.sees

    def fingerprint(self) -> str:
        """The other model's weights."""
        return models.base_digest(self.elsewhere) if self.elsewhere else ""

    def units(self, rows: Rows, constitution: Constitution, chat: Chat, *, seed: int) -> list[Unit]:
        """Prompts to sample for, each with what the teacher sees."""
        if self.sees == "clean":
            seen = [(row, row.clean) for row in rows.contrasts if row.clean]
        else:
            system = Message(role="system", content=constitution.system_prompt())
            seen = [(row, [system, *row.prompt]) for row in rows.contrasts]
        if not seen:
            raise DataError(
                "no contrast has a pushed prompt, so none has a clean one",
                hint="raise mixture.pushed, or add rows with push_r1 and push_r2",
            )
        units = [prompt_unit(row.prompt, source=row.source, teacher_prompt=clean) for row, clean in seen]
        return draw(different(units), self.prompts, random.Random(seed))

    def written(self, rows: Rows, units: Sequence[Unit]) -> Writing:
        """Replies to every prompt in every epoch, or as many tokens as its budget has."""
        return _answers(self.loss.sampling, self, units)

    def objective(self, model: PeftModel, given: Given, chat: Chat) -> Objective:
        """Divergence from the teacher, or distance from its states."""
        if self.loss.form == "activations":
            return activation_objective(model, chat, self.loss.sampling, self.loss.depths, seed=given.seed)
        return distillation.distillation_objective(self.loss, self._teacher(model, chat), chat, seed=given.seed)

    def _teacher(self, model: PeftModel, chat: Chat) -> distillation.Teacher:
        if self.elsewhere:
            theirs = models.load_tokenizer_chat(self.elsewhere).tokenizer
            if theirs.get_vocab() != chat.tokenizer.get_vocab():
                raise ModelError(
                    f"the teacher {self.teacher} has another tokenizer than the student",
                    hint="distillation by token needs one vocabulary; use its replies with method = 'sft' instead",
                )
            return distillation.frozen(models.load_base(self.elsewhere))
        if self.decay is not None:
            return distillation.MovingAverage(model, decay=self.decay)
        return distillation.untrained(model)


class ConstitutionalRL(Method):
    """The student answers several times; the replies that the constitution makes likelier are reinforced."""

    method: Literal["constitutional_rl"] = "constitutional_rl"
    loss: GroupPolicyGradient = GroupPolicyGradient()
    prompts: int | None = Field(None, gt=0)
    """How many of the contrasts' prompts to answer, drawn by the seed; None takes all."""

    @property
    def teacher_sees(self) -> Sees:
        """The reward is what the constitution makes likelier."""
        return "constitution"

    def units(self, rows: Rows, constitution: Constitution, chat: Chat, *, seed: int) -> list[Unit]:
        """Prompts to sample for."""
        units = different([prompt_unit(row.prompt, source=row.source) for row in rows.contrasts])
        return draw(units, self.prompts, random.Random(seed))

    def written(self, rows: Rows, units: Sequence[Unit]) -> Writing:
        """Replies to every prompt in every epoch, or as many tokens as its budget has."""
        return _answers(self.loss.sampling, self, units)

    def objective(self, model: PeftModel, given: Given, chat: Chat) -> Objective:
        """Policy gradient on the constitutional reward."""
        reward = constitutional_reward(chat, given.constitution.system_prompt())
        return policy_gradient_objective(self.loss, reward, chat, seed=given.seed)


def different(units: Sequence[Unit]) -> list[Unit]:
    """Units of different prompts, in order."""
    return list({unit.prompt: unit for unit in units}.values())


def _answers(sampling: Sampling, stage: Method, units: Sequence[Unit]) -> Writing:
    """What the student answers while it trains."""
    settings = stage.optimisation
    if settings.tokens is not None:  # rows repeat until the budget is spent
        return Writing(0, settings.generated or 0)
    requests = len(units) * sampling.replies * settings.epochs
    return Writing(requests, requests * sampling.max_tokens)
