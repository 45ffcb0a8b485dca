"""Laps of TRL's trainers: on our rows in our order, an optimiser step a lap."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForCausalLM, PreTrainedModel, TrainerCallback
from trl import DistillationConfig, DistillationTrainer, DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from benchmarks import texts
from benchmarks.laps import Gate
from benchmarks.ours import LORA, SEED, ordered, settings, sharpen
from benchmarks.table import Job
from ethos.chat import Chat, Rendered
from ethos.models import fast_dtype, load_tokenizer_chat
from ethos.train.loop import Unit
from ethos.train.schedule import rate


def loaded(job: Job) -> tuple[PreTrainedModel, Chat]:
    """Model and chat renderer, the model in a side's precision."""
    dtype = fast_dtype() if job.side.dtype == "own" else getattr(torch, job.side.dtype)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype)
    return model, load_tokenizer_chat(Path(job.model))


def lora() -> LoraConfig:
    """The adapter that ethos attaches (train/lora.py)."""
    return LoraConfig(
        r=LORA.rank,
        lora_alpha=2 * LORA.rank,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        task_type="CAUSAL_LM",
    )


def arguments(job: Job, folder: str) -> dict[str, Any]:
    """Settings of a trainer that takes our steps and writes nothing but its log."""
    return {
        "output_dir": folder,
        "max_steps": job.load.laps,
        "per_device_train_batch_size": job.load.per_lap,
        "learning_rate": settings(job.load).learning_rate,
        "max_grad_norm": 1.0,
        "train_sampling_strategy": "sequential",
        "gradient_checkpointing": job.side.checkpointing,
        "bf16": job.side.dtype == "bfloat16",
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": False,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": SEED,
    }


class Laps(TrainerCallback):
    """Makes a lap of every optimiser step."""

    def __init__(self, job: Job, gate: Gate, units: Sequence[Unit]) -> None:
        self.gate = gate
        self.work = map(texts.tokens_of, texts.by_lap(units, job.load))

    def on_step_begin(self, *args: Any, **_: Any) -> None:
        """The batch is there."""
        self.gate.begin()

    def on_step_end(self, *args: Any, **_: Any) -> None:
        """The adapter has moved."""
        self.gate.end(next(self.work))

    def on_log(self, *args: Any, **told: Any) -> None:
        """Losses are compared at the end."""
        if "loss" in told["logs"]:
            self.gate.values.append(told["logs"]["loss"])


def run(trainer: Any, job: Job, gate: Gate, units: Sequence[Unit]) -> None:
    """All laps, at ethos's learning rates."""
    ours = settings(job.load)
    trainer.create_optimizer()
    trainer.lr_scheduler = LambdaLR(
        trainer.optimizer, lambda step: rate(step, job.load.laps, ours) / ours.learning_rate
    )
    trainer.add_callback(Laps(job, gate, units))
    gate.ready(texts.inputs_of(units))
    trainer.train()


def split(sequence: Rendered) -> tuple[list[int], list[int]]:
    """Tokens before and from the first learnt one."""
    start = sequence.mask.index(True)
    return list(sequence.tokens[:start]), list(sequence.tokens[start:])


def preference(job: Job, gate: Gate) -> None:
    """DPO steps."""
    model, chat = loaded(job)
    units = ordered(texts.pairs(job.load, chat), job.load)
    rows = [
        dict(zip(("prompt", "chosen"), map(chat.tokenizer.decode, split(u.sequences[0])), strict=True)) for u in units
    ]
    for row, unit in zip(rows, units, strict=True):
        row["rejected"] = chat.tokenizer.decode(split(unit.sequences[1])[1])
    with tempfile.TemporaryDirectory() as folder:
        trainer = DPOTrainer(
            model,
            args=DPOConfig(**arguments(job, folder), max_length=None, beta=0.1),
            train_dataset=Dataset.from_list(rows),
            processing_class=chat.tokenizer,
            peft_config=lora(),
        )
        for row, unit in zip(trainer.train_dataset, units, strict=True):
            for reply, sequence in zip(("chosen_ids", "rejected_ids"), unit.sequences, strict=True):
                assert (row["prompt_ids"], row[reply]) == split(sequence), f"TRL reads row {unit.source} otherwise"
        run(trainer, job, gate, units)


def supervised(job: Job, gate: Gate) -> None:
    """SFT steps on rows that are tokens already."""
    model, chat = loaded(job)
    units = ordered(texts.conversations(job.load, chat), job.load)
    rows = [
        {
            "input_ids": list(sequence.tokens),
            "labels": [t if learnt else -100 for t, learnt in zip(sequence.tokens, sequence.mask, strict=True)],
        }
        for unit in units
        for sequence in unit.sequences
    ]
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model,
            args=SFTConfig(**arguments(job, folder), max_length=None),
            train_dataset=Dataset.from_list(rows),
            processing_class=chat.tokenizer,
            peft_config=lora(),
        )
        run(trainer, job, gate, units)


class Given(DistillationTrainer):  # type: ignore[misc]  # untyped
    """A trainer whose student has answered already."""

    answers: dict[tuple[int, ...], list[list[int]]]
    """The replies to each prompt, each taken once."""

    def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any, **__: Any) -> list[list[int]]:
        return [self.answers[tuple(ids)].pop(0) for ids in prompt_ids]


def distillation(job: Job, gate: Gate) -> None:
    """Steps on replies that are there already. One row of TRL's is one reply."""
    model, chat = loaded(job)
    teacher = sharpen(loaded(job)[0])
    units = ordered(texts.sampled(job.load, chat), job.load)
    answered = [split(sequence) for unit in units for sequence in unit.sequences]
    changes = {"per_device_train_batch_size": job.load.per_lap * job.load.turns}
    with tempfile.TemporaryDirectory() as folder:
        trainer = Given(
            model,
            teacher,
            args=DistillationConfig(**arguments(job, folder) | changes, beta=1.0, shuffle_dataset=False),
            train_dataset=Dataset.from_list([{"prompt": chat.tokenizer.decode(head)} for head, _ in answered]),
            processing_class=chat.tokenizer,
            peft_config=lora(),
        )
        trainer.answers = {}
        for head, reply in answered:
            trainer.answers.setdefault(tuple(head), []).append(reply)
        run(trainer, job, gate, units)
