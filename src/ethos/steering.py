"""Persona vectors: a direction in the residual stream, found by a difference of means, added while a model runs.

vector[l] = mean over reply tokens of h_l(replies in character) − mean of h_l(replies of the opposite)

h_l is the output of layer l. Adding α · vector[l] at inference steers towards the character; adding it *while training*
(preventative steering) spares the weights from moving along it. A random direction of the same length at the same
layer is the control: what it does too, the persona did not do.

After Chen et al. 2025, *Persona vectors* (arXiv:2507.21509). We take the means over recorded or sampled replies
of both poles, each under its own system prompt, and weigh every token equally.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ethos import scoring
from ethos.chat import Rendered
from ethos.errors import DataError
from ethos.records import Record, read_jsonl
from ethos.scoring import Model, Pack
from ethos.store import write_bytes, write_text

VECTOR, PLACE = "steering.safetensors", "steering.json"
"""A push on disk: its vector; its layer and strength."""


def persona_vectors(model: Model, positive: Sequence[Rendered], negative: Sequence[Rendered]) -> Tensor:
    """Difference of the two poles' mean activations over scored tokens, at every layer: (layers, D)."""
    if not positive or not negative:
        raise DataError("a persona vector needs replies of both poles")
    return mean_activations(model, positive) - mean_activations(model, negative)


@torch.no_grad()
def mean_activations(model: Model, sequences: Sequence[Rendered]) -> Tensor:
    """Mean output of every layer over all scored tokens: (layers, D), float32."""
    layers = decoder_layers(model)
    sums: list[Tensor | float] = [0.0] * len(layers)
    count = 0
    for packed in scoring.pack(sequences):
        # a token that several sequences share stands once in the trie and counts once for each of them
        weight_N = torch.zeros(len(packed.tokens_N))
        for where in packed.scored:
            weight_N.index_add_(0, packed.nodes_S[torch.from_numpy(where)], torch.ones(len(where)))
            count += len(where)

        _, states = activations(model, packed, range(len(layers)))
        for place, hidden_ND in enumerate(states):
            sums[place] = sums[place] + weight_N.to(hidden_ND.device) @ hidden_ND.float()
    return torch.stack([torch.as_tensor(total) for total in sums]) / count


@torch.no_grad()
def reply_means(model: Model, sequences: Sequence[Rendered], layer: int) -> Tensor:
    """Mean output of one layer over each sequence's own scored tokens: (sequences, D), float32."""
    found: dict[int, Tensor] = {}
    for packed in scoring.pack(sequences, [range(len(sequences))]):
        _, (states_ND,) = activations(model, packed, [layer])
        for index, where in zip(packed.sequences, packed.scored, strict=True):
            nodes = packed.nodes_S[torch.from_numpy(where)].to(states_ND.device)
            found[index] = states_ND[nodes].float().mean(0)
    return torch.stack([found[index] for index in range(len(sequences))])


def layers_at(model: Model, depths: Sequence[float] | None) -> tuple[int, ...]:
    """The layers at these shares of a model's depth, 0 the first and 1 the last; None takes all."""
    count = len(decoder_layers(model))
    return tuple(range(count)) if depths is None else tuple(round(depth * (count - 1)) for depth in depths)


def activations(model: Model, packed: Pack, layers: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """One pass: final hidden states (P, D) as scoring has them, and each layer's output (N, D) at every position."""
    with ExitStack() as hooks:
        seen = [hooks.enter_context(_watching(decoder_layers(model)[layer])) for layer in layers]
        hidden_PD = scoring.hidden_states(model, packed)
    return hidden_PD, [states_ND for (states_ND,) in seen]


def states_before(states: Sequence[Tensor], packed: Pack, where_T: Tensor) -> Tensor:
    """Of each layer's output (N, D), the states that lead to so many scored tokens: (L, T, D)."""
    parents_T = packed.parents_P[packed.head_S[where_T.cpu()]]
    return torch.stack([states_ND[parents_T.to(states_ND.device)] for states_ND in states])


class Push(NamedTuple):
    """What steering adds, and where: `strength · vector` at every position, to the output of `layer` (from 0)."""

    vector_D: Tensor
    layer: int
    strength: float


class Place(Record):
    """A push on disk, beside its vector."""

    layer: int
    strength: float


def save(push: Push, folder: Path) -> None:
    """Write a push to `folder`."""
    write_bytes(folder / VECTOR, to_bytes({"vector": push.vector_D.contiguous()}))
    write_text(folder / PLACE, Place(layer=push.layer, strength=push.strength).model_dump_json())


def load(folder: Path) -> Push:
    """The push that `folder` holds."""
    (place,) = read_jsonl(folder / PLACE, Place)
    return Push(load_file(folder / VECTOR)["vector"], place.layer, place.strength)


class Adding:
    """The forward hook of one push; it can be switched off for a while."""

    def __init__(self, push_D: Tensor) -> None:
        self.push_D = push_D
        self.on = True

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        """The layer's output with the push added."""
        if not self.on:
            return output
        return (output[0] + self.push_D, *output[1:]) if isinstance(output, tuple) else output + self.push_D


def steer(model: Model, push: Push) -> RemovableHandle:
    """Add the push to every forward pass from now on, until the handle is removed."""
    layers = decoder_layers(model)
    if not 0 <= push.layer < len(layers):
        raise DataError(f"layer {push.layer} of a model with layers 0 to {len(layers) - 1}")
    if push.vector_D.shape[-1] != model.config.hidden_size:
        raise DataError(f"a vector of {push.vector_D.shape[-1]} for a model of width {model.config.hidden_size}")
    push_D = (push.strength * push.vector_D).to(device=model.device, dtype=model.dtype)
    return layers[push.layer].register_forward_hook(Adding(push_D))


@contextmanager
def steered(model: Model, vector_D: Tensor, *, layer: int, strength: float) -> Iterator[None]:
    """Inside the `with`, `strength · vector` is added to the output of `layer` (from 0) at every position."""
    handle = steer(model, Push(vector_D, layer, strength))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def unsteered(model: Model) -> Iterator[None]:
    """The model without what steers it inside the `with`."""
    hooks = [hook for layer in decoder_layers(model) for hook in layer._forward_hooks.values()]
    adding = [hook for hook in hooks if isinstance(hook, Adding)]
    before = [hook.on for hook in adding]
    for hook in adding:
        hook.on = False
    try:
        yield
    finally:
        for hook, on in zip(adding, before, strict=True):
            hook.on = on


def random_direction(vector_D: Tensor, *, seed: int) -> Tensor:
    """A direction of the same length, drawn from the sphere: the control."""
    drawn = torch.randn(vector_D.shape, generator=torch.Generator().manual_seed(seed))
    return drawn * float(vector_D.float().norm() / drawn.norm())


def decoder_layers(model: Model) -> nn.ModuleList:
    """The blocks of a decoder, whatever adapter is around it."""
    layers = model.get_decoder().layers
    assert isinstance(layers, nn.ModuleList)
    return layers


@contextmanager
def _watching(layer: nn.Module) -> Iterator[list[Tensor]]:
    """The outputs of a layer inside the `with`, without their batch dimension."""
    seen: list[Tensor] = []

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        seen.append((output[0] if isinstance(output, tuple) else output)[0])

    handle = layer.register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()
