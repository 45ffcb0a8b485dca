"""Log-probabilities of continuations: the one kernel under training, readouts and KL.

Sequences that share a beginning share its computation. A pack is a *token trie*: every distinct
prefix among its sequences is one position, whatever number of replies, prompts or system
prompts it stands under. Position ids are depths, and a position attends to its ancestors only,
so each sequence sees exactly what it would see alone. A prompt with four replies, two situations
that begin alike, and the system prompt of a whole batch are computed once, and nothing is padded.

The vocabulary head runs only on positions whose successor is scored, and logits are never held: a block of them at
a time becomes log-probabilities and, in training, their gradients. Scoring reads what all sequences share once per
call and keeps its keys and values.

In bfloat16 a token's log-probability is off from float32's by less than 0.5 nats (SmolLM2-135M, 254 tokens: 0.06 root
mean square, 0.23 at most, 0.02 over a reply's mean).

Shape suffixes: N = trie positions, S = scored positions, P = their distinct parents, D = hidden, V = vocabulary.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from ethos.chat import Rendered

Model = PreTrainedModel | PeftModel
"""A model to score with, with or without an adapter."""

MAX_POSITIONS = 512
"""Trie positions a pack may hold: large enough for fast matrix products, small enough for memory."""
LOGITS_HELD = 2**24
"""Logits in memory at once (64 MiB in float32), however large the vocabulary."""


class Pack(NamedTuple):
    """Sequences merged into one token trie, ready for a forward pass."""

    tokens_N: Tensor
    depth_N: Tensor
    attends_NN: Tensor
    """True where the column is the row's ancestor, or the row itself."""
    parents_P: Tensor
    """Distinct positions whose next token is scored."""
    nodes_S: Tensor
    """Trie position of each scored token."""
    head_S: Tensor
    """Index into `parents_P` of each scored position's parent."""
    target_S: Tensor
    """Token at each scored position."""
    scored: tuple[NDArray[np.int64], ...]
    """For each sequence, the indices into S of its scored tokens, in order."""
    sequences: tuple[int, ...]
    """For each sequence, its place in the list that was packed."""
    paths: tuple[Tensor, ...]
    """For each sequence, the trie positions of its tokens."""


class Trie:
    """Token sequences merged by common prefix, grown one sequence at a time."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parent: list[int] = []
        self.children: dict[tuple[int, int], int] = {}

    def add(self, tokens: Sequence[int]) -> list[int]:
        """Insert a sequence; return the position of each of its tokens."""
        path, node = [], -1
        for token in tokens:
            child = self.children.get((node, token))
            if child is None:
                child = len(self.tokens)
                self.children[node, token] = child
                self.tokens.append(token)
                self.parent.append(node)
            path.append(node := child)
        return path

    def truncate(self, size: int) -> None:
        """Take back the latest insertions, down to `size` positions."""
        while len(self.tokens) > size:
            self.children.popitem()  # dicts keep insertion order: one entry a position
            self.tokens.pop()
            self.parent.pop()


def pack(
    sequences: Sequence[Rendered], groups: Sequence[Sequence[int]] | None = None, *, limit: int = MAX_POSITIONS
) -> Iterator[Pack]:
    """Merge sequences into tries of at most `limit` positions, keeping each group in one trie.

    `groups` lists indices that must share a pack (default: each sequence alone); order is kept.
    A group larger than `limit` gets a pack of its own: nothing is cut.
    """
    trie, paths = Trie(), dict[int, list[int]]()
    for group in groups if groups is not None else [[i] for i in range(len(sequences))]:
        size = len(trie.tokens)
        added = {i: trie.add(sequences[i].tokens) for i in group}
        if paths and len(trie.tokens) > limit:
            trie.truncate(size)
            yield _finish(trie, paths, sequences)
            trie, paths = Trie(), {}
            added = {i: trie.add(sequences[i].tokens) for i in group}
        paths |= added
    if paths:
        yield _finish(trie, paths, sequences)


def _finish(trie: Trie, paths: dict[int, list[int]], sequences: Sequence[Rendered]) -> Pack:
    """The tensors of a trie."""
    count = len(trie.tokens)
    attends = np.zeros((count, count), dtype=bool)
    depth = np.zeros(count, dtype=np.int64)
    for node, parent in enumerate(trie.parent):
        if parent >= 0:
            attends[node] = attends[parent]
            depth[node] = depth[parent] + 1
        attends[node, node] = True
    picked = {
        i: [node for node, learnt in zip(path, sequences[i].mask, strict=True) if learnt] for i, path in paths.items()
    }
    nodes = sorted({node for path in picked.values() for node in path})
    place = {node: index for index, node in enumerate(nodes)}
    parents = sorted({trie.parent[node] for node in nodes})
    assert not parents or parents[0] >= 0, "the first token of a sequence has no context to be scored in"
    parent_place = {node: index for index, node in enumerate(parents)}
    return Pack(
        tokens_N=torch.tensor(trie.tokens),
        depth_N=torch.from_numpy(depth),
        attends_NN=torch.from_numpy(attends),
        parents_P=torch.tensor(parents, dtype=torch.long),
        nodes_S=torch.tensor(nodes, dtype=torch.long),
        head_S=torch.tensor([parent_place[trie.parent[node]] for node in nodes], dtype=torch.long),
        target_S=torch.tensor([trie.tokens[node] for node in nodes], dtype=torch.long),
        scored=tuple(np.array([place[node] for node in path], dtype=np.int64) for path in picked.values()),
        sequences=tuple(paths),
        paths=tuple(torch.tensor(path) for path in paths.values()),
    )


def positions(sequences: Sequence[Rendered]) -> int:
    """Trie positions that these sequences take together."""
    trie = Trie()
    for sequence in sequences:
        trie.add(sequence.tokens)
    return len(trie.tokens)


Layers = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values of what was read, layer by layer: (rows, heads, positions, D) each."""


class Prefix(NamedTuple):
    """Keys and values of tokens that every sequence begins with."""

    length: int
    layers: Layers

    def cache(self) -> DynamicCache:
        """A fresh cache to continue from: a forward pass appends to its own copy."""
        return DynamicCache(ddp_cache_data=self.layers)


def hidden_states(model: Model, packed: Pack, prefix: Prefix | None = None) -> Tensor:
    """Final hidden states (P, D) at the positions whose next token is scored."""
    hidden_ND = read(model, packed, prefix.length if prefix else 0, prefix.cache() if prefix else None)
    return hidden_ND[packed.parents_P.to(hidden_ND.device)]


def read(model: Model, packed: Pack, before: int, cache: DynamicCache | None) -> Tensor:
    """Final hidden states (N, D) of a trie that continues `before` tokens in a cache, which it is appended to.

    On a bfloat16 base an adapter multiplies in bfloat16 too; its factors and their gradients stay float32 (mixed
    precision: Micikevicius et al. 2017, arXiv:1710.03740).
    """
    device, attends = model.device, packed.attends_NN
    if before:
        attends = torch.cat([attends.new_ones(len(attends), before), attends], dim=1)
    dtype = model.get_output_embeddings().weight.dtype
    with torch.autocast(device.type, dtype, enabled=dtype == torch.bfloat16):
        hidden_ND: Tensor = model.get_decoder()(
            input_ids=packed.tokens_N[None].to(device),
            position_ids=packed.depth_N[None].to(device) + before,
            attention_mask=attends[None, None].to(device),
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state[0]
    return hidden_ND


def head_logits(model: Model, hidden_PD: Tensor) -> Tensor:
    """Vocabulary logits (P, V) in float32."""
    logits_PV: Tensor = model.get_output_embeddings()(hidden_PD)
    return logits_PV.float()


def token_logprobs(model: Model, packed: Pack, prefix: Prefix | None = None) -> Tensor:
    """log p (nats) of each scored position's token given its ancestors: (S,), differentiable."""
    return head_logprobs(model, hidden_states(model, packed, prefix), packed)


def head_logprobs(model: Model, hidden_PD: Tensor, packed: Pack) -> Tensor:
    """log p (nats) of the scored tokens, from the hidden states before them: (S,), differentiable in these.

    The head is frozen. With h its input, w_v its rows and p their softmax, ∂ log p_t / ∂h = w_t − Σ_v p_v w_v, which
    is known before the backward pass: so it is taken block by block, and no logit outlives its block.
    """
    device = hidden_PD.device
    where = packed.head_S.to(device), packed.target_S.to(device)
    logprobs_S: Tensor = _HeadLogprobs.apply(hidden_PD, model.get_output_embeddings(), *where)  # type: ignore[no-untyped-call]
    return logprobs_S


class _HeadLogprobs(torch.autograd.Function):
    """See `head_logprobs`."""

    @staticmethod
    def forward(ctx: Any, hidden_PD: Tensor, head: torch.nn.Linear, head_S: Tensor, target_S: Tensor) -> Tensor:
        learns = ctx.needs_input_grad[0]
        assert not learns or (isinstance(head, torch.nn.Linear) and not head.weight.requires_grad), "a frozen head"
        total_P, picked_S, expected = [], hidden_PD.new_empty(len(head_S), dtype=torch.float32), []
        size = max(1, LOGITS_HELD // head.weight.shape[0])
        for start in range(0, len(hidden_PD) or 1, size):
            logits_BV = head(hidden_PD[start : start + size]).float()
            here = (head_S >= start) & (head_S < start + size)
            picked_S[here] = logits_BV[head_S[here] - start, target_S[here]]
            total_P.append(logits_BV.logsumexp(-1))
            if learns:
                p_BV = logits_BV.sub_(total_P[-1][:, None]).exp_()
                expected.append(p_BV.to(head.weight.dtype) @ head.weight)
        if learns:
            ctx.save_for_backward(head.weight, torch.cat(expected), head_S, target_S)
        return picked_S - torch.cat(total_P)[head_S]

    @staticmethod
    def backward(ctx: Any, grad_S: Tensor) -> tuple[Tensor, None, None, None]:
        weight_VD, expected_PD, head_S, target_S = ctx.saved_tensors
        towards_SD = grad_S[:, None] * (weight_VD[target_S] - expected_PD[head_S]).float()
        grad_PD = towards_SD.new_zeros(expected_PD.shape).index_add_(0, head_S, towards_SD)
        return grad_PD.to(expected_PD.dtype), None, None, None


def picked_logprobs(logits_PV: Tensor, packed: Pack) -> Tensor:
    """log p (nats) of the scored tokens: (S,)."""
    device = logits_PV.device
    head_S, target_S = packed.head_S.to(device), packed.target_S.to(device)
    return logits_PV[head_S, target_S] - logits_PV.logsumexp(-1)[head_S]


@torch.no_grad()
def score(
    model: Model,
    sequences: Sequence[Rendered],
    *,
    limit: int = MAX_POSITIONS,
    prefix: Prefix | None = None,
) -> list[NDArray[np.float64]]:
    """Per-token log-probabilities (nats) of each sequence's scored tokens.

    Tokens that all sequences begin with (a system prompt) are computed once, unless a `prefix` of them was read
    before. The rest is visited in lexicographic order, so that sequences with a common beginning meet in one pack;
    the result is in the order given.
    """
    if not sequences:
        return []
    common = common_prefix(sequences)
    if prefix:
        assert prefix.length <= common, "sequences do not all go on from the prefix"
        common = prefix.length
    elif common:
        prefix = read_prefix(model, sequences[0].tokens[:common])
    rest = [Rendered(sequence.tokens[common:], sequence.mask[common:]) for sequence in sequences]
    result: dict[int, NDArray[np.float64]] = {}
    order = sorted(range(len(rest)), key=lambda i: rest[i].tokens)
    for packed in pack(rest, [[i] for i in order], limit=limit):
        logprobs = token_logprobs(model, packed, prefix).double().cpu().numpy()
        for index, where in zip(packed.sequences, packed.scored, strict=True):
            result[index] = logprobs[where]
    return [result[i] for i in range(len(sequences))]


def context(model: Model) -> int | None:
    """Tokens that a model was made to read at once; None where its configuration does not say."""
    found = getattr(model.config, "max_position_embeddings", None)
    return int(found) if found else None


@torch.no_grad()
def score_logits(model: Model, sequences: Sequence[Rendered], *, limit: int = MAX_POSITIONS) -> list[Tensor]:
    """Vocabulary logits (T, V) in float32 that predict each sequence's scored tokens, in the order given.

    For teachers and divergences on a few sequences: all of it is held in memory.
    """
    result: dict[int, Tensor] = {}
    for packed in pack(sequences, limit=limit):
        logits_PV = head_logits(model, hidden_states(model, packed))
        for index, where in zip(packed.sequences, packed.scored, strict=True):
            result[index] = logits_PV[packed.head_S[torch.from_numpy(where)].to(logits_PV.device)]
    return [result[i] for i in range(len(sequences))]


def common_prefix(sequences: Sequence[Rendered]) -> int:
    """Number of tokens that all sequences begin with and that no score needs the state of."""
    if not sequences:
        return 0
    low, high = min(s.tokens for s in sequences), max(s.tokens for s in sequences)
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    first_scored = min(s.mask.index(True) if any(s.mask) else len(s.mask) for s in sequences)
    return max(0, min(shared, first_scored - 1))


@torch.no_grad()
def read_prefix(model: Model, tokens: Sequence[int]) -> Prefix:
    """Keys and values of a common beginning."""
    cache = DynamicCache()
    model.get_decoder()(input_ids=torch.tensor([tokens], device=model.device), past_key_values=cache, use_cache=True)
    return Prefix(len(tokens), layers_of(cache))


def layers_of(cache: Any) -> Layers:
    """What a cache holds, after a pass that appended to it."""
    return tuple((layer.keys, layer.values) for layer in cache.layers)
