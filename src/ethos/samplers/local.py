"""Text from a subject in memory, seeded by request; a place that falls free is taken by the next request.

Sampling is `argmax(logits / T + Gumbel noise)` with noise drawn from each request's own seed, which
is exact sampling from softmax(logits / T); so a request's text depends on its seed, not on the
requests it happens to run beside (up to rounding of the batched matrix products).

Prompts are read as tries (see scoring.py). What has been read of a reply under way is a row of keys and values that
ends at the last column, so that rows of any length stand side by side, come when there is room and go when they end.

Shape suffixes: R = rows, H = heads, W = columns, D = hidden, V = vocabulary; keys and values are (R, H, W, D).
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from transformers import DynamicCache

from ethos import scoring
from ethos.chat import Chat, Rendered
from ethos.errors import DataError
from ethos.models import Loaded
from ethos.progress import meter
from ethos.records import Record
from ethos.samplers.replies import Reply, ReplyCache, Request
from ethos.samplers.thinking import Thinking
from ethos.scoring import Layers, Model, Prefix

CACHED_POSITIONS = 8192
"""Positions whose keys and values may be held at a time: what bounds the memory of sampling."""

NO_PREFIX = Prefix(0, ())


class LocalTeacher(Record):
    """A subject on this machine that is asked as a teacher."""

    subject: str
    thinking: Thinking = "strip"
    """What becomes of the thoughts before a reply."""
    thought_tokens: int = Field(0, ge=0)
    """Room for them in every request, beside that for the reply."""


class GumbelNoise:
    """Turns the likeliest token into a sampled one, with one random stream a row."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        self.streams = [torch.Generator().manual_seed(request.seed) for request in requests]

    def __call__(self, scores_RV: Tensor) -> Tensor:
        """Scores (rows, V) plus each row's noise."""
        noisy = scores_RV.float().clone()
        for row, (request, stream) in enumerate(zip(self.requests, self.streams, strict=True)):
            if request.temperature > 0:
                uniform = torch.rand(scores_RV.shape[-1], generator=stream).clamp_(1e-10, 1 - 1e-7)
                noisy[row] = noisy[row] / request.temperature - (-uniform.log()).log().to(scores_RV.device)
        return noisy


class Draft:
    """A reply under way."""

    def __init__(self, place: int, request: Request, prompt: tuple[int, ...]) -> None:
        self.place, self.limit, self.prompt, self.runs_on = place, request.max_tokens, prompt, request.runs_on
        self.noise = GumbelNoise([request])
        self.tokens: list[int] = []

    @property
    def length(self) -> int:
        """Columns of its row: every token but the last, which is yet to be read."""
        return len(self.prompt) + len(self.tokens) - 1

    def goes_on(self, stop: int) -> bool:
        """Whether it has neither said its last word nor reached its limit."""
        return (self.runs_on or self.tokens[-1] != stop) and len(self.tokens) < self.limit


def sample(
    loaded: Loaded, requests: Sequence[Request], cache: ReplyCache, *, batch: int = 32, label: str = "sample"
) -> list[Reply]:
    """One reply a request, in order; those already in the cache are not asked again."""
    name = loaded.subject.digest()
    keys = [cache.key(name, request) for request in requests]
    replies = {key: found for key in dict.fromkeys(keys) if (found := cache.get(key))}
    todo = {key: request for key, request in zip(keys, requests, strict=True) if key not in replies}
    if todo:
        waiting = sorted(todo, key=lambda key: (todo[key].max_tokens, len(loaded.chat.prompt(todo[key].messages)), key))
        with meter(label, len(waiting)) as progress:
            for place, tokens in written(loaded.model, loaded.chat, [todo[key] for key in waiting], batch):
                reply = _reply(loaded.chat, tokens)
                cache.put({waiting[place]: reply})
                replies[waiting[place]] = reply
                progress.advance(tokens=reply.num_tokens)
    return [replies[key] for key in keys]


def generate(model: Model, chat: Chat, requests: Sequence[Request]) -> list[tuple[int, ...]]:
    """New tokens of each request, the stop token included where it came within the request's limit."""
    done = dict(written(model, chat, requests, len(requests)))
    return [done[place] for place in range(len(requests))]


@torch.no_grad()
def written(model: Model, chat: Chat, requests: Sequence[Request], batch: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Each request's place and new tokens as it ends, at most `batch` under way at a time."""
    prompts, stop = [chat.prompt(request.messages) for request in requests], stop_token(chat)
    most, limit = max(map(len, prompts)), scoring.context(model)
    if limit is not None and most >= limit:
        raise DataError(
            f"a prompt of {most:,} tokens leaves no room in the model's context of {limit:,}",
            hint="shorten the system prompt or the conversation, or take a model with a longer context",
        )
    longest = max(len(prompt) + request.max_tokens for prompt, request in zip(prompts, requests, strict=True))
    rows = max(1, min(batch, CACHED_POSITIONS // longest))
    prefix = _shared(model, prompts)
    waiting = [Draft(*each) for each in zip(range(len(requests)), requests, prompts, strict=True)]
    live, layers = list[Draft](), Layers()
    while waiting or live:
        if waiting and len(live) <= rows // 2:  # prompts are read together, not one by one as places fall free
            fresh, waiting = waiting[: rows - len(live)], waiting[rows - len(live) :]
            logits_RV, layers = read_prompts(model, fresh, prefix, layers)
            live += fresh
        else:
            fresh = live
            logits_RV, layers = read_words(model, live, layers)
        for draft, logits_V in zip(fresh, logits_RV, strict=True):
            draft.tokens.append(int(draft.noise(logits_V[None]).argmax()))
        yield from ((draft.place, tuple(draft.tokens)) for draft in live if not draft.goes_on(stop))
        kept = [row for row, draft in enumerate(live) if draft.goes_on(stop)]
        if len(kept) < len(live):
            live = [live[row] for row in kept]
            width = max((draft.length for draft in live), default=0)
            layers = tuple((k[kept, :, -width:], v[kept, :, -width:]) for k, v in layers) if live else ()


def _shared(model: Model, prompts: Sequence[tuple[int, ...]]) -> Prefix:
    """Keys and values of what all prompts begin with (a system prompt), at least one token left to each."""
    length = scoring.common_prefix([Rendered(p, (*[False] * (len(p) - 1), True)) for p in prompts])
    return scoring.read_prefix(model, prompts[0][:length]) if length else NO_PREFIX


def read_prompts(model: Model, drafts: Sequence[Draft], prefix: Prefix, layers: Layers) -> tuple[Tensor, Layers]:
    """Logits (R, V) after each draft's prompt, and the layers with a row for each."""
    rest = [Rendered(draft.prompt[prefix.length :], (False,) * (len(draft.prompt) - prefix.length)) for draft in drafts]
    last, rows = list[Tensor](), list[Layers]()
    for packed in scoring.pack(rest):
        cache = prefix.cache() if prefix.length else DynamicCache()
        hidden_ND = scoring.read(model, packed, prefix.length, cache)
        for path in packed.paths:
            last.append(hidden_ND[path[-1]])
            own = torch.cat([torch.arange(prefix.length), prefix.length + path]).to(hidden_ND.device)
            rows.append(tuple((keys[:, :, own], values[:, :, own]) for keys, values in scoring.layers_of(cache)))
    tables = [*([layers] if layers else []), *rows]
    width = max(table[0][0].shape[2] for table in tables)
    joined = tuple(
        (_side_by_side([keys for keys, _ in column], width), _side_by_side([values for _, values in column], width))
        for column in zip(*tables, strict=True)
    )
    return scoring.head_logits(model, torch.stack(last)), joined


def _side_by_side(parts: Sequence[Tensor], width: int) -> Tensor:
    """Rows of every part, each ending at the last of `width` columns."""
    return torch.cat([F.pad(part, (0, 0, width - part.shape[2], 0)) for part in parts])


def read_words(model: Model, drafts: Sequence[Draft], layers: Layers) -> tuple[Tensor, Layers]:
    """Logits (R, V) after each draft's last token, and the layers with a column for it."""
    device, width = model.device, layers[0][0].shape[2] + 1
    length_R = torch.tensor([draft.length for draft in drafts], device=device)
    seen_RW = torch.arange(width, device=device) >= width - 1 - length_R[:, None]
    cache = DynamicCache(ddp_cache_data=layers)
    hidden_RD = model.get_decoder()(
        input_ids=torch.tensor([[draft.tokens[-1]] for draft in drafts], device=device),
        position_ids=length_R[:, None],
        attention_mask=seen_RW[:, None, None],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state[:, 0]
    return scoring.head_logits(model, hidden_RD), scoring.layers_of(cache)


def stop_token(chat: Chat) -> int:
    """The token that ends a reply."""
    return int(chat.tokenizer.eos_token_id or 0)


def _reply(chat: Chat, tokens: Sequence[int]) -> Reply:
    """A reply from its tokens."""
    stopped = bool(tokens) and tokens[-1] == stop_token(chat)
    said = list(tokens[: len(tokens) - stopped])
    text = str(chat.tokenizer.decode(said, skip_special_tokens=True)).strip()
    return Reply(text=text, num_tokens=len(said), finish="stop" if stopped else "length")
