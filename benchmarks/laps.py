"""A subprocess a side, one lap at a time at its parent's word, so that peers interleave and memory is each one's.

The parent writes a line for each lap and waits for its result; between laps a side sleeps. Loading a model and the
first lap, which warms up, are never counted.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any

from pydantic import TypeAdapter

from ethos.records import Record

LONGEST = 1500.0
"""Seconds after which a side is taken for hung."""
ROOT = Path(__file__).parent.parent


class Ready(Record):
    """A side has loaded what it needs."""

    inputs: str
    """Hash of what it will work on: equal on every side."""


class Lap(Record):
    """One lap."""

    seconds: float
    work: float
    """Tokens, rows or floating-point operations: what a row counts."""


class Finished(Record):
    """A side's last word."""

    values: list[float]
    """Losses, log-likelihoods or tokens, in order: equal on every side, up to rounding."""
    memory_mib: float
    """Peak memory of the whole process; of the accelerator where there is one."""


Word = Ready | Lap | Finished
WORDS: TypeAdapter[Word] = TypeAdapter(Word)


class Over(Exception):
    """The parent wants no further lap."""


class Gate:
    """What a side passes before and after each lap."""

    def __init__(self, wait: Callable[[], bool], tell: Callable[[Word], None]) -> None:
        self.wait, self.tell = wait, tell
        self.values: list[float] = []
        self.began = 0.0

    def ready(self, inputs: str) -> None:
        """Tell that the first lap can begin."""
        self.tell(Ready(inputs=inputs))

    def begin(self) -> None:
        """Wait for the word to go. Raises Over when there is to be no further lap."""
        if not self.wait():
            raise Over
        self.began = time.perf_counter()

    def end(self, work: float) -> None:
        """Tell how long the lap took."""
        settle()
        self.tell(Lap(seconds=time.perf_counter() - self.began, work=work))


def settle() -> None:
    """Wait until an accelerator has done what it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def memory_mib() -> float:
    """Peak memory (MiB): of the accelerator where there is one, else of this process since it began."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    # Not getrusage: its peak of a child starts at what the parent held.
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


class Worker:
    """A side in its own process, as its parent sees it."""

    def __init__(self, job: Record, log: Path, scratch: Path) -> None:
        self.log, self.laps = log, list[Lap]()
        environment = os.environ | {
            "HF_HOME": str(scratch / "hub"),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0"),
        }
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker", job.model_dump_json()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env=environment,
            )
        self.watch = Timer(LONGEST, self.process.kill)
        self.watch.daemon = True
        self.watch.start()

    def inputs(self) -> str:
        """Wait until it has loaded what it needs; the hash of what it will work on."""
        ready = self._heard()
        assert isinstance(ready, Ready), ready
        return ready.inputs

    def lap(self) -> Lap:
        """Let it run one lap."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        lap = self._heard()
        assert isinstance(lap, Lap), lap
        self.laps.append(lap)
        return lap

    def finish(self) -> Finished:
        """Let it end, and hear its last word."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        finished = self._heard()
        assert isinstance(finished, Finished), finished
        self.process.wait()
        return finished

    def stop(self) -> None:
        """End it, whatever it is doing."""
        self.watch.cancel()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):  # a word that it never read
                    pipe.close()

    def _heard(self) -> Word:
        """Its next word. Raises RuntimeError with the end of its log when it died."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            said = [text for text in self.log.read_text(errors="replace").splitlines() if text.strip()]
            raise RuntimeError(f"{said[-1] if said else 'died without a word'} (see {self.log})")
        return WORDS.validate_python(json.loads(line))


def parent_gate() -> Gate:
    """The gate of a subprocess. What libraries print goes to its log."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(word: Any) -> None:
        print(word.model_dump_json(), file=channel, flush=True)

    return Gate(lambda: bool(sys.stdin.readline()), tell)
