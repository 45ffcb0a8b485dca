"""Laps of ethos, through the functions that its own stages call."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks import texts
from benchmarks.laps import Gate
from benchmarks.table import Job, Load
from ethos import scoring
from ethos.bench.readouts import reply_scores
from ethos.chat import Chat
from ethos.models import Loaded, Subject, load_base, load_tokenizer_chat
from ethos.records import Message
from ethos.samplers.local import generate, sample
from ethos.samplers.replies import ReplyCache, Request, derived_seed
from ethos.train.distillation import Distillation, distillation_objective, frozen
from ethos.train.loop import Objective, Scored, Unit, packs, train, with_reference
from ethos.train.lora import LoraSettings, attach, before_training
from ethos.train.preference import PreferenceLoss, preference_objective
from ethos.train.schedule import Optimisation, schedule
from ethos.train.supervised import sft_objective

SEED = 0
LORA = LoraSettings(rank=64)
LEAD = "Answer:"
"""What is already said in a scored turn: lm-evaluation-harness would count white space before a continuation to it."""
SHARPER = 1.25
"""Factor on the logits of a distillation teacher, so that there is something to learn."""


def in_dtype(job: Job, model: PreTrainedModel) -> PreTrainedModel:
    """The model in the precision of a side."""
    if job.side.dtype != "own":
        model.to(getattr(torch, job.side.dtype))
    return model


def loaded(job: Job) -> tuple[PreTrainedModel, Chat]:
    """Model and chat renderer, as any stage loads them."""
    folder = Path(job.model)
    return in_dtype(job, load_base(folder)), load_tokenizer_chat(folder)


def settings(load: Load) -> Optimisation:
    """One lap a step; for the rest ethos's own defaults."""
    return Optimisation(units_per_step=load.per_lap, max_tokens=4096)


def ordered(units: Sequence[Unit], load: Load) -> list[Unit]:
    """The units in the order in which ethos takes them."""
    return [units[i] for step in schedule(len(units), settings(load), seed=SEED) for i in step]


def head_of(model: scoring.Model) -> Tensor:
    """The vocabulary head's matrix."""
    weight: Tensor = model.get_output_embeddings().weight
    return weight


def sharpen(model: PreTrainedModel) -> PreTrainedModel:
    """Make a teacher of a copy of the student."""
    with torch.no_grad():
        head_of(model).mul_(SHARPER)
    return model


Work = Callable[[Sequence[Unit]], float]


class Clocked:
    """An objective each of whose steps is a lap: from its units to the next step's."""

    def __init__(self, inner: Objective, gate: Gate, work: Work, *, refer: bool = False) -> None:
        self.inner, self.gate, self.work, self.refer = inner, gate, work, refer
        self.units: Sequence[Unit] = ()
        self.loss_sum = 0.0

    def objective(self) -> Objective:
        """What to train on."""
        return self.inner._replace(loss=self._loss, prepare=self._prepare)

    def end(self) -> None:
        """End the lap under way, if there is one."""
        if self.units:
            self.gate.end(self.work(self.units))
            self.gate.values.append(self.loss_sum / len(self.units))
        self.units, self.loss_sum = (), 0.0

    def _prepare(self, model: PeftModel, units: Sequence[Unit], step: int) -> list[Unit]:
        self.end()
        self.gate.begin()
        self.units = units
        ready = self.inner.prepare(model, units, step) if self.inner.prepare else list(units)
        if not self.refer:
            return ready
        with before_training(model):
            return with_reference(model, ready)

    def _loss(self, units: Sequence[Scored]) -> tuple[Tensor, dict[str, float]]:
        loss, metrics = self.inner.loss(units)
        self.loss_sum += loss.item()
        return loss, metrics


def trained(job: Job, gate: Gate, model: PeftModel, units: Sequence[Unit], clocked: Clocked) -> None:
    """All laps of a training."""
    gate.ready(texts.inputs_of(ordered(units, job.load)))
    chosen = settings(job.load).model_copy(update={"checkpointing": job.side.checkpointing})
    with tempfile.TemporaryDirectory() as folder:
        train(model, units, clocked.objective(), chosen, folder=Path(folder), seed=SEED, label=job.side.name)
    clocked.end()


def preference(job: Job, gate: Gate) -> None:
    """DPO steps, the reference pass of their rows included."""
    _preference(job, gate, lambda model: texts.tokens_of)


def preference_products(job: Job, gate: Gate) -> None:
    """DPO steps, counted in floating-point operations."""
    _preference(job, gate, operations)


def _preference(job: Job, gate: Gate, work: Callable[[PeftModel], Work]) -> None:
    base, chat = loaded(job)
    model = attach(base, "default", LORA, seed=SEED)
    objective = preference_objective(PreferenceLoss(nll_weight=0.0))
    trained(job, gate, model, texts.pairs(job.load, chat), Clocked(objective, gate, work(model), refer=True))


def operations(model: PeftModel) -> Work:
    """Floating-point operations of a DPO step with its reference pass, as the table counts them."""
    sizes = {name: weight.numel() for name, weight in model.named_parameters()}
    lora = sum(size for name, size in sizes.items() if "lora_" in name)
    frozen_ones = sum(size for name, size in sizes.items() if "proj" in name and "lora_" not in name)
    head = head_of(model).numel()

    def count(units: Sequence[Unit]) -> float:
        packed = [each for each, _ in packs(units, Optimisation().pack_positions)]
        positions, parents = sum(len(each.tokens_N) for each in packed), sum(len(each.parents_P) for each in packed)
        return 6.0 * (positions * (frozen_ones + lora) + parents * head)

    return count


def supervised(job: Job, gate: Gate) -> None:
    """SFT steps."""
    base, chat = loaded(job)
    model = attach(base, "default", LORA, seed=SEED)
    trained(job, gate, model, texts.conversations(job.load, chat), Clocked(sft_objective(), gate, texts.tokens_of))


def distillation(job: Job, gate: Gate) -> None:
    """Steps on replies that are there already: both models' distributions, divergence, backward pass."""
    base, chat = loaded(job)
    teacher = sharpen(loaded(job)[0])
    model = attach(base, "default", LORA, seed=SEED)
    objective = distillation_objective(Distillation(beta=1.0), frozen(teacher), chat, seed=SEED)
    trained(job, gate, model, texts.sampled(job.load, chat), Clocked(objective, gate, texts.tokens_of))


def scoring_laps(
    items: Sequence[tuple[list[Message], list[str]]], load: Load
) -> Iterator[list[tuple[list[Message], str]]]:
    """The cases of each lap: a prompt with one continuation."""
    for start in range(0, len(items), load.per_lap):
        yield [(messages, text) for messages, replies in items[start : start + load.per_lap] for text in replies]


def scoring_of(job: Job) -> Loaded:
    """A subject without adapter."""
    model, chat = loaded(job)
    return Loaded(Subject(name=job.side.name, base="benchmark"), model, chat)


def score_texts(job: Job, gate: Gate) -> None:
    """`text` readouts, from strings to numbers."""
    subject = scoring_of(job)
    items = texts.questions(job.load, subject.chat)
    gate.ready(texts.digest(items))
    for cases in scoring_laps(items, job.load):
        gate.begin()
        found = reply_scores(subject, cases, [LEAD] * len(cases))
        gate.end(len(cases))
        gate.values += found


def sampling(job: Job, gate: Gate) -> None:
    """Sampled replies, as every stage asks for them."""
    subject = scoring_of(job)
    questions = texts.prompts(job.load, subject.chat)
    gate.ready(texts.digest(questions))
    with tempfile.TemporaryDirectory() as folder:
        cache = ReplyCache(Path(folder) / "replies.sqlite")
        for start in range(0, len(questions), job.load.per_lap):
            asked = [
                Request(
                    messages=messages, max_tokens=job.load.reply[1], temperature=1.0, seed=derived_seed(SEED, place)
                )
                for place, messages in enumerate(questions[start : start + job.load.per_lap], start)
            ]
            gate.begin()
            replies = sample(subject, asked, cache)
            gate.end(sum(reply.num_tokens + (reply.finish == "stop") for reply in replies))


def greedy(job: Job, gate: Gate) -> None:
    """Token ids of the likeliest replies."""
    model, chat = loaded(job)
    questions = texts.prompts(job.load, chat)
    gate.ready(texts.digest(questions))
    gate.begin()
    asked = [Request(messages=messages, max_tokens=job.load.reply[1], temperature=0.0) for messages in questions]
    replies = generate(model, chat, asked)
    gate.end(sum(map(len, replies)))
    gate.values += [float(token) for reply in replies for token in reply]


def sizes_of(load: Load) -> list[int]:
    """The size of each lap: the first warms up, then all in turn."""
    return [load.sizes[0], *(load.sizes[lap % len(load.sizes)] for lap in range(load.laps - 1))]


def growing_rows(job: Job, gate: Gate) -> None:
    """Scoring more and more rows."""
    model, chat = loaded(job)
    rows = [unit.sequences[0] for unit in texts.sampled(job.load.model_copy(update={"laps": 1}), chat)]
    gate.ready(texts.digest(rows))
    for size in sizes_of(job.load):
        gate.begin()
        scoring.score(model, rows[:size])
        gate.end(size)


def growing_tokens(job: Job, gate: Gate) -> None:
    """Scoring equally many rows that are longer and longer."""
    model, chat = loaded(job)
    lengths = {size: texts.windows(job.load, chat, size) for size in job.load.sizes}
    gate.ready(texts.digest(lengths))
    for size in sizes_of(job.load):
        gate.begin()
        scoring.score(model, lengths[size])
        gate.end(sum(len(row.tokens) for row in lengths[size]))


def growing_training(job: Job, gate: Gate) -> None:
    """DPO on more and more pairs, from rows to a trained adapter."""
    base, chat = loaded(job)
    model = attach(base, "default", LORA, seed=SEED)
    units = texts.pairs(job.load.model_copy(update={"laps": 1}), chat)
    objective = preference_objective(PreferenceLoss(nll_weight=0.0))
    gate.ready(texts.inputs_of(units))
    for size in sizes_of(job.load):
        gate.begin()
        referred = with_reference(model, units[:size])
        with tempfile.TemporaryDirectory() as folder:
            train(model, referred, objective, Optimisation(), folder=Path(folder), seed=SEED, label="growing")
        gate.end(size)
