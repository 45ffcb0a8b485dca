"""The one training loop: units of sequences in, a moved adapter out.

A *unit* is what one objective needs at once (a preference pair, the two pairs of a crossed item,
a conversation, a prompt with its sampled replies). Units of a step are packed into tries, so that
prompts and system prompts are computed once; gradients add up over packs. An objective may *prepare*
a step's units with the model as it then is: on-policy methods sample their replies there.
A checkpoint holds adapter, optimiser, position and losses: the resumed run continues with the same numbers.
"""

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from torch import Tensor

from ethos import scoring, steering
from ethos.chat import Rendered
from ethos.errors import ConfigError, DataError, ModelError
from ethos.models import enough_memory
from ethos.progress import meter
from ethos.records import Message
from ethos.store import write_bytes
from ethos.train import ranks
from ethos.train.lora import trainable
from ethos.train.schedule import Optimisation, Step, progress, rate, schedule
from ethos.units import ScoreCache, score_units
from ethos.units import unit as scored_together

SECONDS_BETWEEN_CHECKPOINTS = 5.0
BLOCK = 16
"""Units whose reference is computed together."""


class Unit(NamedTuple):
    """Sequences that one objective reads together. An on-policy unit starts with a prompt and no sequences."""

    sequences: tuple[Rendered, ...]
    reference: tuple[Tensor, ...] = ()
    """Per-token log-probabilities (nats) under the reference, one (T,) a sequence; empty where none is needed."""
    source: str = ""
    prompt: tuple[Message, ...] = ()
    """The conversation that an on-policy method continues."""
    teacher_prompt: tuple[Message, ...] = ()
    """What a distillation teacher sees in its place."""
    teacher: tuple[Rendered, ...] = ()
    """The same scored tokens in the teacher's context, one a sequence."""
    rewards: tuple[float, ...] = ()
    """What each sequence earned, for policy gradients."""
    baseline: float = 0.0
    """z₀ of KTO (nats)."""


class Scored(NamedTuple):
    """A unit with what the policy says of its sequences."""

    unit: Unit
    policy: tuple[Tensor, ...]
    """Per-token log-probabilities (nats), one (T,) a sequence."""
    logits: tuple[Tensor, ...] = ()
    """Vocabulary logits at the same tokens, one (T, V) a sequence, where the objective asks for them."""
    activations: tuple[Tensor, ...] = ()
    """Outputs of layers at the positions that lead to them, one (L, T, D) a sequence, where it asks for them."""


class Objective(NamedTuple):
    """What a method minimises."""

    loss: Callable[[Sequence[Scored]], tuple[Tensor, dict[str, float]]]
    """Scored units → (sum of their losses, sums of metrics to log)."""
    prepare: Callable[[PeftModel, Sequence[Unit], int], list[Unit]] | None = None
    """(model, units of a step, step from 0) → the units to train on, made with the model as it is now."""
    distributions: bool = False
    """Whether the loss reads whole next-token distributions."""
    state: dict[str, Tensor] | None = None
    """Tensors that the method carries from step to step, changed in place; checkpoints keep them."""
    layers: tuple[int, ...] = ()
    """Layers whose outputs the loss reads."""


def reached(units: Sequence[Unit], settings: Optimisation, *, seed: int) -> list[int]:
    """The units that training takes before it ends: all of them, or those that a budget of tokens has room for."""
    if settings.tokens is None:
        return list(range(len(units)))
    taken, spent, steps = set[int](), 0, schedule(len(units), settings, seed=seed)
    while spent < settings.tokens and len(taken) < len(units):
        step = next(steps)
        taken.update(step)
        spent += _spent([units[i] for i in step])
    return sorted(taken)


def check_budget(units: Sequence[Unit], settings: Optimisation) -> None:
    """Refuse a budget that one step would overspend."""
    for name, budget, step in (
        ("tokens", settings.tokens, _spent(units)),
        ("generated", settings.generated, _generated(units)),
    ):
        if budget is not None and step > budget:
            raise ConfigError(
                f"{name} = {budget:,} is less than one step takes: {step:,} for {len(units)} units",
                hint="raise the budget, or lower optimisation.units_per_step",
            )


def _spent(units: Sequence[Unit]) -> int:
    return sum(scoring.positions(unit.sequences) for unit in units)


def _generated(units: Sequence[Unit]) -> int:
    """Scored tokens of units that came with a prompt alone."""
    return sum(sum(sequence.mask) for unit in units if unit.prompt for sequence in unit.sequences)


def check(units: Sequence[Unit], settings: Optimisation) -> None:
    """Refuse what would train nothing or train on a torso; a teacher's context counts like the student's."""
    for unit in units:
        for sequence in (*unit.sequences, *unit.teacher):
            if not any(sequence.mask):
                raise DataError(f"{unit.source}: no token of it carries loss")
            if len(sequence.tokens) > settings.max_tokens:
                raise DataError(
                    f"{unit.source}: {len(sequence.tokens)} tokens, more than max_tokens = {settings.max_tokens}",
                    hint="raise max_tokens, or filter the row with a reason",
                )


def train(
    model: PeftModel,
    units: Sequence[Unit],
    objective: Objective,
    settings: Optimisation,
    *,
    folder: Path,
    seed: int,
    label: str,
) -> list[Step]:
    """Train the model's trainable parameters; return the log, one record a step.

    `folder` keeps `checkpoint.pt` while training, and is resumed from. Raises ModelError at a loss or gradient that is
    not finite, naming step and rows, what the step before left in the checkpoint; and where memory runs out.
    """
    if not units:
        raise DataError(
            "no units to train on: the data set is empty after its filters", hint="see the counts of dropped rows"
        )
    check(units, settings)
    weights = trainable(model)
    optimizer = torch.optim.AdamW(weights.values(), lr=settings.learning_rate, weight_decay=0.0)
    carried = objective.state or {}
    log = _resume(folder / "checkpoint.pt", weights, carried, optimizer)
    (done, total), saved = progress(log, len(units), settings), time.monotonic()
    steps = islice(schedule(len(units), settings, seed=seed), len(log), None)
    with meter(label, total, done=done, shown=ranks.leads()) as shown:
        while done < total:
            chosen = [units[i] for i in next(steps)]
            with enough_memory(_what_to_lower(settings, objective)):
                if objective.prepare:
                    chosen = objective.prepare(model, chosen, len(log))
                    check(chosen, settings)
                if not log:
                    check_budget(chosen, settings)
                # peft would cast what an adapter reads to float32, and `scoring.read` back, forward and backward
                uncast = disable_input_dtype_casting(model)
                with uncast, recomputing(model) if settings.checkpointing else nullcontext():
                    step, faulty = _step(model, chosen, objective, settings.pack_positions, len(log))
            ranks.sum_gradients(list(weights.values()))
            norm = torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
            if faulty or not torch.isfinite(norm):
                if ranks.leads():
                    _checkpoint(folder / "checkpoint.pt", weights, carried, optimizer, log)
                what = f"loss is {step.loss}" if faulty else "gradient is not finite"
                raise ModelError(
                    f"{what} at step {step.step}, rows {', '.join(faulty or (unit.source for unit in chosen))}",
                    hint=f"lower learning_rate; {folder / 'checkpoint.pt'} keeps what step {len(log)} left",
                )
            log.append(step)
            before, (done, _) = done, progress(log, len(units), settings)
            for group in optimizer.param_groups:
                group["lr"] = rate(done - 1, total, settings)
            optimizer.step()
            optimizer.zero_grad()
            shown.advance(done - before, tokens=step.tokens, note=f"loss {step.loss:.3f}")
            if ranks.leads() and time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                _checkpoint(folder / "checkpoint.pt", weights, carried, optimizer, log)
                saved = time.monotonic()
    return log


def _what_to_lower(settings: Optimisation, objective: Objective) -> str:
    """What bounds the memory of a step, the settings that change no result first."""
    sampled = ", units_per_step and the replies it samples" if objective.prepare else ""
    return (
        f"lower optimisation.pack_positions (now {settings.pack_positions}){sampled}; set optimisation.checkpointing; "
        f"then lower max_tokens (now {settings.max_tokens}): a unit is never cut"
    )


@contextmanager
def recomputing(model: PeftModel) -> Iterator[None]:
    """Inside the `with`, the backward pass computes each layer's inside again instead of keeping it.

    transformers does so only in layers that are in training mode, and gives them no cache; what is inside them is left
    as it is, so that no dropout comes with it.
    """
    layers = steering.decoder_layers(model)
    model.activation_checkpointing_enable({"use_reentrant": False})
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
        model.activation_checkpointing_disable()


class Part(NamedTuple):
    """What one rank computed of a step."""

    loss: float
    """Sum over its units."""
    metrics: dict[str, float]
    tokens: float
    faulty: list[str]
    """Rows without a finite loss."""


def _step(
    model: PeftModel, units: Sequence[Unit], objective: Objective, positions: int, index: int
) -> tuple[Step, list[str]]:
    """Forward and backward of one step, each rank's gradients left on its parameters; and rows without finite loss."""
    parts = ranks.gathered(_part(model, units, objective, positions))
    metrics: dict[str, float] = {}
    for part in parts:
        for name, value in part.metrics.items():
            metrics[name] = metrics.get(name, 0.0) + value
    loss, tokens = sum(part.loss for part in parts), round(sum(part.tokens for part in parts))
    step = Step(
        step=index + 1,
        loss=loss / len(units),
        metrics=metrics,
        tokens=tokens,
        spent=_spent(units),
        generated=_generated(units),
    )
    return step, [row for part in parts for row in part.faulty]


def _part(model: PeftModel, units: Sequence[Unit], objective: Objective, positions: int) -> Part:
    """This rank's packs of a step."""
    loss_sum, tokens, metrics, faulty = 0.0, 0.0, dict[str, float](), list[str]()
    for packed, own, weight in portion(model, units, objective, positions):
        loss, sums = objective.loss(_scored(model, packed, own, objective))
        if not torch.isfinite(loss):
            faulty += [unit.source for unit in own]
        (weight * loss / len(units)).backward()  # type: ignore[no-untyped-call]
        loss_sum += weight * loss.item()
        tokens += weight * len(packed.tokens_N)
        for name, value in sums.items():
            metrics[name] = metrics.get(name, 0.0) + weight * value / len(units)
    return Part(loss_sum, metrics, tokens, faulty)


Portion = list[tuple[scoring.Pack, list[Unit], float]]
"""Packs with their units, and what each counts in the sum over ranks."""


def portion(model: PeftModel, units: Sequence[Unit], objective: Objective, positions: int) -> Portion:
    """The packs of a step that this rank computes.

    Ranks that share a sharded model must take equally many turns. One with fewer packs repeats its first for nothing;
    where a loss asks a teacher, which takes turns of its own, every rank computes all packs and each counts in part.
    """
    together = ranks.sharded(model)
    if together and (objective.distributions or objective.layers):
        return _packed(units, positions, 1 / ranks.count())
    taken = ranks.share([scoring.positions(unit.sequences) for unit in units])
    own = _packed([units[i] for i in taken], positions, 1.0)
    if together:
        spare = (own or _packed(units[:1], positions, 1.0))[0]
        own += [(*spare[:2], 0.0)] * (max(ranks.gathered(len(own))) - len(own))
    return own


def _packed(units: Sequence[Unit], positions: int, weight: float) -> Portion:
    return [(packed, [units[i] for i in members], weight) for packed, members in packs(units, positions)]


def _scored(model: PeftModel, packed: scoring.Pack, units: Sequence[Unit], objective: Objective) -> list[Scored]:
    """What the model says of the units of one pack."""
    hidden_PD, states = steering.activations(model, packed, objective.layers)
    logits_PV = scoring.head_logits(model, hidden_PD) if objective.distributions else None
    if logits_PV is None:
        logprobs_S = scoring.head_logprobs(model, hidden_PD, packed)
    else:
        logprobs_S = scoring.picked_logprobs(logits_PV, packed)
    places = iter([torch.from_numpy(where).to(logprobs_S.device) for where in packed.scored])
    head_S = packed.head_S.to(logprobs_S.device)
    scored = []
    for unit in units:
        own = [next(places) for _ in unit.sequences]
        logits = () if logits_PV is None else tuple(logits_PV[head_S[where_T]] for where_T in own)
        activations = tuple(steering.states_before(states, packed, where_T) for where_T in own) if states else ()
        scored.append(Scored(unit, tuple(logprobs_S[where_T] for where_T in own), logits, activations))
    return scored


def packs(units: Sequence[Unit], positions: int) -> Iterator[tuple[scoring.Pack, list[int]]]:
    """Packs of whole units, each with the indices of its units."""
    sequences = [sequence for unit in units for sequence in unit.sequences]
    owner = [i for i, unit in enumerate(units) for _ in unit.sequences]
    groups = [[j for j, who in enumerate(owner) if who == i] for i in range(len(units))]
    for packed in scoring.pack(sequences, groups, limit=positions):
        yield packed, list(dict.fromkeys(owner[j] for j in packed.sequences))


def with_reference(
    model: PeftModel, units: Sequence[Unit], *, cache: ScoreCache | None = None, label: str = ""
) -> list[Unit]:
    """The units with their log-probabilities under the model as it is now, before any step; what is kept is not asked.

    Numbers are made and kept a block of units at a time, so that small units fill a pack together, and the same units
    get the same bytes whatever is kept. One process that is given a label shows how far it is. Raises DataError at a
    sequence that the model cannot read.
    """
    blocks = [units[first : first + BLOCK] for first in range(0, len(units), BLOCK)]
    asked = [scored_together((), [sequence for unit in block for sequence in unit.sequences]) for block in blocks]
    with meter(label, len(asked), shown=bool(label) and ranks.count() == 1) as shown:
        found = ranks.divided(model, partial(score_units, model, cache=cache, done=shown.advance), asked)
    scores = (torch.from_numpy(numbers).float() for block in found for numbers in block)
    return [_referred(unit, tuple(islice(scores, len(unit.sequences)))) for unit in units]


def _referred(unit: Unit, reference: tuple[Tensor, ...]) -> Unit:
    if any(bool(logprobs_T.isnan().any()) for logprobs_T in reference):
        raise DataError(f"{unit.source}: longer than the model's context", hint="lower optimisation.max_tokens")
    return unit._replace(reference=reference)


def _checkpoint(
    path: Path,
    weights: dict[str, Tensor],
    carried: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    log: list[Step],
) -> None:
    buffer = io.BytesIO()
    state: dict[str, Any] = {
        "weights": dict(weights),
        "carried": carried,
        "optimizer": optimizer.state_dict(),
        "log": [step.model_dump() for step in log],
    }
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


def _resume(
    path: Path, weights: dict[str, Tensor], carried: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> list[Step]:
    """Restore a checkpoint in place; the log so far, empty when there is none."""
    if not path.exists():
        return []
    state = torch.load(path, weights_only=True)
    with torch.no_grad():
        for kept, current in (("weights", weights), ("carried", carried)):
            for name, tensor in current.items():
                tensor.copy_(state[kept][name])
    optimizer.load_state_dict(state["optimizer"])
    return [Step(**step) for step in state["log"]]
