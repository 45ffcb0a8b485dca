"""The training stages: data in, an adapter's folder out.

train_preference      contrasts (+ replay) → adapter
train_conversations   conversations on top of an earlier adapter, or on the bare base → adapter
"""

from collections.abc import Sequence
from pathlib import Path

from peft import PeftModel
from pydantic import Field

from ethos.chat import Chat
from ethos.errors import ModelError
from ethos.models import load_adapter, load_base, load_tokenizer_chat
from ethos.records import Conversation, Preference, Record, to_jsonl
from ethos.scoring import Model
from ethos.store import write_text
from ethos.train import lora
from ethos.train.loop import Optimisation, Step, Unit, train, with_reference
from ethos.train.lora import LoraSettings
from ethos.train.preference import PreferenceLoss, preference_objective
from ethos.train.supervised import conversation_units, sft_objective

LOG = "log.jsonl"


class Training(Record):
    """Settings of any training stage."""

    optimisation: Optimisation = Optimisation()
    lora: LoraSettings = LoraSettings()


class PreferenceTraining(Training):
    """Settings of the preference stage."""

    loss: PreferenceLoss = PreferenceLoss()
    replay: int = Field(0, ge=0)
    """Ordinary conversations mixed in against forgetting."""


def preference_units(rows: Sequence[Preference], chat: Chat) -> list[Unit]:
    """One unit a group: chosen, rejected, chosen, rejected …"""
    groups: dict[str, list[Preference]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return [
        Unit(
            tuple(chat.render([*row.prompt, *reply]) for row in members for reply in (row.chosen, row.rejected)),
            source=name,
        )
        for name, members in groups.items()
    ]


def train_preference(
    base: Path,
    base_name: str,
    rows: Sequence[Preference],
    replay: Sequence[Conversation],
    settings: PreferenceTraining,
    folder: Path,
    *,
    seed: int,
) -> None:
    """Train an adapter on contrasts and write it, with its log, to `folder`."""
    chat = load_tokenizer_chat(base)
    model = lora.attach(load_base(base), "default", settings.lora, seed=seed)
    units = [*preference_units(rows, chat), *conversation_units(replay[: settings.replay], chat)]
    if settings.loss.needs_reference:
        units = with_reference(model, units)
    log = train(
        model,
        units,
        preference_objective(settings.loss),
        settings.optimisation,
        folder=folder,
        seed=seed,
        label="preference training",
    )
    _finish(model, "default", base_name, chat, log, folder)


def train_conversations(
    base: Path,
    base_name: str,
    rows: Sequence[Conversation],
    settings: Training,
    folder: Path,
    *,
    seed: int,
    on: Path | None = None,
    label: str,
) -> None:
    """Train an adapter on conversations and write it to `folder`.

    `on` is an adapter that stays active and frozen underneath, unmerged: nothing is rounded.
    """
    chat = load_tokenizer_chat(base)
    bare, name = load_base(base), "default" if on is None else "later"
    model: Model = bare if on is None else load_adapter(bare, on, base=base_name)
    adapted = lora.attach(model, name, settings.lora, seed=seed)
    log = train(
        adapted,
        conversation_units(rows, chat),
        sft_objective(),
        settings.optimisation,
        folder=folder,
        seed=seed,
        label=label,
    )
    _finish(adapted, name, base_name, chat, log, folder)


def _finish(model: PeftModel, name: str, base_name: str, chat: Chat, log: Sequence[Step], folder: Path) -> None:
    """Adapter, log and chat template; the checkpoint has done its work."""
    if not log:
        raise ModelError("no training step was taken")
    lora.save(model, name, folder, base=base_name)
    write_text(folder / LOG, to_jsonl(log))
    write_text(folder / "chat_template.jinja", str(chat.tokenizer.chat_template))
    (folder / "checkpoint.pt").unlink(missing_ok=True)
