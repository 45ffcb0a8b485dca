"""How far and how fast an adapter moves: the settings, the rate at a step, which units a step takes, and when it ends.

Training ends after so many epochs; or, where a budget is set, at the first step that has spent it, the rows repeated as
often as that takes and the rate falling with what is spent. A unit counts by itself, so packing decides nothing.
"""

import math
import random
from collections.abc import Iterator, Sequence
from itertools import repeat

from pydantic import Field, model_validator

from ethos.records import Record


class Optimisation(Record):
    """How far and how fast the adapter moves."""

    learning_rate: float = Field(2e-4, gt=0)
    """Peak AdamW learning rate of the LoRA factors."""
    epochs: int = Field(1, gt=0)
    tokens: int | None = Field(None, gt=0, exclude_if=lambda tokens: tokens is None)
    """In place of epochs: how many tokens to train on, prompts included, one that replies share counted once."""
    generated: int | None = Field(None, gt=0, exclude_if=lambda tokens: tokens is None)
    """With `tokens`: how many of them an on-policy method may sample; what is spent first ends the training."""
    units_per_step: int = Field(8, gt=0)
    """Units per optimiser step; their losses are averaged."""
    warmup_fraction: float = Field(0.1, ge=0, le=1)
    """Share of steps with a linearly rising rate; it then falls linearly to a tenth."""
    max_tokens: int = Field(512, gt=0)
    """Longest sequence. A longer one is refused by name, never cut."""
    pack_positions: int = Field(512, gt=0)
    """Trie positions per forward pass; lower it when memory runs out, results do not change."""
    checkpointing: bool = Field(False, exclude_if=lambda checkpointing: not checkpointing)
    """Keep only each layer's input and compute the rest again on the way back: less memory, more time, the same
    results (Chen et al. 2016, arXiv:1604.06174)."""
    shard: bool = Field(False, exclude_if=lambda shard: not shard)
    """Divide the frozen layers over the processes of torchrun, for a base that does not fit one device."""

    @model_validator(mode="after")
    def _one_end(self) -> "Optimisation":
        if self.tokens is not None and self.epochs != 1:
            raise ValueError("epochs and tokens both say when to stop: choose one")
        if self.generated is not None and self.tokens is None:
            raise ValueError("generated goes with tokens")
        return self


class Step(Record):
    """One line of the training log."""

    step: int
    loss: float
    metrics: dict[str, float]
    tokens: int
    """Trie positions computed in this step."""
    spent: int = Field(0, exclude_if=lambda spent: not spent)
    """Tokens of its units, each unit by itself: what a budget counts."""
    generated: int = Field(0, exclude_if=lambda generated: not generated)
    """Tokens sampled for it."""


def rate(step: int, total: int, settings: Optimisation) -> float:
    """Learning rate at `step` (from 0) of `total`."""
    warm = max(1, round(total * settings.warmup_fraction))
    share = (step + 1) / warm if step < warm else 1 - 0.9 * (step - warm + 1) / max(1, total - warm)
    return settings.learning_rate * share


def schedule(count: int, settings: Optimisation, *, seed: int) -> Iterator[list[int]]:
    """Which units each step takes: every epoch a fresh permutation, the last step smaller. Endless on a budget."""
    rng = random.Random(seed)
    for _ in range(settings.epochs) if settings.tokens is None else repeat(None):
        order = rng.sample(range(count), count)
        yield from (order[i : i + settings.units_per_step] for i in range(0, count, settings.units_per_step))


def progress(log: Sequence[Step], count: int, settings: Optimisation) -> tuple[int, int]:
    """How far training on `count` units is, and where it ends: in steps, or in tokens of a budget."""
    if settings.tokens is None:
        return len(log), settings.epochs * math.ceil(count / settings.units_per_step)
    spent = sum(step.spent for step in log)
    if settings.generated is not None:
        spent = max(spent, settings.tokens * sum(step.generated for step in log) // settings.generated)
    return min(spent, settings.tokens), settings.tokens
