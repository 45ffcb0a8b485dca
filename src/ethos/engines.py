"""Where the cells of a study are run: here in turn, in a pool of processes, or as tasks of a Ray cluster.

A cell and its outcome are all that travels: settings there, and back the reason why it cannot be run, if there is one.
Artefacts go through the study's folder, which every process must see. A process that dies takes only its own cell with
it, and that is run again, from the stage that it was in.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import Literal, NamedTuple

import torch

from ethos.design import Cell
from ethos.errors import ConfigError, UserError

Work = Callable[[Cell], UserError | None]
"""Runs one cell; the reason where it cannot be run. It must be picklable."""
Outcome = tuple[Cell, UserError | None]
ATTEMPTS = 3
"""How often a cell is run whose process dies under it and nobody else."""


class Engine(NamedTuple):
    """Where to run, and how much at a time."""

    kind: Literal["local", "ray"] = "local"
    workers: int = 1
    """local: processes that share the processor."""
    cpus: float = 1.0
    """ray: processors that a cell takes."""
    gpus: float = 0.0
    """ray: accelerators that a cell takes; a part of one lets several cells share it."""
    address: str = "local"
    """ray: a running cluster's; `local` starts one here and ends it afterwards."""


class EngineError(UserError):
    """Processes that cannot be had, or died."""


def outcomes(engine: Engine, todo: Sequence[Cell], work: Work) -> Iterator[Outcome]:
    """Every cell with what became of it, each as soon as it is done."""
    if engine.kind == "ray":
        return on_ray(engine, todo, work)
    return in_pool(engine.workers, todo, work) if engine.workers > 1 else ((cell, work(cell)) for cell in todo)


def in_pool(workers: int, todo: Sequence[Cell], work: Work) -> Iterator[Outcome]:
    """In processes that share the processor's threads.

    Matrix products round differently with another number of threads, so a pool's last digits may differ. A pool ends
    with the first process that dies, and does not say whose it was: the cells that were being run are then run one by
    one, and a fresh pool takes what is left.
    """
    threads, left = max(1, torch.get_num_threads() // workers), list(todo)
    while left:
        with _pool(workers, threads) as pool:
            running = {pool.submit(work, cell): cell for cell in left}
            for future in as_completed(running):
                if not isinstance(future.exception(), BrokenProcessPool):
                    left.remove(running[future])
                    yield running[future], future.result()
        suspects, left = left[:workers], left[workers:]  # cells are handed out in order
        for cell in suspects:
            yield cell, _alone(cell, work, threads)


def _alone(cell: Cell, work: Work, threads: int) -> UserError | None:
    """What becomes of a cell in a process of its own; the death that brought it here may have been another's."""
    for _ in range(ATTEMPTS):
        with _pool(1, threads) as pool:
            future = pool.submit(work, cell)
            if not isinstance(future.exception(), BrokenProcessPool):
                return future.result()
    return _died()


def _pool(workers: int, threads: int) -> ProcessPoolExecutor:
    """Workers forked from one process that has imported everything and run nothing: they start at once."""
    processes = get_context("forkserver")
    processes.set_forkserver_preload(["ethos.study"])
    return ProcessPoolExecutor(workers, processes, _begin, (threads,))


def _begin(threads: int) -> None:
    """A new worker: so many threads, and no life beyond the study's, which may be killed and begun again."""
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)  # in the middle of what it does: a run takes up what was killed


def _died() -> EngineError:
    return EngineError(
        f"its process died {ATTEMPTS} times without a word",
        hint="most often memory ran out: give --workers 1, or lower optimisation.pack_positions",
    )


def on_ray(engine: Engine, todo: Sequence[Cell], work: Work) -> Iterator[Outcome]:
    """As tasks of a Ray cluster, where ethos and the study's folder must be at the same place on every machine."""
    try:
        import ray
    except ImportError as error:
        raise EngineError("Ray is not installed", hint="pip install 'ethos[ray]'") from error
    try:
        ray.init(address=engine.address, log_to_driver=False)
    except Exception as error:  # Ray raises bare ones where a node does not come up in time
        raise EngineError(
            f"Ray does not answer at {engine.address!r}: {str(error).splitlines()[0]}",
            hint="--address names a running cluster; a local one needs a processor that is not all taken",
        ) from error
    try:
        have = ray.cluster_resources()
        for name, wanted in (("CPU", engine.cpus), ("GPU", engine.gpus)):
            if wanted > have.get(name, 0):
                raise ConfigError(f"a cell would take {wanted:g} {name}, and the cluster has {have.get(name, 0):g}")
        needs = {"num_cpus": engine.cpus, "num_gpus": engine.gpus, "max_retries": ATTEMPTS - 1}
        task = ray.remote(**needs)(lambda cell: work(cell))  # Ray takes functions, and `work` may be a partial
        running = {task.remote(cell): cell for cell in todo}
        while running:
            (done,), _ = ray.wait([*running], num_returns=1)
            cell = running.pop(done)
            try:
                fault: UserError | None = ray.get(done)
            except ray.exceptions.WorkerCrashedError:
                fault = _died()
            yield cell, fault
    finally:
        ray.shutdown()
