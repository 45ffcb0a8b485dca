"""A persona vector is the difference it says it is, and steering adds it, there and nowhere else."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from conftest import in_float32
from ethos.chat import Chat, Rendered
from ethos.errors import DataError
from ethos.records import user
from ethos.scoring import Model, score
from ethos.steering import decoder_layers, mean_activations, persona_vectors, random_direction, steered
from ethos.train.lora import LoraSettings, attach


def replies(chat: Chat, *texts: str) -> list[Rendered]:
    return [chat.reply([user("What do you do?")], text) for text in texts]


def by_hand(model: Model, sequences: list[Rendered]) -> Tensor:
    """Each sequence alone, through transformers' own hidden states."""
    chosen = []
    for sequence in sequences:
        out = model(torch.tensor([sequence.tokens]), output_hidden_states=True)
        normed = model.get_decoder().norm
        states = list(out.hidden_states[1:-1])
        assert_close(normed(by_last_layer(model, sequence)), out.hidden_states[-1][0])
        states.append(by_last_layer(model, sequence)[None])
        chosen.append(torch.stack([state[0][torch.tensor(sequence.mask)] for state in states], dim=1))
    return torch.cat(chosen).mean(0)


def by_last_layer(model: Model, sequence: Rendered) -> Tensor:
    """Output of the last layer, before the final norm (which transformers' list has after it)."""
    seen: list[Tensor] = []
    handle = decoder_layers(model)[-1].register_forward_hook(
        lambda module, inputs, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    model(torch.tensor([sequence.tokens]))
    handle.remove()
    return seen[0][0]


@torch.no_grad()
def test_mean_activations_equal_those_of_each_sequence_alone(tiny_base: Path, chat: Chat) -> None:
    model = in_float32(tiny_base)
    some = replies(chat, "I ask first.", "I ask later, if at all.", "I ask first.")  # shared tokens count each time
    assert_close(mean_activations(model, some), by_hand(model, some), atol=1e-5, rtol=1e-4)


def test_the_vector_points_from_one_pole_to_the_other(tiny_base: Path, chat: Chat) -> None:
    model = in_float32(tiny_base)
    one, other = replies(chat, "I ask first."), replies(chat, "I just grab it.")
    assert_close(persona_vectors(model, one, other), -persona_vectors(model, other, one))
    assert_close(persona_vectors(model, one, one), torch.zeros(2, 32))


def test_a_pole_without_replies_is_refused(tiny_base: Path, chat: Chat) -> None:
    with pytest.raises(DataError, match="both poles"):
        persona_vectors(in_float32(tiny_base), replies(chat, "I ask."), [])


@torch.no_grad()
@pytest.mark.parametrize("adapted", [False, True])
def test_steering_adds_the_vector_after_its_layer_and_is_gone_afterwards(
    tiny_base: Path, chat: Chat, adapted: bool
) -> None:
    bare = in_float32(tiny_base)
    model = attach(bare, "default", LoraSettings(rank=2), seed=0) if adapted else bare
    (sequence,) = replies(chat, "I ask first.")
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    before = mean_activations(model, [sequence])
    text = score(model, [sequence])[0]
    with steered(model, vector, layer=0, strength=2.0):
        moved = mean_activations(model, [sequence])
        assert abs(score(model, [sequence])[0] - text).max() > 1e-3
    assert_close(moved[0] - before[0], 2.0 * vector, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(moved[1] - before[1], 2.0 * vector, atol=1e-3)  # the next layer answers in its own way
    assert (score(model, [sequence])[0] == text).all()


def test_steering_is_removed_when_the_work_inside_fails(tiny_base: Path) -> None:
    model = in_float32(tiny_base)
    with pytest.raises(KeyError), steered(model, torch.ones(32), layer=1, strength=1.0):
        raise KeyError
    assert not decoder_layers(model)[1]._forward_hooks


def test_a_layer_that_is_not_there_is_named(tiny_base: Path) -> None:
    with (
        pytest.raises(DataError, match="layer 2 of a model with layers 0 to 1"),
        steered(in_float32(tiny_base), torch.ones(32), layer=2, strength=1.0),
    ):
        pass


def test_weights_can_be_trained_under_steering(tiny_base: Path, chat: Chat) -> None:
    """Preventative steering: gradients flow past the added vector."""
    model = attach(in_float32(tiny_base), "default", LoraSettings(rank=2), seed=0)
    tokens = torch.tensor([replies(chat, "I ask.")[0].tokens])
    with steered(model, torch.ones(32), layer=1, strength=1.0):
        model(tokens).logits.logsumexp(-1).sum().backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in model.parameters())


def test_the_control_has_the_same_length_and_another_direction() -> None:
    vector = torch.tensor([3.0, 0.0, 4.0, 0.0] * 16)
    control = random_direction(vector, seed=1)
    assert_close(control.norm(), vector.norm())
    assert abs(torch.cosine_similarity(control, vector, dim=0)) < 0.5
    assert torch.equal(control, random_direction(vector, seed=1))
    assert not torch.equal(control, random_direction(vector, seed=2))
