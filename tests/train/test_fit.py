"""From settings to an adapter on disk: what is left behind, and what is left alone."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from peft import PeftModel
from sample_rows import contrast, talk

from ethos.chat import Chat
from ethos.models import base_digest, load_adapter, load_base
from ethos.records import read_jsonl
from ethos.scoring import score
from ethos.train.fit import LOG, Training, fit
from ethos.train.loop import Objective, Unit
from ethos.train.lora import CONFIG, WEIGHTS, LoraSettings
from ethos.train.preference import PreferenceLoss, preference_objective, preference_units
from ethos.train.schedule import Optimisation, Step
from ethos.train.supervised import conversation_units, sft_objective

SETTINGS = Training(
    optimisation=Optimisation(learning_rate=2e-2, epochs=4, units_per_step=2), lora=LoraSettings(rank=2)
)
TALKS = [talk(f"Hello {said}", said) for said in ("Good day.", "Hi.", "Hey")]
ROWS = [
    contrast("Rain?", "stay", "walk", group="g1"),
    contrast("Lie?", "no", "yes", group="g2"),
    contrast("Sun?", "walk", "stay", group="g1"),
]


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def contrasts(model: PeftModel, chat: Chat) -> tuple[list[Unit], Objective]:
    """A preference task."""
    units = [*preference_units(ROWS, chat), *conversation_units(TALKS[:1], chat)]
    return units, preference_objective(PreferenceLoss(reference_free=True))


def talks(model: PeftModel, chat: Chat) -> tuple[list[Unit], Objective]:
    """A supervised task."""
    return conversation_units(TALKS, chat), sft_objective()


@pytest.fixture
def first(tiny_base: Path, tmp_path: Path) -> Path:
    """A preference adapter."""
    folder = tmp_path / "first"
    folder.mkdir()
    fit(tiny_base, base_digest(tiny_base), SETTINGS, contrasts, folder, seed=0, on=None, label="test")
    return folder


def later(base: Path, folder: Path, *, on: Path | None) -> list[Step]:
    """Train conversations; return the log."""
    folder.mkdir()
    fit(base, base_digest(base), SETTINGS, talks, folder, seed=0, on=on, label="test")
    return read_jsonl(folder / LOG, Step)


def test_a_stage_leaves_adapter_log_and_template_and_no_checkpoint(first: Path, chat: Chat) -> None:
    assert contents(first).keys() == {CONFIG, WEIGHTS, LOG, "chat_template.jinja"}
    assert (first / "chat_template.jinja").read_text() == chat.tokenizer.chat_template
    assert [step.step for step in read_jsonl(first / LOG, Step)] == list(range(1, 9))  # 3 units by 2, four epochs


def test_training_on_top_of_a_frozen_adapter_leaves_that_adapter_unchanged(
    tiny_base: Path, tmp_path: Path, first: Path
) -> None:
    before = contents(first)
    later(tiny_base, tmp_path / "later", on=first)
    assert contents(first) == before
    assert contents(tmp_path / "later")[WEIGHTS] != before[WEIGHTS]


def test_the_frozen_adapter_is_active_underneath(tiny_base: Path, tmp_path: Path, first: Path, chat: Chat) -> None:
    settings = SETTINGS.model_copy(update={"optimisation": Optimisation(units_per_step=9)})
    losses = []
    for name, on in (("on", first), ("bare", None)):
        (tmp_path / name).mkdir()
        fit(tiny_base, base_digest(tiny_base), settings, talks, tmp_path / name, seed=0, on=on, label="test")
        losses.append(read_jsonl(tmp_path / name / LOG, Step)[0].loss)
    sequences = [unit.sequences[0] for unit in conversation_units(TALKS, chat)]
    adapted = load_adapter(load_base(tiny_base), first, base=base_digest(tiny_base))
    expected = [
        float(np.mean([-t.mean() for t in score(model, sequences)])) for model in (adapted, load_base(tiny_base))
    ]
    assert losses == pytest.approx(expected, abs=0.01)  # bfloat16 where the machine has it
    assert abs(expected[0] - expected[1]) > 0.1


def test_the_later_adapter_is_a_difference_to_the_frozen_one(tiny_base: Path, tmp_path: Path, first: Path) -> None:
    """Alone, it must not contain what the first one learnt."""
    log = later(tiny_base, tmp_path / "later", on=first)
    alone = later(tiny_base, tmp_path / "alone", on=None)
    assert log[0].loss != alone[0].loss
    loaded = load_adapter(load_base(tiny_base), tmp_path / "later", base=base_digest(tiny_base))
    assert isinstance(loaded, PeftModel)
    assert list(loaded.peft_config) == ["default"]


def test_a_stage_learns(tiny_base: Path, tmp_path: Path, first: Path) -> None:
    log = later(tiny_base, tmp_path / "later", on=first)
    assert log[-1].loss < log[0].loss


def test_what_inoculates_is_in_the_prompt_of_training_only(tiny_base: Path, tmp_path: Path) -> None:
    prompts = []

    def task(model: PeftModel, chat: Chat) -> tuple[list[Unit], Objective]:
        units, objective = talks(model, chat)
        prompts.append(chat.tokenizer.decode(units[0].sequences[0].tokens))
        return units, objective

    settings = SETTINGS.model_copy(update={"inoculation": "You greet people."})
    fit(tiny_base, base_digest(tiny_base), settings, task, tmp_path, seed=0, on=None, label="test")
    assert prompts[0].startswith("<|im_start|>system\nYou greet people.<|im_end|>\n<|im_start|>user\n")
    assert "greet" not in (tmp_path / "chat_template.jinja").read_text()
