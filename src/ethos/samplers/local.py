"""Text from a subject in memory: batched by transformers, seeded by request.

Sampling is `argmax(logits / T + Gumbel noise)` with noise drawn from each request's own seed, which
is exact sampling from softmax(logits / T); so a request's text depends on its seed, not on the
batch it happens to run in (up to rounding of the batched matrix products).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from ethos import scoring
from ethos.chat import Chat, Rendered
from ethos.models import Loaded
from ethos.progress import meter
from ethos.samplers.replies import Reply, ReplyCache, Request
from ethos.scoring import Model, Prefix

CACHED_POSITIONS = 8192
"""Positions whose keys and values a batch may hold: what bounds the memory of sampling."""

NO_PREFIX = Prefix(0, ())


class GumbelNoise(LogitsProcessor):
    """Turns greedy search into sampling, with one random stream a row."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        self.streams = [torch.Generator().manual_seed(request.seed) for request in requests]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, V) plus each row's noise."""
        noisy = scores.float().clone()
        for row, (request, stream) in enumerate(zip(self.requests, self.streams, strict=True)):
            if request.temperature > 0:
                uniform = torch.rand(scores.shape[-1], generator=stream).clamp_(1e-10, 1 - 1e-7)
                noisy[row] = noisy[row] / request.temperature - (-uniform.log()).log().to(scores.device)
        return noisy


def sample(
    loaded: Loaded, requests: Sequence[Request], cache: ReplyCache, *, batch: int = 32, label: str = "sample"
) -> list[Reply]:
    """One reply a request, in order; those already in the cache are not asked again."""
    name = loaded.subject.digest()
    keys = [cache.key(name, request) for request in requests]
    replies = {key: found for key in dict.fromkeys(keys) if (found := cache.get(key))}
    todo = {key: request for key, request in zip(keys, requests, strict=True) if key not in replies}
    waiting = sorted(
        todo.items(), key=lambda item: (item[1].max_tokens, len(loaded.chat.prompt(item[1].messages)), item[0])
    )
    if waiting:
        prompts = [loaded.chat.prompt(request.messages) for request in todo.values()]
        longest = max(len(p) + r.max_tokens for p, r in zip(prompts, todo.values(), strict=True))
        rows = max(1, min(batch, CACHED_POSITIONS // longest))
        prefix = _shared(loaded.model, prompts)
        with meter(label, len(waiting)) as progress:
            for start in range(0, len(waiting), rows):
                part = dict(waiting[start : start + rows])
                tokens = generate(loaded.model, loaded.chat, list(part.values()), prefix)
                made = {key: _reply(loaded.chat, reply) for key, reply in zip(part, tokens, strict=True)}
                cache.put(made)
                replies |= made
                progress.advance(len(made), tokens=sum(reply.num_tokens for reply in made.values()))
    return [replies[key] for key in keys]


@torch.no_grad()
def _shared(model: Model, prompts: Sequence[tuple[int, ...]]) -> Prefix:
    """Keys and values of what all prompts begin with (a system prompt), at least one token left to each."""
    length = scoring.common_prefix([Rendered(p, (*[False] * (len(p) - 1), True)) for p in prompts])
    return scoring.read_prefix(model, prompts[0][:length]) if length else NO_PREFIX


@torch.no_grad()
def generate(
    model: Model, chat: Chat, requests: Sequence[Request], prefix: Prefix = NO_PREFIX
) -> list[tuple[int, ...]]:
    """New tokens of each request in one batch, the stop token included where it came within the request's limit.

    Runs through transformers' generate: the shared prefix, then padding, then each row's own prompt.
    """
    prompts = [chat.prompt(request.messages) for request in requests]
    width, shared = max(map(len, prompts)), prefix.length
    pad, stop = int(chat.tokenizer.pad_token_id or 0), stop_token(chat)
    gaps = [width - len(p) for p in prompts]
    rows = [[*p[:shared], *[pad] * gap, *p[shared:]] for p, gap in zip(prompts, gaps, strict=True)]
    reads = [[1] * shared + [0] * gap + [1] * (width - shared - gap) for gap in gaps]
    ids, attention = (torch.tensor(table, device=model.device) for table in (rows, reads))
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        max_new_tokens=max(r.max_tokens for r in requests),
        pad_token_id=pad,
        eos_token_id=stop,
        bos_token_id=chat.tokenizer.bos_token_id,
    )
    run: Any = model.generate
    out = run(
        input_ids=ids,
        attention_mask=attention,
        past_key_values=prefix.cache(len(requests)) if shared else None,
        generation_config=settings,
        logits_processor=LogitsProcessorList([GumbelNoise(requests)]),
    )
    return [_cut(row[width:].tolist(), request.max_tokens, stop) for row, request in zip(out, requests, strict=True)]


def stop_token(chat: Chat) -> int:
    """The token that ends a reply."""
    return int(chat.tokenizer.eos_token_id or 0)


def _cut(tokens: list[int], limit: int, stop: int) -> tuple[int, ...]:
    """A row's new tokens up to its first stop token or to its own limit: batch-mates may have wanted more."""
    end = tokens.index(stop) + 1 if stop in tokens else len(tokens)
    return tuple(tokens[: min(end, limit)])


def _reply(chat: Chat, tokens: Sequence[int]) -> Reply:
    """A reply from its tokens."""
    stopped = bool(tokens) and tokens[-1] == stop_token(chat)
    said = list(tokens[: len(tokens) - stopped])
    text = str(chat.tokenizer.decode(said, skip_special_tokens=True)).strip()
    return Reply(text=text, num_tokens=len(said), finish="stop" if stopped else "length")
