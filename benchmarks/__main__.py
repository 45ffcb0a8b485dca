"""`python -m benchmarks`: measure the rows that are not measured yet, print and write what came out.

A row that fails says why, and the next one follows. Finished rows are kept, so that the same command goes on after a
kill; `--again` measures them anew.
"""

import os
import sys
import time
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import models, page, results
from benchmarks.laps import Worker
from benchmarks.machine import Machine, this_machine
from benchmarks.results import Measured, Sided
from benchmarks.table import ROWS, Job, Row
from ethos.errors import ConfigError, UserError, did_you_mean
from ethos.models import DEFAULT_MODEL, base_folder

HERE = Path(__file__).parent


def measure(row: Row, model: Path, scratch: Path) -> tuple[Sided, ...]:
    """All laps of a row: the sides take turns, and one that has timed enough rests.

    Raises RuntimeError when a side fails, or works on other inputs than the rest.
    """
    workers, inputs = list[Worker](), list[str]()
    try:
        for place, side in enumerate(row.sides):  # one after the other: they load while nothing is timed
            job = Job(row=row.name, side=side, load=row.load, model=str(model))
            workers.append(Worker(job, scratch / f"{row.name}-{place}.log", scratch))
            inputs.append(workers[-1].inputs())
        if len(set(inputs)) > 1:
            raise RuntimeError(f"sides read other inputs: {', '.join(inputs)}")
        for lap in range(row.load.laps):
            for worker in workers:
                if lap < 2 or row.kind != "speed" or sum(each.seconds for each in worker.laps[1:]) < row.seconds:
                    worker.lap()
        finished = [worker.finish() for worker in workers]
    finally:
        for worker in workers:
            worker.stop()
    return tuple(
        Sided(side=side, laps=tuple(worker.laps[1:]), values=tuple(last.values), memory_mib=last.memory_mib)
        for side, worker, last in zip(row.sides, workers, finished, strict=True)
    )


def measured(row: Row, machine: Machine, base: Path, scratch: Path, *, quick: bool) -> Measured:
    """A row, or why there is no result of it."""
    began = time.monotonic()
    problem: str | None = None
    sides: tuple[Sided, ...] = ()
    try:
        sides = measure(row, models.folder_of(row.model, base, scratch, quick=quick), scratch)
    except Exception as error:  # the one place where a row's failure is recorded
        problem = f"{type(error).__name__}: {error}"
    minutes = round((time.monotonic() - began) / 60, 2)
    today = date.today().isoformat()
    return Measured(row=row, machine=machine, date=today, minutes=minutes, sides=sides, problem=problem)


def fair(row: Row, machine: Machine) -> Row:
    """The row without the sides that this machine would have to emulate, which takes minutes a step."""
    if machine.dtype == "bfloat16" or not any(side.dtype == "bfloat16" for side in row.sides):
        return row
    sides = tuple(side for side in row.sides if side.dtype != "bfloat16")
    targets = tuple(target for target in row.targets if target.peer in {side.name for side in sides})
    choices = f"{row.choices} Peers in bfloat16 are left out: this processor has no such products and emulates them."
    return row.model_copy(update={"sides": sides, "targets": targets, "choices": choices})


def chosen(only: list[str]) -> list[Row]:
    """The rows of these names; all of them where none is given."""
    known = {row.name: row for row in ROWS}
    for name in only:
        if name not in known:
            raise ConfigError(f"no row named {name!r}", hint=did_you_mean(name, known))
    return [row for row in ROWS if not only or row.name in only]


def bench(
    only: Annotated[list[str] | None, typer.Option(help="A row; repeat for more.  [default: all]")] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure rows that are there already.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A smoke run: tiny models, tiny workloads.")] = False,
    write: Annotated[bool, typer.Option("--write", help="Only write RESULTS.md again.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    model: Annotated[
        str, typer.Option(help="The model that is timed; a quick run takes its tokenizer.")
    ] = DEFAULT_MODEL,
) -> None:
    """Speed: ethos against its peers, ratios printed and written to RESULTS.md."""
    folder = out or (Path("out/bench-quick") if quick else HERE)
    found, rows = results.read(folder), chosen(only or [])
    if not write:
        machine, base = this_machine(), base_folder(model)
        typer.echo("\n".join([*machine.lines(), f"Load before: {os.getloadavg()[0]:.1f}; measure on a quiet machine."]))
        scratch = Path("out/bench") if folder == HERE else folder / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        for row in (fair(row, machine) for row in rows):
            asked = row.model_copy(update={"load": row.quick}) if quick else row
            if not again and (known := found.of(asked, machine)):
                tell(known, "kept")
                continue
            made = measured(asked, machine, base, scratch.absolute(), quick=quick)
            tell(made, f"{made.minutes:.1f} min")
            found = found.with_row(made)
            results.write(found, folder)
            page.write(results.read(folder).rows, folder)
    page.write(results.read(folder).rows, folder)
    typer.echo(f"wrote {folder / page.PAGE}")


def tell(row: Measured, how: str) -> None:
    """Print a row as soon as it is there."""
    typer.echo(f"\n{row.row.name} ({how})")
    for line in page.lines(row):
        typer.echo("  " + " | ".join(filter(None, line)))


if __name__ == "__main__":
    try:
        typer.run(bench)
    except UserError as error:
        typer.echo(error, err=True)
        sys.exit(2)
