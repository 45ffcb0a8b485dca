"""The run folder: write-once artefacts named by the hash of all that decides their content.

    out/run/
      <stage>/<digest>/          one artefact; `key.json` is what its name is the hash of
      <stage>/<digest>.partial/  an artefact in the making; a killed stage resumes from it
      requests.sqlite            every reply ever asked of a model (see samplers/)
      scores.sqlite              every log-probability of an item, by subject (see units.py)
      manifest.json              written last: config, versions, hardware, and where everything lies
      .lock                      one process at a time
      .locks/                    one maker an artefact, where runs share a store

A stage fills its `.partial` folder, which is then renamed: an artefact is there whole or not at all.
"""

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ethos.errors import StoreError
from ethos.records import Record, read_text

LOCKS = ".locks"
KEY, TIMING = "key.json", "timing.json"
"""An artefact's key, written last, and the seconds its making took: the only file that differs between equal runs.

While an artefact is made, TIMING has the seconds of earlier parts, and its date is when this part began."""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a full disk or a read-only folder into a StoreError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreError(
                f"no space left on the disk of {path}",
                hint="free some space and run the same command again; finished stages are kept",
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
            raise StoreError(
                f"cannot write to {path}: {error.strerror}", hint="choose another folder with --out"
            ) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: a temporary file beside it, synced, then renamed."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """As `write_text`, for bytes."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_seconds(folder: Path) -> float | None:
    """The seconds an artefact took to make, over all parts; None where that was not written down."""
    path = folder / TIMING
    return float(json.loads(read_text(path))["seconds"]) if path.exists() else None


def write_seconds(folder: Path, seconds: float) -> None:
    """Write the seconds an artefact has taken."""
    write_text(folder / TIMING, json.dumps({"seconds": round(seconds, 1)}))


def seconds_kept(partial: Path) -> float:
    """Seconds of the parts of a stage that was cut short, up to the last file it left: what came later is lost."""
    before = read_seconds(partial)
    if before is None:
        return 0.0
    dates = [path.stat().st_mtime for path in partial.iterdir()]
    return before + max(dates) - (partial / TIMING).stat().st_mtime


class Run:
    """A run folder, opened for one process at a time. Runs of one study keep their artefacts in a common `store`."""

    def __init__(self, root: Path, store: Path | None = None) -> None:
        self.root = root
        self.store = store or root
        self.made: list[str] = []
        """Stages this process computed, in order; the others were found done."""

    @contextmanager
    def opened(self) -> Iterator["Run"]:
        """Hold the folder's lock. A second process is refused with the way out."""
        with explained(self.root):
            for folder in (self.root, self.store):
                folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / ".lock", timeout=0)
            try:
                lock.acquire()
            except Timeout as error:
                raise StoreError(
                    f"{self.root} is in use by another ethos process",
                    hint="wait for it, or choose another folder with --out",
                ) from error
            try:
                yield self
            finally:
                lock.release()

    def folder(self, stage: str, key: Record) -> Path:
        """Where the artefact of `stage` with this key lives, made or not."""
        return self.store / stage / key.digest()

    def has(self, stage: str, key: Record) -> bool:
        """Whether the artefact is complete."""
        return (self.folder(stage, key) / KEY).exists()

    def stage(self, stage: str, key: Record, make: Callable[[Path], None]) -> Path:
        """The artefact's folder, made by `make(partial folder)` unless it is already there.

        Of several processes that want it, one makes it and the others wait.
        """
        folder = self.folder(stage, key)
        if self.has(stage, key):
            return folder
        partial = folder.with_name(f"{folder.name}.partial")
        with explained(partial), self._claimed(folder):
            if self.has(stage, key):
                return folder
            partial.mkdir(parents=True, exist_ok=True)
            for stray in partial.glob(".*"):  # a write that a kill cut short
                stray.unlink()
            if not (partial / KEY).exists():
                earlier, began = seconds_kept(partial), time.monotonic()
                write_seconds(partial, earlier)
                make(partial)
                write_seconds(partial, earlier + time.monotonic() - began)
                write_text(partial / KEY, key.model_dump_json(indent=2))
            if folder.exists():  # left half-made by a version without atomic renames
                shutil.rmtree(folder)
            partial.rename(folder)
        self.made.append(stage)
        return folder

    def _claimed(self, folder: Path) -> FileLock:
        """The right to make one artefact."""
        locks = self.store / LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        return FileLock(locks / "-".join(folder.relative_to(self.store).parts))

    def relative(self, path: Path) -> str:
        """A path as the manifest holds it: from the run folder."""
        return os.path.relpath(path, self.root)

    def link(self, name: str, target: Path) -> None:
        """A stable name in the run folder for an artefact: a relative link where possible."""
        place = self.root / name
        with explained(place):
            place.unlink(missing_ok=True)
            inside = target.resolve().is_relative_to(self.store.resolve())
            place.symlink_to(self.relative(target) if inside else target.resolve())
