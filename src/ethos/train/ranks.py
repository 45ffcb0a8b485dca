"""More than one process: `torchrun --nproc-per-node N -m ethos run FILE`.

Rank 0 runs the experiment as if it were alone: it alone holds the lock, writes files, samples outside training and
measures. The other ranks follow: they wait for a training, take their part in it, and wait again.

    units of a step      divided, balanced by trie positions; gradients and the log are sums over ranks
    sampled replies      divided, then known to every rank; each request has its own seed, so texts stay the same
    adapter, optimiser   the same on every rank: a checkpoint of rank 0 resumes them all, or another number of them

A base that does not fit one device is divided too (`optimisation.shard`, FSDP2: Zhao et al. 2023, arXiv:2304.11277, as
`fully_shard` of torch): each rank keeps a part of every frozen layer and all gather a layer when they come to it. They
must come to it together, so sampling and scoring before a step are then done by each rank for itself.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from peft import PeftModel
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, fully_shard

from ethos.errors import ConfigError
from ethos.steering import decoder_layers

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = timedelta(days=30)
"""How long a rank waits for the others: rank 0 may measure for hours."""


@contextmanager
def joined() -> Iterator[bool]:
    """Join the other processes of torchrun, where there are any; whether this one leads."""
    if not dist.is_torchelastic_launched():
        yield True
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(dist.get_node_local_rank())
    dist.init_process_group(timeout=PATIENCE)
    try:
        yield leads()
        if leads():
            _broadcast(None)
    finally:
        dist.destroy_process_group()


def count() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def leads() -> bool:
    """Whether this is rank 0, which alone writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def everywhere(work: Callable[[], None]) -> None:
    """Called by rank 0: every rank does this work, which must be picklable."""
    if count() > 1:
        _broadcast(work)
    work()


def follow() -> None:
    """What every other rank does: the work that rank 0 hands out, until it is done."""
    while (work := _broadcast(None)) is not None:
        work()


def _broadcast(work: Callable[[], None] | None) -> Callable[[], None] | None:
    """Rank 0's work, on every rank."""
    box = [work]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gathered(own: T) -> list[T]:
    """Every rank's value, in the order of ranks."""
    if count() == 1:
        return [own]
    box: list[Any] = [None] * count()
    dist.all_gather_object(box, own)
    return box


def shares(sizes: Sequence[int], ranks: int) -> list[list[int]]:
    """Pieces of work of these sizes divided over ranks: the largest first, to whoever has least so far."""
    loads, taken = [0] * ranks, [list[int]() for _ in range(ranks)]
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        rank = loads.index(min(loads))
        loads[rank] += sizes[index]
        taken[rank].append(index)
    return [sorted(own) for own in taken]


def share(sizes: Sequence[int]) -> list[int]:
    """This rank's pieces."""
    return shares(sizes, count())[dist.get_rank() if dist.is_initialized() else 0]


def divided(model: PeftModel, work: Callable[[Sequence[T]], list[R]], items: Sequence[T]) -> list[R]:
    """What `work` makes of each item, in order. Every rank works on a block of them and gets all results."""
    if count() == 1 or sharded(model):
        return work(items)
    size = -(-len(items) // count())
    own = items[dist.get_rank() * size :][:size]
    return [result for part in gathered(work(own) if own else []) for result in part]


def sum_gradients(weights: Sequence[Tensor]) -> None:
    """Make every gradient the sum of those of all ranks."""
    if count() == 1:
        return
    grads = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    for weight, grad in zip(weights, torch.split(flat, [grad.numel() for grad in grads]), strict=True):
        weight.grad = grad.view_as(weight)


def sharded(model: PeftModel) -> bool:
    """Whether the layers of the model are divided over ranks."""
    return isinstance(decoder_layers(model)[0], FSDPModule)


def shard(model: PeftModel) -> None:
    """Divide the frozen layers over ranks. Adapters, embeddings and head stay whole on each; all moves to its device.

    Raises ConfigError where there is nobody to divide them with.
    """
    if not dist.is_initialized():
        raise ConfigError(
            "optimisation.shard divides the base over processes, and there is only this one",
            hint="start it with torchrun --nproc-per-node N -m ethos run FILE",
        )
    whole = {weight for name, weight in model.named_parameters() if "lora_" in name}
    for layer in decoder_layers(model):
        fully_shard(layer, ignored_params=whole)
    whole |= {*model.get_input_embeddings().parameters(), *model.get_output_embeddings().parameters()}
    fully_shard(model.get_decoder(), ignored_params=whole)
    if torch.cuda.is_available():
        model.to("cuda")
