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
from typing import Any

import torch
from torch import Tensor, nn

from ethos import scoring
from ethos.chat import Rendered
from ethos.errors import DataError
from ethos.scoring import Model


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

        with ExitStack() as hooks:
            seen = [hooks.enter_context(_watching(layer)) for layer in layers]
            scoring.hidden_states(model, packed)
        for place, (hidden_ND,) in enumerate(seen):
            sums[place] = sums[place] + weight_N.to(hidden_ND.device) @ hidden_ND.float()
    return torch.stack([torch.as_tensor(total) for total in sums]) / count


@contextmanager
def steered(model: Model, vector_D: Tensor, *, layer: int, strength: float) -> Iterator[None]:
    """Inside the `with`, `strength · vector` is added to the output of `layer` (from 0) at every position."""
    layers = decoder_layers(model)
    if not 0 <= layer < len(layers):
        raise DataError(f"layer {layer} of a model with layers 0 to {len(layers) - 1}")
    push_D = (strength * vector_D).to(device=model.device, dtype=model.dtype)

    def add(module: nn.Module, inputs: Any, output: Any) -> Any:
        return (output[0] + push_D, *output[1:]) if isinstance(output, tuple) else output + push_D

    handle = layers[layer].register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


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
