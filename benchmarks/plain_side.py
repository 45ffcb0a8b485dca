"""Laps of transformers' `generate`, and of bare matrix products."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks import texts
from benchmarks.laps import Gate
from benchmarks.ours import head_of, loaded, ordered
from benchmarks.table import Job
from ethos.chat import Chat
from ethos.records import Message
from ethos.samplers.local import stop_token

ROWS = 512
"""Rows of a product: what one of ethos's packs holds."""


def replies(model: Any, chat: Chat, asked: Sequence[list[Message]], most: int, **how: Any) -> list[list[int]]:
    """New tokens of a padded batch, the stop token included."""
    heads, stop = [list(chat.prompt(messages)) for messages in asked], stop_token(chat)
    width = max(map(len, heads))
    seen = torch.tensor([[0] * (width - len(head)) + [1] * len(head) for head in heads], device=model.device)
    tokens = torch.tensor([[stop] * (width - len(head)) + head for head in heads], device=model.device)
    made = model.generate(
        input_ids=tokens, attention_mask=seen, max_new_tokens=most, eos_token_id=stop, pad_token_id=stop, **how
    )
    rows = [row[width:].tolist() for row in made]
    return [row[: row.index(stop) + 1] if stop in row else row for row in rows]


def all_replies(job: Job, model: Any, chat: Chat, asked: Sequence[list[Message]], **how: Any) -> list[list[int]]:
    """Replies to any number of prompts, batches of similar length together."""
    order = sorted(range(len(asked)), key=lambda place: len(chat.prompt(asked[place])))
    done: dict[int, list[int]] = {}
    for start in range(0, len(order), job.side.batch):
        places = order[start : start + job.side.batch]
        made = replies(model, chat, [asked[place] for place in places], job.load.reply[1], **how)
        done |= zip(places, made, strict=True)
    return [done[place] for place in range(len(asked))]


def sampling(job: Job, gate: Gate) -> None:
    """Sampled replies."""
    model, chat = loaded(job)
    questions = texts.prompts(job.load, chat)
    gate.ready(texts.digest(questions))
    torch.manual_seed(0)
    for start in range(0, len(questions), job.load.per_lap):
        gate.begin()
        asked = questions[start : start + job.load.per_lap]
        made = all_replies(job, model, chat, asked, do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
        gate.end(sum(map(len, made)))


def greedy(job: Job, gate: Gate) -> None:
    """Token ids of the likeliest replies."""
    model, chat = loaded(job)
    questions = texts.prompts(job.load, chat)
    gate.ready(texts.digest(questions))
    gate.begin()
    made = all_replies(job, model, chat, questions, do_sample=False)
    gate.end(sum(map(len, made)))
    gate.values += [float(token) for reply in made for token in reply]


def products(job: Job, gate: Gate) -> None:
    """X·Wᵀ with each of the model's frozen matrices, counted in floating-point operations."""
    model, chat = loaded(job)
    layers = [weight for name, weight in model.named_parameters() if "proj" in name]
    weights = [*layers, head_of(model)]
    rows = {weight.shape[1]: torch.randn(ROWS, weight.shape[1]).to(weight) for weight in weights}
    once = sum(2.0 * ROWS * weight.numel() for weight in weights)
    gate.ready(texts.inputs_of(ordered(texts.pairs(job.load, chat), job.load)))
    for _ in range(job.load.laps):
        gate.begin()
        with torch.no_grad():
            for weight in weights * job.load.per_lap:
                F.linear(rows[weight.shape[1]], weight)
        gate.end(once * job.load.per_lap)
