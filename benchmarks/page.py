"""RESULTS.md, and the lines on the terminal: made from results.json without measuring again."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.results import Agreement, Measured, Sided, agreements, exponent, ratios
from benchmarks.table import OURS, Row, Target
from ethos.store import write_text

PAGE = "RESULTS.md"
HEAD = """# Speed

`make bench-speed` on one machine, in one run: peers interleaved lap by lap, each in a process of its own, the first lap
never counted, equal outputs checked first. A ratio is the median over laps, with the least and the greatest.
"""


class Line(NamedTuple):
    """One line of the table."""

    work: str
    ours: str
    peer: str
    ratio: str
    aimed: str
    verdict: str
    """met, missed, or nothing where nothing was aimed at."""


def lines(measured: Measured) -> list[Line]:
    """What a row says."""
    row = measured.row
    if measured.problem:
        aimed = ", ".join(dict.fromkeys(_aimed(target) for target in row.targets))
        return [Line(row.work, "", "", f"no result: {measured.problem}", aimed, "missed")]
    if row.kind == "growth":
        return _growth(measured)
    checked = agreements(row, measured.sides, measured.machine.dtype)
    if row.kind == "equal":
        return [_equal(row, each) for each in checked]
    if wrong := next((each for each in checked if not each.met), None):
        differ = f"outputs differ from {wrong.peer}'s by {wrong.worst:.2g}, {wrong.allowed:g} is allowed"
        return [Line(row.work, "", "", differ, "", "missed")]
    return [*_speeds(measured), *_memories(measured)]


def _speeds(measured: Measured) -> list[Line]:
    """Ours over each peer at its best."""
    row, found = measured.row, []
    ours = measured.best(OURS)
    for name in dict.fromkeys(side.name for side in row.sides[1:]):
        peer = measured.best(name)
        if ours is None or peer is None:
            found.append(Line(row.work, "", name, "no lap was timed", "", "missed"))
            continue
        each, target = ratios(ours, peer), _target(row, name, "speed")
        ratio = median(each)
        found.append(
            Line(
                row.work,
                f"{_number(ours.rate)} {row.unit}",
                f"{_number(peer.rate)} ({peer.side.label})",
                f"{ratio:.2f}× [{min(each):.2f}–{max(each):.2f}], {_laps(len(each))}",
                _aimed(target) if target else "",
                _verdict(ratio >= target.bound) if target else "",
            )
        )
    return found


def _memories(measured: Measured) -> list[Line]:
    """Our peak memory over each peer's, where a row aims at it."""
    found, ours = [], measured.sides[0]
    for target in measured.row.targets:
        peer = measured.best(target.peer)
        if target.measure != "memory" or peer is None:
            continue
        share = ours.memory_mib / peer.memory_mib
        own, other = (f"{side.memory_mib:,.0f} MiB" for side in (ours, peer))
        work = f"its peak memory, beside {target.peer}"
        found.append(Line(work, own, other, f"{share:.2f}×", _aimed(target), _verdict(share <= target.bound)))
    return found


def _equal(row: Row, found: Agreement) -> Line:
    shown = f"greatest difference {found.worst:.2g} of {found.compared}"
    return Line(row.work, "", found.peer, shown, f"≤ {found.allowed:g}", _verdict(found.met))


def _growth(measured: Measured) -> list[Line]:
    """The exponent, and what one unit costs at either end."""
    row, ours = measured.row, measured.sides[0]
    slope, (target,) = exponent(ours.laps), row.targets
    ends = [min(ours.laps, key=lambda lap: lap.work), max(ours.laps, key=lambda lap: lap.work)]
    told = " and ".join(f"{1000 * lap.seconds / lap.work:.3g} ms at {lap.work:,.0f} {row.unit}" for lap in ends)
    shown = f"exponent {slope:.2f}; each {told}"
    return [Line(row.work, "", "", shown, f"≤ {target.bound:g}", _verdict(slope <= target.bound))]


def _target(row: Row, peer: str, measure: str) -> Target | None:
    return next((target for target in row.targets if (target.peer, target.measure) == (peer, measure)), None)


def _aimed(target: Target) -> str:
    return f"{'≥' if target.measure == 'speed' else '≤'} {target.bound:g}×"


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _laps(count: int) -> str:
    return f"{count} lap{'s' if count != 1 else ''}"


def _number(rate: float) -> str:
    return f"{rate:.3g}" if rate < 100 or rate >= 1e7 else f"{rate:,.0f}"


def write(rows: Sequence[Measured], folder: Path) -> None:
    """Write RESULTS.md: a section for each machine."""
    machines = list(dict.fromkeys(measured.machine.model_dump_json() for measured in rows))
    sections = [[m for m in rows if m.machine.model_dump_json() == machine] for machine in machines]
    write_text(folder / PAGE, "\n".join([HEAD, *(_section(section) for section in sections)]))


def _section(rows: Sequence[Measured]) -> str:
    """The tables of one machine."""
    made = [line for measured in rows for line in lines(measured)]
    days = sorted(measured.date for measured in rows)
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    return "\n".join(
        [
            f"## {rows[0].machine.processor}, {when}",
            "",
            *rows[0].machine.lines(),
            f"The whole took {sum(measured.minutes for measured in rows):.0f} minutes.",
            "",
            "| work | ethos | peer | ratio | aimed at | |",
            "|---|---|---|---|---|---|",
            *(f"| {' | '.join(_bold(line))} |" for line in made),
            "",
            "### Equal outputs",
            "",
            *(text for measured in rows for text in _checks(measured)),
            "",
            "### What was chosen",
            "",
            *(_choice(measured) for measured in rows),
            "",
        ]
    )


def _bold(line: Line) -> Line:
    return line._replace(verdict="**missed**") if line.verdict == "missed" else line


def _checks(measured: Measured) -> list[str]:
    """What was compared before a speed counted."""
    if measured.row.kind != "speed" or measured.problem:
        return []
    found = agreements(measured.row, measured.sides, measured.machine.dtype)
    told = [f"{each.peer} {each.worst:.2g} of {each.compared} (≤ {each.allowed:g})" for each in found]
    return [f"- {measured.row.name}: {'; '.join(told)}"] if told else []


def _choice(measured: Measured) -> str:
    """How a row was measured."""
    row, load = measured.row, measured.row.load
    took = "; ".join(f"{_memory(side)}" for side in measured.sides)
    size = f"{_laps(load.laps)} of {load.per_lap}, prompts {_range(load.prompt)}, replies {_range(load.reply)} tokens"
    return f"- **{row.name}** ({row.work}; {size}): {row.choices} {took}"


def _memory(side: Sided) -> str:
    return f"{side.side.label}: {_laps(len(side.laps))}, {side.memory_mib:,.0f} MiB at most"


def _range(bounds: tuple[int, int]) -> str:
    return f"{bounds[0]}–{bounds[1]}" if bounds[0] < bounds[1] else str(bounds[0])
