"""Persona vectors of a run: the direction between the poles of its contrasts, as an end in itself or as a vaccine.

    [[stages]] method = "steering"    added to the finished model, whoever asks it: the run's only stage, or its last
    [stages.prevent]                  its opposite, added while a stage trains and gone afterwards

Under the opposite push the weights need not move against the character to fit the data (preventative steering), and
what they learn is learnt in spite of it. Both after Chen et al. 2025 (arXiv:2507.21509); see steering.py.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from ethos.chat import Chat, Rendered
from ethos.data.preferences import Contrasts
from ethos.errors import DataError
from ethos.records import Preference, Record
from ethos.scoring import Model
from ethos.steering import Push, layers_at, persona_vectors, random_direction


class Persona(Record):
    """Which direction, where, and how strongly."""

    contrasts: Contrasts = Contrasts(crossed=0, voice=0)
    """The contrasts whose replies it is found on. In crossed ones most of it cancels: both replies are chosen once."""
    depth: float = Field(0.5, ge=0, le=1)
    """The layer after which it is added: 0 the first, 1 the last."""
    strength: float = Field(1.0, gt=0)
    """1 adds the whole difference between the poles' mean activations."""
    direction: Literal["persona", "random"] = "persona"
    """`random` is the control: another direction of the same length at the same layer."""


def poles(chat: Chat, contrasts: Sequence[Preference], settings: Persona) -> tuple[list[Rendered], list[Rendered]]:
    """Chosen and rejected replies, each after its prompt."""
    rows = settings.contrasts.of(contrasts)
    if not rows:
        raise DataError(
            "no contrast to find a persona vector on", hint="raise mixture.poles, or take other contrasts in the stage"
        )
    chosen = [chat.render([*row.prompt, *row.chosen]) for row in rows]
    return chosen, [chat.render([*row.prompt, *row.rejected]) for row in rows]


def persona_push(
    model: Model, chat: Chat, contrasts: Sequence[Preference], settings: Persona, *, seed: int, away: bool = False
) -> Push:
    """The push from rejected towards chosen replies, or `away` from them, with the model as it now is."""
    vectors = persona_vectors(model, *poles(chat, contrasts, settings))
    (layer,) = layers_at(model, [settings.depth])
    vector_D = vectors[layer].cpu()
    if settings.direction == "random":
        vector_D = random_direction(vector_D, seed=seed)
    return Push(-vector_D if away else vector_D, layer, settings.strength)
