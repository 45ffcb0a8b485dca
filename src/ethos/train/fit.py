"""From settings to an adapter on disk: what every training method shares.

An adapter is trained on the bare base, or on top of an earlier adapter that stays active and frozen
underneath, unmerged: nothing is rounded.
"""

from collections.abc import Callable
from pathlib import Path

from peft import PeftModel
from pydantic import Field

from ethos.chat import Chat
from ethos.errors import ModelError
from ethos.models import load_adapter, load_base, load_tokenizer_chat
from ethos.records import Record, to_jsonl
from ethos.scoring import Model
from ethos.store import write_text
from ethos.train import lora, ranks
from ethos.train.loop import Objective, Unit, train
from ethos.train.lora import LoraSettings
from ethos.train.schedule import Optimisation

LOG = "log.jsonl"

Task = Callable[[PeftModel, Chat], tuple[list[Unit], Objective]]
"""(model before its first step, its chat) → what to learn from, and what to minimise."""


class Training(Record):
    """Settings of any training."""

    optimisation: Optimisation = Optimisation()
    lora: LoraSettings = LoraSettings()
    inoculation: str | None = Field(None, min_length=1)
    """A system prompt that is there in training and gone afterwards: what it asks for is put down to it and not
    learnt as the model's own (inoculation prompting: Tan et al. 2025, arXiv:2510.04340)."""


def fit(
    base: Path, base_name: str, training: Training, task: Task, folder: Path, *, seed: int, on: Path | None, label: str
) -> None:
    """Train an adapter and write it, with its log and chat template, to `folder`. Resumes from a checkpoint there."""
    chat = load_tokenizer_chat(base, system=training.inoculation)
    settings, name = training.optimisation, "default" if on is None else "later"
    bare = load_base(base, placed=not settings.shard)
    under: Model = bare if on is None else load_adapter(bare, on, base=base_name)
    model = lora.attach(under, name, training.lora, seed=seed)
    if settings.shard:
        ranks.shard(model)
    units, objective = task(model, chat)
    log = train(model, units, objective, settings, folder=folder, seed=seed, label=label)
    if not log:
        raise ModelError("no training step was taken")
    if not ranks.leads():
        return
    lora.save(model, name, folder, base=base_name)
    write_text(folder / LOG, to_jsonl(log))
    write_text(folder / "chat_template.jinja", str(chat.tokenizer.chat_template))
    (folder / "checkpoint.pt").unlink(missing_ok=True)
