"""Progress of long work: a bar with speed and time left on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 15.0


class Meter:
    """Counts finished work of one stage; made by `meter`."""

    def __init__(self, label: str, total: int, done: int, bar: Progress | None, *, shown: bool = True) -> None:
        self.label, self.total, self.bar, self.shown = label, total, bar, shown
        self.done = self.before = done
        self.tokens = 0
        self.began = self.printed = time.monotonic()
        self.task = bar.add_task(label, total=total, completed=done, note="") if bar else None

    def advance(self, count: int = 1, *, tokens: int = 0, note: str = "") -> None:
        """Record `count` finished units and the tokens they took."""
        self.done += count
        self.tokens += tokens
        now = time.monotonic()
        speed = f"{self.tokens / max(now - self.began, 1e-9):,.0f} tok/s" if self.tokens else ""
        told = " ".join(filter(None, (speed, note)))
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=self.done, note=told)
        elif self.shown and (now - self.printed > SECONDS_BETWEEN_LINES or self.done == self.total):
            left = (now - self.began) / max(self.done - self.before, 1) * (self.total - self.done)
            line = " ".join(filter(None, (f"{self.label}: {self.done}/{self.total}", told, f"({left:.0f} s left)")))
            print(line, file=sys.stderr, flush=True)
            self.printed = now


@contextmanager
def meter(label: str, total: int, *, done: int = 0, shown: bool = True) -> Iterator[Meter]:
    """A meter for `total` units of work, `done` of them by an earlier process, drawn on standard error if `shown`."""
    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield Meter(label, total, done, None, shown=shown)
        return
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        yield Meter(label, total, done, bar)
