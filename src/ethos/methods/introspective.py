"""The method that learns from what the student writes of itself."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from peft import PeftModel
from pydantic import Field, model_validator

from ethos import models
from ethos.bench.contamination import contaminated
from ethos.chat import Chat
from ethos.constitution import Constitution
from ethos.data import introspection
from ethos.data.ablation import AS_BUILT, NO_BUGS, Ablation, PublishedBugs, as_learnt, is_sampled
from ethos.data.files import CONVERSATIONS, DROPPED, Rows
from ethos.data.filters import fitted
from ethos.data.introspection import Introspection, IntrospectionSampling
from ethos.errors import DataError
from ethos.methods.base import OVERLAP, Given, Method, Sees, Writing
from ethos.models import load_subject
from ethos.records import Drop, to_jsonl
from ethos.store import write_text
from ethos.train.loop import Objective, Unit
from ethos.train.supervised import conversation_units, sft_objective


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

    def written(self, rows: Rows, units: Sequence[Unit]) -> Writing:
        """Reflections, and every turn of the interactions but the first, which is given."""
        if self.ablation.source == "recorded":
            return Writing()
        reflections = self.sampling.reflections if self.ablation.kind != "interactions" else 0
        turns = self.sampling.interactions * (self.sampling.turns - 1) if self.ablation.kind != "reflections" else 0
        return Writing(reflections + turns, (reflections + turns) * self.sampling.max_tokens)

    def units(self, rows: Rows, constitution: Constitution, chat: Chat, *, seed: int) -> list[Unit]:
        """One unit a conversation."""
        learnt = as_learnt(rows.conversations, self.ablation, self.bugs)
        return conversation_units([*learnt, *rows.replay[: self.replay]], chat)

    def objective(self, model: PeftModel, given: Given, chat: Chat) -> Objective:
        """Likelihood of what assistants say."""
        return sft_objective()

    @property
    def teacher_sees(self) -> Sees | None:
        """The constitution, where nothing is learnt but what the student itself writes with it in sight."""
        return "constitution" if self.ablation.source == "sampled" else None

    @property
    def adds_factors(self) -> bool:
        """As the released code did."""
        return self.bugs.factors_added
