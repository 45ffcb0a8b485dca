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

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from peft import PeftModel
from pydantic import AfterValidator, Field, model_validator

from ethos import models
from ethos.bench.contamination import contaminated
from ethos.chat import Chat
from ethos.constitution import Constitution
from ethos.data import introspection
from ethos.data.ablation import AS_BUILT, NO_BUGS, Ablation, PublishedBugs, as_learnt, is_sampled
from ethos.data.files import CONVERSATIONS, DROPPED, PREFERENCES, Rows
from ethos.data.filters import fitted
from ethos.data.introspection import Introspection, IntrospectionSampling
from ethos.data.preferences import Contrasts, Labels, draw
from ethos.data.rejections import STUDENT, Rejections, resampled
from ethos.errors import DataError, ModelError
from ethos.models import load_subject
from ethos.persona import Persona
from ethos.records import Conversation, Drop, Message, to_jsonl
from ethos.samplers.replies import ReplyCache
from ethos.store import write_text
from ethos.train import distillation
from ethos.train.activations import activation_objective
from ethos.train.fit import Training
from ethos.train.loop import Objective, Unit
from ethos.train.onpolicy import prompt_unit
from ethos.train.preference import PreferenceLoss, preference_objective, preference_units
from ethos.train.reinforcement import GroupPolicyGradient, constitutional_reward, policy_gradient_objective
from ethos.train.supervised import conversation_units, document_units, sft_objective

OVERLAP = "shares eight words in a row with a benchmark item"


class Given(NamedTuple):
    """What a stage starts from, beside its settings and its rows."""

    base: Path
    base_name: str
    constitution: Constitution
    data: Path
    """The folder of the run's rows."""
    on: Path | None
    """The adapter of all stages before."""
    cache: ReplyCache
    seed: int


class Method(Training, ABC):
    """One stage: what every method adds to the settings of a training."""

    method: str
    prevent: Persona | None = Field(None, exclude_if=lambda persona: persona is None)
    """A push away from the character in every forward pass of the training, gone afterwards (preventative steering)."""

    def gathered(self, rows: Rows, given: Given, folder: Path) -> Rows:
        """The rows with those that this method makes itself; what it makes and drops is written to `folder`."""
        return rows

    def fingerprint(self) -> str:
        """What decides the result and is not in the settings: a hash of weights that they name by path."""
        return ""

    @abstractmethod
    def units(self, rows: Rows, constitution: Constitution, chat: Chat, *, seed: int) -> list[Unit]:
        """What to learn from, nothing sampled yet."""

    @abstractmethod
    def objective(self, model: PeftModel, given: Given, chat: Chat) -> Objective:
        """What to minimise."""

    @property
    def needs_reference(self) -> bool:
        """Whether log-probabilities before training enter the loss."""
        return False

    @property
    def reads_labels(self) -> bool:
        """Whether it matters which reply of a contrast is the chosen one; to a vaccine it does."""
        return self.prevent is not None

    @property
    def adds_factors(self) -> bool:
        """Whether it is put together with the stages before by adding factors, which is a mistake to be studied."""
        return False


class PreferenceTraining(Method):
    """Contrasts, and replay against forgetting."""

    method: Literal["preference"] = "preference"
    loss: PreferenceLoss = PreferenceLoss()
    contrasts: Contrasts = Contrasts()
    rejections: Rejections | None = Field(None, exclude_if=lambda rejections: rejections is None)
    """Who says what is rejected; None keeps the recorded replies: the opposite pole's, or a plain teacher's (voice)."""
    replay: int = Field(0, ge=0)
    """Ordinary conversations mixed in against forgetting."""

    @property
    def elsewhere(self) -> Path | None:
        """The folder of another model that says what is rejected."""
        by = self.rejections.by if self.rejections else STUDENT
        return None if by == STUDENT else models.base_folder(by)

    def fingerprint(self) -> str:
        """The other model's weights."""
        return models.base_digest(self.elsewhere) if self.elsewhere else ""

    def gathered(self, rows: Rows, given: Given, folder: Path) -> Rows:
        """The contrasts with the rejections that are asked for."""
        if self.rejections is None:
            return rows
        if other := self.elsewhere:
            who = models.subject("teacher", models.base_digest(other), models.reading_digest(other), None)
            loaded = load_subject(other, who, None)
        else:
            who = models.subject("student", given.base_name, models.reading_digest(given.base), given.on)
            loaded = load_subject(given.base, who, given.on)
        contrasts = self.contrasts.of(rows.contrasts)
        made = resampled(loaded, contrasts, given.constitution, self.rejections, given.cache, seed=given.seed)
        plain, limit = models.load_tokenizer_chat(given.base, system=self.inoculation), self.optimisation.max_tokens
        faults = {
            row.group: f"longer than {limit} tokens"
            for row in made.kept
            if len(plain.render([*row.prompt, *row.rejected]).tokens) > limit
        }
        faults |= dict.fromkeys(contaminated(made.kept), OVERLAP)
        kept = [row for row in made.kept if row.group not in faults]
        dropped = [*made.dropped, *(Drop(source=group, reason=reason) for group, reason in faults.items())]
        if not kept:
            why = dropped[0].reason if dropped else "there was none"
            raise DataError(
                f"no contrast is left with a sampled rejection: {why}",
                hint="raise rejections.max_tokens, or keep the recorded rejections",
            )
        write_text(folder / PREFERENCES, to_jsonl(kept))
        write_text(folder / DROPPED, to_jsonl(dropped))
        return rows._replace(contrasts=kept)

    def units(self, rows: Rows, constitution: Constitution, chat: Chat, *, seed: int) -> list[Unit]:
        """Each contrast with its group, then the replay rows."""
        contrasts = preference_units(self.contrasts.of(rows.contrasts), chat)
        return [*contrasts, *conversation_units(rows.replay[: self.replay], chat)]

    def objective(self, model: PeftModel, given: Given, chat: Chat) -> Objective:
        """The preference loss."""
        return preference_objective(self.loss)

    @property
    def needs_reference(self) -> bool:
        """As the loss says."""
        return self.loss.needs_reference

    @property
    def reads_labels(self) -> bool:
        """Always."""
        return True


class SupervisedTraining(Method):
    """Replies as they are written. Of contrasts the chosen ones: written in character, learnt without the constitution
    in the prompt, they are context distillation."""

    method: Literal["sft"] = "sft"
    learns: tuple[Literal["chosen", "conversations", "replay"], ...] = Field(("chosen",), min_length=1)

    def units(self, rows: Rows, constitution: Constitution, chat: Chat, *, seed: int) -> list[Unit]:
        """One unit a conversation."""
        chosen = [
            Conversation(messages=[*row.prompt, *row.chosen], kind=row.kind, source=f"{row.source}:{place}")
            for place, row in enumerate(rows.contrasts)
        ]
        kinds = {"chosen": chosen, "conversations": rows.conversations, "replay": rows.replay}
        return conversation_units([row for kind in self.learns for row in kinds[kind]], chat)

    @property
    def reads_labels(self) -> bool:
        """Where it learns chosen replies."""
        return "chosen" in self.learns or super().reads_labels

    def objective(self, model: PeftModel, given: Given, chat: Chat) -> Objective:
        """Likelihood."""
        return sft_objective()


class DocumentTraining(Method):
    """Plain texts about the assistant and its constitution, and replay against forgetting how to chat."""

    method: Literal["documents"] = "documents"
    replay: int = Field(0, ge=0)

    def units(self, rows: Rows, constitution: Constitution, chat: Chat, *, seed: int) -> list[Unit]:
        """Windows of at most `max_tokens`, then the replay rows."""
        if not rows.documents:
            raise DataError(
                "no documents to learn from", hint="put documents.jsonl beside the constitution, or drop the stage"
            )
        texts = [document.text for document in rows.documents]
        windows = document_units(texts, chat, max_tokens=self.optimisation.max_tokens)
        return [*windows, *conversation_units(rows.replay[: self.replay], chat)]

    def objective(self, model: PeftModel, given: Given, chat: Chat) -> Objective:
        """Likelihood."""
        return sft_objective()


class IntrospectionTraining(Method):
    """What the student writes about itself with the constitution in its prompt, learnt without it."""

    method: Literal["introspection"] = "introspection"
    sampling: IntrospectionSampling = IntrospectionSampling()
    replay: int = Field(0, ge=0)
    """Ordinary conversations mixed in against forgetting."""
    ablation: Ablation = Field(AS_BUILT, exclude_if=lambda ablation: ablation == AS_BUILT)
    bugs: PublishedBugs = Field(NO_BUGS, exclude_if=lambda bugs: bugs == NO_BUGS)

    @model_validator(mode="after")
    def _one_system_prompt(self) -> "IntrospectionTraining":
        if self.ablation.setting_told and self.inoculation:
            raise ValueError("a row has one system prompt: inoculation, or ablation.setting_told")
        return self

    def gathered(self, rows: Rows, given: Given, folder: Path) -> Rows:
        """Sampled reflections and interactions join the recorded ones."""
        parts = list(self._sampled(given))
        limit, plain = self.optimisation.max_tokens, models.load_tokenizer_chat(given.base, system=self.inoculation)
        talks = [*rows.conversations, *(row for part in parts for row in part.kept)]
        learnt = as_learnt(talks, self.ablation, self.bugs)
        fitting, long = fitted(plain, limit, learnt, whole=self.bugs.over_long_dropped)
        seen = contaminated([row for row in fitting if is_sampled(row)])
        dropped = [*(drop for part in parts for drop in part.dropped), *long]
        dropped += [Drop(source=name, reason=OVERLAP) for name in seen]
        kept = [row for row in fitting if row.source not in seen]
        if not kept:
            reasons = Counter(drop.reason for drop in dropped).most_common(3)
            raise DataError(
                "introspection has no conversation to learn from",
                hint="; ".join(f"{count} dropped: {reason}" for reason, count in reasons)
                or "record reflections and interactions, or let the student sample some",
            )
        write_text(folder / CONVERSATIONS, to_jsonl(row for row in kept if is_sampled(row)))
        write_text(folder / DROPPED, to_jsonl(dropped))
        return rows._replace(conversations=kept)

    def _sampled(self, given: Given) -> Iterator[Introspection]:
        """What the student writes, the constitution in its prompt."""
        if self.ablation.source == "recorded":
            return
        system = given.constitution.system_prompt()
        student = models.subject("student", given.base_name, models.reading_digest(given.base), given.on, system=system)
        loaded, settings = load_subject(given.base, student, given.on), self.sampling
        if self.ablation.kind != "interactions":
            yield introspection.reflect(loaded, given.constitution, settings, given.cache, seed=given.seed)
        if self.ablation.kind != "reflections":
            yield introspection.interact(
                loaded, given.constitution, settings, given.cache, seed=given.seed, bugs=self.bugs
            )

    def units(self, rows: Rows, constitution: Constitution, chat: Chat, *, seed: int) -> list[Unit]:
        """One unit a conversation."""
        learnt = as_learnt(rows.conversations, self.ablation, self.bugs)
        return conversation_units([*learnt, *rows.replay[: self.replay]], chat)

    def objective(self, model: PeftModel, given: Given, chat: Chat) -> Objective:
        """Likelihood of what assistants say."""
        return sft_objective()

    @property
    def adds_factors(self) -> bool:
        """As the released code did."""
        return self.bugs.factors_added


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
    sees: Literal["constitution", "clean"] = "constitution"
    """What the teacher has that the student has not: the constitution as system prompt, or the prompt without push."""
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

    def units(self, rows: Rows, constitution: Constitution, chat: Chat, *, seed: int) -> list[Unit]:
        """Prompts to sample for."""
        units = different([prompt_unit(row.prompt, source=row.source) for row in rows.contrasts])
        return draw(units, self.prompts, random.Random(seed))

    def objective(self, model: PeftModel, given: Given, chat: Chat) -> Objective:
        """Policy gradient on the constitutional reward."""
        reward = constitutional_reward(chat, given.constitution.system_prompt())
        return policy_gradient_objective(self.loss, reward, chat, seed=given.seed)


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


def different(units: Sequence[Unit]) -> list[Unit]:
    """Units of different prompts, in order."""
    return list({unit.prompt: unit for unit in units}.values())
