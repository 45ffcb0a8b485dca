"""A stage, learnt: its settings and what it starts from enter, an adapter or a steering vector on disk leaves."""

from functools import partial
from pathlib import Path

from peft import PeftModel

from ethos import models, steering
from ethos.chat import Chat
from ethos.data.files import Rows, read_rows
from ethos.gap import check_gap
from ethos.methods import Given, Method, Stage, Steering
from ethos.models import load_subject
from ethos.persona import persona_push
from ethos.train import ranks
from ethos.train.fit import fit
from ethos.train.loop import Objective, Unit, reached, with_reference


def learn(stage: Stage, given: Given, folder: Path, *, label: str) -> None:
    """Make what one stage adds, and write it to `folder`: an adapter, or a steering vector."""
    if isinstance(stage, Steering):
        find_direction(stage, given, folder)
    else:
        train_adapter(stage, given, folder, label=label)


def find_direction(stage: Steering, given: Given, folder: Path) -> None:
    """Find the vector on the model as the stages before left it."""
    unsteered = models.subject("unsteered", given.base_name, models.reading_digest(given.base), given.on)
    loaded = load_subject(given.base, unsteered, given.on)
    with models.enough_memory("choose a smaller model, or a machine with more memory"):
        push = persona_push(loaded.model, loaded.chat, read_rows(given.data).contrasts, stage, seed=given.seed)
    steering.save(push, folder)


def train_adapter(stage: Method, given: Given, folder: Path, *, label: str) -> None:
    """Train one stage's adapter, on all ranks, where its teacher has something to teach."""
    check_gap(stage, given, folder, label=label)
    with models.enough_memory("lower sampling.max_tokens or sampling.turns"):
        rows = stage.gathered(read_rows(given.data), given, folder)
    ranks.everywhere(partial(train_on, rows, stage, given, folder, label=label))


def train_on(rows: Rows, stage: Method, given: Given, folder: Path, *, label: str) -> None:
    """This rank's part in training a stage on these rows."""

    def task(model: PeftModel, chat: Chat) -> tuple[list[Unit], Objective]:
        if stage.prevent:  # the model is this training's own, and goes with it
            push = persona_push(model, chat, rows.contrasts, stage.prevent, seed=given.seed, away=True)
            steering.steer(model, push)
        units = stage.units(rows, given.constitution, chat, seed=given.seed)
        if stage.needs_reference:
            refer(model, units, stage, given, label=label)
        return units, stage.objective(model, given, chat)

    fit(given.base, given.base_name, stage, task, folder, seed=given.seed, on=given.on, label=f"{label} training")


def refer(model: PeftModel, units: list[Unit], stage: Method, given: Given, *, label: str) -> None:
    """Give the units that training will reach their reference, which stages of other runs share by way of the store.

    A model that is steered as it trains is nobody else's; ranks score side by side and keep nothing.
    """
    taken = reached(units, stage.optimisation, seed=given.seed)
    shared = None if stage.prevent or ranks.count() > 1 else given.scores
    before = models.subject("reference", given.base_name, models.reading_digest(given.base), given.on)
    with (
        models.kept_scores(shared, before) as cache,
        models.enough_memory(f"lower optimisation.max_tokens (now {stage.optimisation.max_tokens})"),
    ):
        referred = with_reference(model, [units[i] for i in taken], cache=cache, label=f"{label} reference")
    for place, unit in zip(taken, referred, strict=True):
        units[place] = unit
