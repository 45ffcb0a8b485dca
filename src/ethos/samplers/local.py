"""Text from a subject in memory, seeded by request; a place that falls free is taken by the next request.

Sampling is `argmax(logits / T + Gumbel noise)` with noise drawn from each request's own seed, which
is exact sampling from softmax(logits / T); so a request's text depends on its seed, not on the
requests it happens to run beside (up to rounding of the batched matrix products).

Prompts are read as tries (see scoring.py). What has been read of a reply under way is a row of keys and values that
ends at the last column, so that rows of any length stand side by side, come when there is room and go when they end.

Shape suffixes: R = rows, H = heads, W = columns, D = hidden, V = vocabulary; keys and values are (R, H, W, D).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from ethos import scoring
from ethos.chat import Chat, Rendered
from ethos.errors import DataError
from ethos.models import Loaded
from ethos.progress import meter
from ethos.records import Record
from ethos.samplers.replies import Reply, ReplyCache, Request
from ethos.samplers.thinking import Thinking
from ethos.scoring import Layers, Model, Prefix

CACHED_POSITIONS = 12_288
"""Positions whose keys and values may be held at a time: what bounds the memory of sampling."""

COLUMNS_AHEAD = 32
"""Columns that rows of keys and values have room for before they are copied to a wider place."""

NO_PREFIX = Prefix(0, ())


class LocalTeacher(Record):
    """A subject on this machine that is asked as a teacher."""

    subject: str
    thinking: Thinking = "strip"
    """What becomes of the thoughts before a reply."""
    thought_tokens: int = Field(0, ge=0)
    """Room for them in every request, beside that for the reply."""


class Draft:
    """A reply under way."""

    def __init__(self, place: int, request: Request, prompt: tuple[int, ...]) -> None:
        self.place, self.limit, self.prompt = place, request.max_tokens, prompt
        self.runs_on = request.runs_on
        self.temperature, self.stream = request.temperature, torch.Generator().manual_seed(request.seed)
        self.tokens: list[int] = []

    @property
    def length(self) -> int:
        """Columns of its row: every token but the last, which is yet to be read."""
        return len(self.prompt) + len(self.tokens) - 1

    def goes_on(self, chat: Chat) -> bool:
        """Whether it has neither said its last word nor reached its limit."""
        return len(self.tokens) < self.limit and (self.runs_on or not turn_ends(chat, self.tokens))


def next_tokens(drafts: Sequence[Draft], logits_RV: Tensor) -> list[int]:
    """A sampled token for each draft, the likeliest at temperature 0; a row's noise is of its own stream."""
    noisy_RV = logits_RV.float()
    if hot := [row for row, draft in enumerate(drafts) if draft.temperature > 0]:
        noise_HV = torch.empty(len(hot), logits_RV.shape[1])
        for row, place in enumerate(hot):
            torch.rand(logits_RV.shape[1], generator=drafts[place].stream, out=noise_HV[row])
        gumbel_HV = noise_HV.to(logits_RV.device).clamp_(1e-10, 1 - 1e-7).log_().neg_().log_().neg_()
        temperature_H1 = noisy_RV.new_tensor([[drafts[place].temperature] for place in hot])
        noisy_RV = noisy_RV.index_copy(
            0, torch.tensor(hot, device=noisy_RV.device), noisy_RV[hot] / temperature_H1 + gumbel_HV
        )
    return [int(token) for token in noisy_RV.argmax(-1).tolist()]


class Columns(DynamicLayer):  # type: ignore[no-untyped-call]  # transformers gives its caches no types
    """One layer's keys and values (R, H, W, D) with room to the right, where what is read is written in place."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lazy_initialization(keys, values)
        self.wide, self.filled = (keys, values), keys.shape[2]
        self.keys, self.values = self.wide

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """All keys and values, those of the new positions last."""
        start, self.filled = self.filled, self.filled + key_states.shape[2]
        keys, values = self.wide
        if self.filled > keys.shape[2]:
            more = (0, 0, 0, self.filled - start + COLUMNS_AHEAD)
            keys, values = F.pad(keys[:, :, :start], more), F.pad(values[:, :, :start], more)
        keys[:, :, start : self.filled] = key_states
        values[:, :, start : self.filled] = value_states
        self.wide = (keys, values)
        self.keys, self.values = keys[:, :, : self.filled], values[:, :, : self.filled]
        return self.keys, self.values


def sample(
    loaded: Loaded, requests: Sequence[Request], cache: ReplyCache, *, batch: int = 64, label: str = "sample"
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
    prompts = [chat.prompt(request.messages) for request in requests]
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
    live, table = list[Draft](), side_by_side([])
    while waiting or live:
        if waiting and len(live) <= rows // 2:  # prompts are read together, not one by one as places fall free
            fresh, waiting = waiting[: rows - len(live)], waiting[rows - len(live) :]
            logits_RV, table = read_prompts(model, fresh, prefix, table)
            live += fresh
        else:
            fresh = live
            logits_RV = read_words(model, live, table)
        for draft, token in zip(fresh, next_tokens(fresh, logits_RV), strict=True):
            draft.tokens.append(token)
        yield from ((draft.place, tuple(draft.tokens)) for draft in live if not draft.goes_on(chat))
        kept = [row for row, draft in enumerate(live) if draft.goes_on(chat)]
        if len(kept) < len(live):
            live = [live[row] for row in kept]
            width = max((draft.length for draft in live), default=0)
            layers = scoring.layers_of(table)
            table = side_by_side([tuple((k[kept, :, -width:], v[kept, :, -width:]) for k, v in layers)] if live else [])


def _shared(model: Model, prompts: Sequence[tuple[int, ...]]) -> Prefix:
    """Keys and values of what all prompts begin with (a system prompt), at least one token left to each."""
    length = scoring.common_prefix([Rendered(p, (*[False] * (len(p) - 1), True)) for p in prompts])
    return scoring.read_prefix(model, prompts[0][:length]) if length else NO_PREFIX


def read_prompts(model: Model, drafts: Sequence[Draft], prefix: Prefix, table: Cache) -> tuple[Tensor, Cache]:
    """Logits (R, V) after each draft's prompt, and the table with a row more for each."""
    rest = [Rendered(draft.prompt[prefix.length :], (False,) * (len(draft.prompt) - prefix.length)) for draft in drafts]
    last, rows = list[Tensor](), list[Layers]()
    for packed in scoring.pack(rest):
        cache = prefix.cache() if prefix.length else DynamicCache()
        hidden_ND = scoring.read(model, packed, prefix.length, cache)
        for path in packed.paths:
            last.append(hidden_ND[path[-1]])
            own = torch.cat([torch.arange(prefix.length), prefix.length + path]).to(hidden_ND.device)
            rows.append(tuple((keys[:, :, own], values[:, :, own]) for keys, values in scoring.layers_of(cache)))
    before = scoring.layers_of(table)
    return scoring.head_logits(model, torch.stack(last)), side_by_side([*([before] if before else []), *rows])


def side_by_side(parts: Sequence[Layers]) -> Cache:
    """The rows of every part in one table, each ending at its last column."""
    width = max((part[0][0].shape[2] for part in parts), default=0)

    def joined(rows: Sequence[Tensor]) -> Tensor:
        return torch.cat([F.pad(row, (0, 0, width - row.shape[2], 0)) for row in rows])

    layers = zip(*parts, strict=True)
    return Cache(layers=[Columns(joined([k for k, _ in rows]), joined([v for _, v in rows])) for rows in layers])


def read_words(model: Model, drafts: Sequence[Draft], table: Cache) -> Tensor:
    """Logits (R, V) after each draft's last token, of which the table keeps a column."""
    device, width = model.device, table.get_seq_length() + 1
    length_R = torch.tensor([draft.length for draft in drafts], device=device)
    seen_RW = torch.arange(width, device=device) >= width - 1 - length_R[:, None]
    hidden_RD = model.get_decoder()(
        input_ids=torch.tensor([[draft.tokens[-1]] for draft in drafts], device=device),
        position_ids=length_R[:, None],
        attention_mask=seen_RW[:, None, None],
        past_key_values=table,
        use_cache=True,
    ).last_hidden_state[:, 0]
    return scoring.head_logits(model, hidden_RD)


def turn_ends(chat: Chat, tokens: Sequence[int]) -> bool:
    """Whether a reply has just come to its end-of-turn token, or to words that end it too."""
    if tokens[-1] == stop_token(chat):
        return True
    return chat.stop is not None and chat.stop in chat.tokenizer.decode(list(tokens[-2 * len(chat.stop) :]))


def stop_token(chat: Chat) -> int:
    """The token that ends a reply."""
    return int(chat.tokenizer.eos_token_id or 0)


def _reply(chat: Chat, tokens: Sequence[int]) -> Reply:
    """A reply from its tokens."""
    stopped = bool(tokens) and turn_ends(chat, tokens)
    said = list(tokens[:-1] if tokens and tokens[-1] == stop_token(chat) else tokens)
    text = str(chat.tokenizer.decode(said, skip_special_tokens=True))
    if stopped and chat.stop and chat.stop in text:
        text = text[: text.rindex(chat.stop)]
    return Reply(text=text.strip(), num_tokens=len(said), finish="stop" if stopped else "length")
