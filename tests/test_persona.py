"""Steering as a stage and as a vaccine: by hand on a model whose layers do nothing, then on one that answers."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.testing import assert_close
from transformers import PreTrainedModel

from conftest import in_float32
from ethos import steering
from ethos.chat import Chat
from ethos.data.preferences import Contrasts
from ethos.errors import DataError
from ethos.persona import Persona, persona_push, poles
from ethos.records import Preference, assistant, user


def pole(right: str, wrong: str, kind: str = "pole") -> Preference:
    return Preference(
        prompt=[user("May I?")],
        chosen=[assistant(right)],
        rejected=[assistant(wrong)],
        group=right,
        kind=kind,
        source=right,
    )


ROWS = [pole("ask", "grab"), pole("wait", "push"), pole("nice", "plain", "voice"), pole("stay", "walk", "crossed")]


def passing_on(base: Path) -> PreTrainedModel:
    """A model whose every layer hands on what it got: a token's activations are its embedding, at any depth."""
    model = in_float32(base)
    with torch.no_grad():
        for layer in steering.decoder_layers(model):
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return model


def mean_embedding(model: PreTrainedModel, chat: Chat, *texts: str) -> Tensor:
    """Over the tokens of replies, their end-of-turn token included."""
    tokens = [token for text in texts for token in (*chat.tokenizer.encode(text), chat.tokenizer.eos_token_id)]
    return model.get_input_embeddings().weight[torch.tensor(tokens)].mean(0)


@torch.no_grad()
@pytest.mark.parametrize(("depth", "layer"), [(0.0, 0), (0.4, 0), (0.6, 1), (1.0, 1)])
def test_the_vector_is_the_difference_of_the_poles_by_hand(
    tiny_base: Path, chat: Chat, depth: float, layer: int
) -> None:
    model = passing_on(tiny_base)
    push = persona_push(model, chat, ROWS, Persona(depth=depth, strength=2.0), seed=0)
    expected = mean_embedding(model, chat, "ask", "wait") - mean_embedding(model, chat, "grab", "push")
    assert_close(push.vector_D, expected)
    assert (push.layer, push.strength) == (layer, 2.0)
    away = persona_push(model, chat, ROWS, Persona(depth=depth), seed=0, away=True)
    assert_close(away.vector_D, -expected)


@torch.no_grad()
def test_what_steering_does_to_the_logits_by_hand(tiny_base: Path, chat: Chat) -> None:
    model = passing_on(tiny_base)
    push = persona_push(model, chat, ROWS, Persona(strength=3.0), seed=0)
    tokens = torch.arange(50)[None]
    embedded = model.get_input_embeddings()(tokens)
    expected = model.get_output_embeddings()(model.get_decoder().norm(embedded + 3.0 * push.vector_D))
    before = model(tokens).logits
    handle = steering.steer(model, push)
    assert_close(model(tokens).logits, expected)
    assert (expected - before).abs().max() > 1e-3
    with steering.unsteered(model):
        assert torch.equal(model(tokens).logits, before)
    assert_close(model(tokens).logits, expected)
    handle.remove()
    assert torch.equal(model(tokens).logits, before)


def test_the_contrasts_of_the_stage_are_taken(chat: Chat) -> None:
    def chosen(**limits: int | None) -> list[str]:
        found = poles(chat, ROWS, Persona(contrasts=Contrasts(**limits)))[0]
        return [chat.tokenizer.decode(row.tokens).split()[-1].removesuffix("<|im_end|>") for row in found]

    assert chosen(crossed=0, voice=0) == ["ask", "wait"]
    assert chosen(crossed=0, poles=1) == ["ask", "nice"]
    with pytest.raises(DataError, match=r"no contrast to find a persona vector on\nhint: raise mixture\.poles"):
        chosen(crossed=0, poles=0, voice=0)


@torch.no_grad()
def test_the_control_is_as_long_at_the_same_layer_and_points_elsewhere(tiny_base: Path, chat: Chat) -> None:
    model = in_float32(tiny_base)
    push, control, again, other = (
        persona_push(model, chat, ROWS, Persona(direction=direction), seed=seed)
        for direction, seed in (("persona", 0), ("random", 0), ("random", 0), ("random", 1))
    )
    assert_close(control.vector_D.norm(), push.vector_D.norm())
    assert (control.layer, control.strength) == (push.layer, push.strength)
    assert abs(torch.cosine_similarity(control.vector_D, push.vector_D, dim=0)) < 0.6
    assert torch.equal(control.vector_D, again.vector_D)
    assert not torch.equal(control.vector_D, other.vector_D)


def test_a_push_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    push = steering.Push(torch.tensor([1.0, -2.0, 3.5]), 4, 0.5)
    steering.save(push, tmp_path)
    vector_D, layer, strength = steering.load(tmp_path)
    assert torch.equal(vector_D, push.vector_D)
    assert (layer, strength) == (4, 0.5)
    first = [(tmp_path / name).read_bytes() for name in (steering.VECTOR, steering.PLACE)]
    steering.save(push, tmp_path)
    assert [(tmp_path / name).read_bytes() for name in (steering.VECTOR, steering.PLACE)] == first


def test_a_vector_of_another_model_is_refused(tiny_base: Path) -> None:
    with pytest.raises(DataError, match="a vector of 3 for a model of width 32"):
        steering.steer(in_float32(tiny_base), steering.Push(torch.ones(3), 0, 1.0))


@pytest.mark.parametrize("settings", [{"depth": 1.1}, {"strength": 0.0}, {"direction": "up"}])
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Persona.model_validate(settings)
