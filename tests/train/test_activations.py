"""The states compared are the ones named, their distance is the one written down, and a student learns from it."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from torch import Tensor
from torch.testing import assert_close

from conftest import in_float32
from ethos import scoring, steering
from ethos.chat import Chat, Rendered
from ethos.records import user
from ethos.train.activations import (
    activation_objective,
    clean_states,
    matched,
    shared_ending,
    squared_distance,
)
from ethos.train.distillation import Distillation
from ethos.train.loop import Scored, Unit, train
from ethos.train.lora import LoraSettings, attach, before_training, trainable
from ethos.train.onpolicy import Sampling, continued, prompt_unit, with_replies
from ethos.train.schedule import Optimisation

FEW = Sampling(max_tokens=6)
PUSHED, CLEAN = [user("Rain? Say walk.")], [user("Rain?")]


def student(base: Path) -> PeftModel:
    return attach(in_float32(base, loudness=20), "default", LoraSettings(rank=4), seed=0)


def asked(count: int = 4) -> list[Unit]:
    return [
        prompt_unit([user(f"Day {n}? Just say no.")], source=f"day {n}", teacher_prompt=[user(f"Day {n}?")])
        for n in range(count)
    ]


def test_the_shared_ending_is_header_and_reply_without_its_first_token(chat: Chat) -> None:
    reply = tuple(chat.tokenizer.encode("stay"))
    one, other = shared_ending(continued(chat, PUSHED, reply), continued(chat, CLEAN, reply))
    for each in (one, other):
        learnt = [token for token, on in zip(each.tokens, each.mask, strict=True) if on]
        assert chat.tokenizer.decode(learnt) == "\n<|im_start|>assistant\nstay"  # led to by the turn's end and the rest
        assert each.mask == (*[False] * (len(each.tokens) - len(learnt)), *[True] * len(learnt))


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [
        ((1, 2, 3, 4), (9, 3, 4), 1),
        ((1, 2, 3, 4), (2, 3, 4), 2),  # a clean prompt that the pushed one ends with: its first token has no context
        ((1, 2, 3), (1, 2, 3), 2),
    ],
)
def test_every_compared_state_belongs_to_a_shared_token(
    one: tuple[int, ...], other: tuple[int, ...], count: int
) -> None:
    unscored = [Rendered(tokens, (False,) * len(tokens)) for tokens in (one, other)]
    for each in shared_ending(*unscored):
        assert each.mask == (*[False] * (len(each.tokens) - count), *[True] * count)


def test_the_distance_by_hand() -> None:
    own = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 0.0], [1.0, 1.0]]])  # (L, T, D) = (2, 2, 2)
    clean = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[0.0, 4.0], [1.0, 0.0]]])
    assert_close(squared_distance(own, clean), torch.tensor((5.0 + 0.0 + 25.0 + 1.0) / 4))


@torch.no_grad()
def by_hand(model: PeftModel, tokens: tuple[int, ...], start: int, layers: tuple[int, ...]) -> Tensor:
    """Outputs of the layers for one sequence alone, from `start` to the last but one position."""
    seen: dict[int, Tensor] = {}
    handles = [
        steering.decoder_layers(model)[layer].register_forward_hook(
            lambda module, inputs, output, layer=layer: seen.update(
                {layer: output[0] if isinstance(output, tuple) else output}
            )
        )
        for layer in layers
    ]
    model(torch.tensor([tokens]))
    for handle in handles:
        handle.remove()
    return torch.stack([seen[layer][0, start:-1] for layer in layers])


@torch.no_grad()
@pytest.mark.parametrize("layers", [(0, 1), (1,)])
def test_the_loss_is_the_distance_of_each_sequence_read_alone(
    tiny_base: Path, chat: Chat, layers: tuple[int, ...]
) -> None:
    model = student(tiny_base)
    for name, weight in trainable(model).items():
        weight.normal_(std=0.3, generator=torch.Generator().manual_seed(len(name)))
    units = [matched(unit) for unit in with_replies(model, chat, asked(2), FEW, seed=0, step=0)]
    expected, scored = [], []
    for unit in units:
        (pushed,), (clean,) = unit.sequences, unit.teacher
        own = by_hand(model, pushed.tokens, pushed.mask.index(True) - 1, layers)
        with before_training(model):
            theirs = by_hand(model, clean.tokens, clean.mask.index(True) - 1, layers)
        expected.append((own - theirs).square().sum(-1).mean())
        (packed,) = scoring.pack([pushed])
        _, states = steering.activations(model, packed, layers)
        seen = steering.states_before(states, packed, torch.from_numpy(packed.scored[0]))
        assert_close(seen, own, atol=1e-5, rtol=1e-4)
        scored.append(Scored(unit, (), (), (seen,)))
    depths = tuple(float(layer) for layer in layers)  # of two layers, 0 is the first and 1 the last
    objective = activation_objective(model, chat, FEW, depths, seed=0)
    assert objective.layers == layers
    total, metrics = objective.loss(scored)
    assert_close(total, torch.stack(expected).sum(), atol=1e-5, rtol=1e-4)
    assert metrics["distance"] == pytest.approx(float(total))


def distance(model: PeftModel, chat: Chat) -> float:
    """On a fixed reply to a prompt that was not trained on."""
    reply = tuple(chat.tokenizer.encode("no"))
    one, other = shared_ending(
        continued(chat, [user("Day 9? Just say no.")], reply), continued(chat, [user("Day 9?")], reply)
    )
    layers = steering.layers_at(model, None)
    (own,) = clean_states(model, [one], layers)
    with before_training(model):
        (clean,) = clean_states(model, [other], layers)
    return float(squared_distance(own, clean))


@pytest.mark.parametrize("depths", [None, (1.0,)], ids=["all layers", "the last"])
def test_a_student_comes_to_be_where_it_is_without_the_push(
    tiny_base: Path, chat: Chat, tmp_path: Path, depths: tuple[float, ...] | None
) -> None:
    model = student(tiny_base)
    before = distance(model, chat)
    settings = Optimisation(learning_rate=1e-2, epochs=12, units_per_step=2, max_tokens=400)
    objective = activation_objective(model, chat, FEW, depths, seed=0)
    log = train(model, asked(), objective, settings, folder=tmp_path, seed=0, label="test")
    assert log[-1].loss < 0.5 * log[0].loss
    assert distance(model, chat) < 0.7 * before


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"form": "activations", "beta": 0.1}, "beta and top_k belong to jsd, not to activations"),
        ({"form": "jsd", "depths": (0.5,)}, "depths belong to activations, not to jsd"),
        ({"form": "activations", "depths": ()}, "depths"),
        ({"form": "activations", "depths": (1.5,)}, "depths"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Distillation.model_validate(settings)


def test_depths_that_are_not_given_enter_no_key() -> None:
    assert "depths" not in Distillation().model_dump_json()
