"""A study's results without its weights: one file to keep beside the plan, to report from and to go on from elsewhere.

    tar xf results.tar.xz -C out   →   out/NAME/plan.json
                                       out/NAME/cells/CELL/manifest.json
                                       out/NAME/store/...           scores whole; of training what it logged and lost

Rows and weights stay behind, and with them the key of what they belong to. So a run that goes on there finds the
finished cells finished, and makes again only what an unfinished one needs.
"""

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ethos.data.files import DROPPED
from ethos.design import PLAN, Cell, read_plan
from ethos.manifest import MANIFEST, read_manifest
from ethos.measuring import SCORES
from ethos.store import KEY, TIMING
from ethos.train.fit import LOG

MEASURED = (KEY, SCORES, TIMING)
STAGE = (LOG, DROPPED, TIMING)
"""What is kept of a training stage: no key, so that it counts as not made."""


def archive(root: Path, cells: Sequence[Cell]) -> bytes:
    """A .tar.xz of finished cells. Equal results give equal bytes, whatever their dates and owners."""
    root, name, buffer = root.resolve(), read_plan(root).study.name, io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        for path in sorted(set(_files(root, cells))):
            data = path.read_bytes()
            entry = tarfile.TarInfo(f"{name}/{path.relative_to(root)}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _files(root: Path, cells: Sequence[Cell]) -> Iterator[Path]:
    """Everything that reports are written from."""
    yield root / PLAN
    for cell in cells:
        folder = cell.folder(root)
        manifest = read_manifest(folder)
        yield folder / MANIFEST
        scored = {place for claims in manifest.measured.values() for place in claims.values()}
        for names, places in ((MEASURED, scored), (STAGE, manifest.stages.values())):
            for path in ((folder / place / name).resolve() for place in places for name in names):
                if path.exists():
                    yield path
