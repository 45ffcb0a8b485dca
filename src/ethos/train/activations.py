"""Activation consistency: under a pushed prompt the model is to be in the state that the clean prompt leaves it in.

loss = mean over layers l and positions t of ‖h_lt(pushed) − h⁰_lt(clean)‖²

h_lt is the output of layer l at position t, h⁰ that of the model before training, without gradient. Positions are those
of the longest ending that the two sequences share: whatever the user's last words have in common, the end of the
user's turn, the assistant's header, and the reply, which the student samples under the push and the frozen model
reads after the clean prompt. The last position is left out: no token that is read depends on its state.

Irpan et al. 2025, *Consistency Training Helps Stop Sycophancy and Jailbreaks* (arXiv:2510.27062), who match the
prompt's tokens alone, at all layers; the reply's are ours, since a reply is where a push shows.

Shape suffixes: L = layers, T = positions, D = hidden.
"""

from collections.abc import Sequence
from itertools import takewhile

import torch
from peft import PeftModel
from torch import Tensor

from ethos import scoring, steering
from ethos.chat import Chat, Rendered
from ethos.train.loop import Objective, Scored, Unit
from ethos.train.lora import before_training
from ethos.train.onpolicy import Sampling, with_replies


def activation_objective(
    model: PeftModel, chat: Chat, sampling: Sampling, depths: tuple[float, ...] | None, *, seed: int
) -> Objective:
    """Draw the student's states under the push to those of the frozen model without it."""
    layers = steering.layers_at(model, depths)

    def prepare(model: PeftModel, units: Sequence[Unit], step: int) -> list[Unit]:
        return [matched(unit) for unit in with_replies(model, chat, units, sampling, seed=seed, step=step)]

    def loss(units: Sequence[Scored]) -> tuple[Tensor, dict[str, float]]:
        with before_training(model):
            targets = iter(clean_states(model, [row for unit in units for row in unit.unit.teacher], layers))
        terms = [
            torch.stack([squared_distance(own_LTD, next(targets)) for own_LTD in unit.activations]).mean()
            for unit in units
        ]
        total = torch.stack(terms).sum()
        return total, {"distance": total.item()}

    return Objective(loss, prepare, layers=layers)


def matched(unit: Unit) -> Unit:
    """The unit with each of its sequences, pushed and clean, scored on their shared ending."""
    pairs = [shared_ending(own, clean) for own, clean in zip(unit.sequences, unit.teacher, strict=True)]
    return unit._replace(sequences=tuple(own for own, _ in pairs), teacher=tuple(clean for _, clean in pairs))


def shared_ending(one: Rendered, other: Rendered) -> tuple[Rendered, Rendered]:
    """Both with a mask on their longest common ending but its first token: the states that lead to it are compared."""
    both = zip(reversed(one.tokens), reversed(other.tokens), strict=False)
    count = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both)) - 1
    masked = [Rendered(each.tokens, (*[False] * (len(each.tokens) - count), *[True] * count)) for each in (one, other)]
    return masked[0], masked[1]


@torch.no_grad()
def clean_states(model: PeftModel, sequences: Sequence[Rendered], layers: Sequence[int]) -> list[Tensor]:
    """Outputs (L, T, D) of the layers at the positions that lead to each sequence's scored tokens, in order."""
    found: dict[int, Tensor] = {}
    for packed in scoring.pack(sequences):
        _, states = steering.activations(model, packed, layers)
        for index, where in zip(packed.sequences, packed.scored, strict=True):
            found[index] = steering.states_before(states, packed, torch.from_numpy(where))
    return [found[i] for i in range(len(sequences))]


def squared_distance(own_LTD: Tensor, clean_LTD: Tensor) -> Tensor:
    """‖own − clean‖², averaged over layers and positions: ()."""
    return (own_LTD.float() - clean_LTD.float()).square().sum(-1).mean()
