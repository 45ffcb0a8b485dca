"""Methods that learn from rows that are there before training: contrasts, replies, documents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from peft import PeftModel
from pydantic import Field

from ethos import models
from ethos.bench.contamination import contaminated
from ethos.chat import Chat
from ethos.constitution import Constitution
from ethos.data.files import DROPPED, PREFERENCES, Rows
from ethos.data.preferences import Contrasts
from ethos.data.rejections import STUDENT, Rejections, resampled
from ethos.errors import DataError
from ethos.methods.base import OVERLAP, Given, Method, Writing
from ethos.models import load_subject
from ethos.records import Conversation, Drop, to_jsonl
from ethos.store import write_text
from ethos.train.loop import Objective, Unit
from ethos.train.preference import PreferenceLoss, preference_objective, preference_units
from ethos.train.supervised import conversation_units, document_units, sft_objective


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

    def written(self, rows: Rows, units: Sequence[Unit]) -> Writing:
        """A rejected reply for each contrast, where they are sampled."""
        if self.rejections is None:
            return Writing()
        requests = len(self.contrasts.of(rows.contrasts))
        return Writing(requests, requests * self.rejections.max_tokens)

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
