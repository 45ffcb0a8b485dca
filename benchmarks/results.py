"""What was measured, as results.json, and the arithmetic of it."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

from benchmarks.laps import Lap
from benchmarks.machine import Machine
from benchmarks.table import LOOSELY, ROWS, Row, Side
from ethos.errors import DataError
from ethos.records import Record, read_text
from ethos.store import write_text

JSON = "results.json"


class Sided(Record):
    """What one side did."""

    side: Side
    laps: tuple[Lap, ...]
    """Without the first, which warms up."""
    values: tuple[float, ...]
    memory_mib: float

    @property
    def rate(self) -> float:
        """Work per second, the median over laps."""
        return median(lap.work / lap.seconds for lap in self.laps)


class Measured(Record):
    """A finished row, or one that failed."""

    row: Row
    machine: Machine
    date: str
    minutes: float
    sides: tuple[Sided, ...] = ()
    problem: str | None = None
    """Why there is no result."""

    def best(self, name: str) -> Sided | None:
        """The fastest setting of a peer."""
        return max((s for s in self.sides if s.side.name == name and s.laps), key=lambda s: s.rate, default=None)


class Results(Record):
    """The file."""

    rows: tuple[Measured, ...] = ()

    def of(self, row: Row, machine: Machine) -> Measured | None:
        """What is there of this very row, on this machine, without a problem."""
        return next((m for m in self.rows if m.row == row and m.machine == machine and not m.problem), None)

    def with_row(self, measured: Measured) -> "Results":
        """These results with one row added, or put in the place of an earlier one of the same hardware."""
        place = (measured.row.name, measured.machine.hardware)
        others = [m for m in self.rows if (m.row.name, m.machine.hardware) != place]
        return Results(rows=(*others, measured))


class Agreement(NamedTuple):
    """How far a peer's values lie from ours."""

    peer: str
    worst: float
    """Greatest difference; where either side rounds to bfloat16, as a share of values above one."""
    allowed: float
    compared: int

    @property
    def met(self) -> bool:
        """Whether they are equal, as far as the precision goes."""
        return self.compared > 0 and self.worst <= self.allowed


def read(folder: Path) -> Results:
    """The results in a folder; none where there is no file. Raises DataError when it cannot be read."""
    path = folder / JSON
    if not path.exists():
        return Results()
    try:
        return Results.model_validate_json(read_text(path))
    except ValueError as error:
        raise DataError(f"{path} is not what this version writes", hint="delete it, and measure again") from error


def write(results: Results, folder: Path) -> None:
    """Write the file, rows in the table's order."""
    known = {row.name: place for place, row in enumerate(ROWS)}
    rows = sorted(results.rows, key=lambda measured: known.get(measured.row.name, len(known)))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / JSON, Results(rows=tuple(rows)).model_dump_json(indent=1) + "\n")


def ratios(ours: Sided, peer: Sided) -> list[float]:
    """Our work per second over the peer's, lap by lap of one round."""
    return [(own.work / own.seconds) / (lap.work / lap.seconds) for own, lap in zip(ours.laps, peer.laps, strict=False)]


def agreements(row: Row, sides: Sequence[Sided], own: str) -> list[Agreement]:
    """Each peer's values against ours, as far as both got; `own` is the dtype that ethos takes on the machine."""
    if row.agree is None:
        return []
    ours, found = sides[0], []
    for other in sides[1:]:
        rounded = "bfloat16" in [own if side.side.dtype == "own" else side.side.dtype for side in (ours, other)]
        pairs = list(zip(ours.values, other.values, strict=False))
        worst = max((abs(a - b) / (max(1.0, abs(a)) if rounded else 1.0) for a, b in pairs), default=math.inf)
        found.append(Agreement(other.side.label, worst, LOOSELY if rounded else row.agree, len(pairs)))
    return found


def exponent(laps: Sequence[Lap]) -> float:
    """Slope of log seconds over log work, by least squares."""
    x, y = [math.log(lap.work) for lap in laps], [math.log(lap.seconds) for lap in laps]
    middle_x, middle_y = fmean(x), fmean(y)
    rise = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True))
    return rise / sum((a - middle_x) * (a - middle_x) for a in x)
