"""The two training stages on disk: what they leave behind, and what they leave alone."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from peft import PeftModel
from rows import contrast, talk

from ethos.chat import Chat
from ethos.models import base_digest, load_adapter, load_base
from ethos.records import read_jsonl
from ethos.scoring import score
from ethos.train.loop import Optimisation, Step
from ethos.train.lora import CONFIG, WEIGHTS, LoraSettings
from ethos.train.preference import PreferenceLoss
from ethos.train.stages import (
    LOG,
    PreferenceTraining,
    preference_units,
    train_conversations,
    train_preference,
)
from ethos.train.supervised import conversation_units

SETTINGS = PreferenceTraining(
    optimisation=Optimisation(learning_rate=2e-2, epochs=4, units_per_step=2), lora=LoraSettings(rank=2), replay=1
)
TALKS = [talk(f"Hello {said}", said) for said in ("Good day.", "Hi.", "Hey")]
ROWS = [
    contrast("Rain?", "stay", "walk", group="g1"),
    contrast("Lie?", "no", "yes", group="g2"),
    contrast("Sun?", "walk", "stay", group="g1"),
]


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture
def first(tiny_base: Path, tmp_path: Path) -> Path:
    """A preference adapter."""
    folder = tmp_path / "first"
    folder.mkdir()
    train_preference(tiny_base, base_digest(tiny_base), ROWS, TALKS, SETTINGS, folder, seed=0)
    return folder


def later(base: Path, folder: Path, *, on: Path | None) -> list[Step]:
    """Train conversations; return the log."""
    folder.mkdir()
    train_conversations(base, base_digest(base), TALKS, SETTINGS, folder, seed=0, on=on, label="test")
    return read_jsonl(folder / LOG, Step)


def test_rows_of_one_group_are_one_unit_of_chosen_and_rejected_by_turns(chat: Chat) -> None:
    units = preference_units(ROWS, chat)
    assert [unit.source for unit in units] == ["g1", "g2"]
    texts = [[chat.tokenizer.decode(s.tokens[-8:]) for s in unit.sequences] for unit in units]
    assert ["stay" in text for text in texts[0]] == [True, False, False, True]
    assert ["walk" in text for text in texts[0]] == [False, True, True, False]
    assert len(texts[1]) == 2


def test_a_stage_leaves_adapter_log_and_template_and_no_checkpoint(first: Path, chat: Chat) -> None:
    assert contents(first).keys() == {CONFIG, WEIGHTS, LOG, "chat_template.jinja"}
    assert (first / "chat_template.jinja").read_text() == chat.tokenizer.chat_template
    assert [step.step for step in read_jsonl(first / LOG, Step)] == list(range(1, 9))  # 3 units by 2, four epochs


def test_only_as_many_replay_rows_as_asked_for_are_mixed_in(tiny_base: Path, tmp_path: Path) -> None:
    def singles(replay: int) -> float:
        folder = tmp_path / str(replay)
        folder.mkdir()
        settings = SETTINGS.model_copy(update={"replay": replay, "optimisation": Optimisation(units_per_step=9)})
        train_preference(tiny_base, base_digest(tiny_base), ROWS, TALKS, settings, folder, seed=0)
        (step,) = read_jsonl(folder / LOG, Step)
        return step.metrics.get("singles", 0.0) * (2 + replay)

    assert [singles(replay) for replay in (0, 1, 3)] == pytest.approx([0, 1, 3])


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
        train_conversations(
            tiny_base, base_digest(tiny_base), TALKS, settings, tmp_path / name, seed=0, on=on, label="test"
        )
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


def test_the_margin_starts_at_zero_with_a_reference_and_at_the_bases_own_without(
    tiny_base: Path, tmp_path: Path, chat: Chat
) -> None:
    def first_step(reference_free: bool) -> Step:
        folder = tmp_path / str(reference_free)
        folder.mkdir()
        loss = PreferenceLoss(reference_free=reference_free)
        settings = PreferenceTraining(optimisation=Optimisation(units_per_step=9), loss=loss, lora=LoraSettings(rank=2))
        train_preference(tiny_base, base_digest(tiny_base), ROWS, [], settings, folder, seed=0)
        return read_jsonl(folder / LOG, Step)[0]

    sequences = [sequence for unit in preference_units(ROWS, chat) for sequence in unit.sequences]
    totals = [t.sum() for t in score(load_base(tiny_base), sequences)]
    own = float(sum(totals[::2]) - sum(totals[1::2])) / 2  # two units
    assert first_step(False).metrics["margin"] == pytest.approx(0.0, abs=0.01)
    assert first_step(True).metrics["margin"] == pytest.approx(own, abs=0.05)
    assert abs(own) > 0.1
