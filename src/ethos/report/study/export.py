"""A study's numbers for other programs: every score as CSV or Parquet, the table of shifts as LaTeX; or all results
as one file that a study goes on from (see archive.py)."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ethos.bench.validity import version
from ethos.design import Cell, Plan, State
from ethos.errors import DataError, UserError
from ethos.manifest import read_manifest, read_scores
from ethos.measuring import SCORES, version_measured
from ethos.report.study.archive import archive
from ethos.report.study.summary import Character, Row, StudySummary, summarise_study
from ethos.store import explained, write_bytes

Format = Literal["csv", "parquet", "latex", "archive"]
FILES: dict[Format, str] = {
    "csv": "results.csv",
    "parquet": "results.parquet",
    "latex": "shifts.tex",
    "archive": "results.tar.xz",
}
"""What each format is called in the study's folder."""
COLUMNS = ("constitution", "arm", "seed", "subject", "claim", "version", "readout", "split", "item", "value", "reason")

Line = tuple[str, str, int, str, str, int, str, str, str, float | None, str]


def export_study(root: Path, plan: Plan, states: Sequence[tuple[Cell, State]], to: Format, out: Path | None) -> Path:
    """Write what is finished in one format; the path of the file."""
    done = [cell for cell, state in states if state == "finished"]
    if not done:
        raise DataError(f"{root}: no cell is finished yet", hint="run the study first: ethos study run FILE")
    if to == "latex":
        data = latex(summarise_study(root, plan, states)).encode()
    elif to == "archive":
        data = archive(root, done)
    else:
        data = as_csv(results(root, done)) if to == "csv" else as_parquet(results(root, done))
    path = out or root / FILES[to]
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data)
    return path


def results(root: Path, cells: Sequence[Cell]) -> Iterator[Line]:
    """Every score of every cell, a row a score: for whoever wants to compute otherwise."""
    for cell in cells:
        folder = cell.folder(root)
        manifest = read_manifest(folder)
        for subject, claims in manifest.measured.items():
            for claim, place in claims.items():
                if (folder / place / SCORES).stat().st_size:
                    where = (cell.constitution, cell.arm, cell.seed, subject, claim, version_measured(folder / place))
                    for s in read_scores(folder, manifest, subject, claim):
                        yield (*where, s.readout, s.split, s.item, s.value, s.reason)


def as_csv(rows: Iterator[Line]) -> bytes:
    """With a head; what has no value is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows: Iterator[Line]) -> bytes:
    """The same columns, typed; what has no value is null."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError(
            "Parquet is written with pyarrow, which is not installed", hint="pip install pyarrow"
        ) from error
    kinds: Mapping[str, object] = {"seed": pa.int64(), "version": pa.int64(), "value": pa.float64()}
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    arrays = [
        pa.array(column, type=kinds.get(name, pa.string())) for name, column in zip(COLUMNS, columns, strict=True)
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, names=list(COLUMNS)), buffer, compression="zstd")
    return buffer.getvalue()


def latex(summary: StudySummary) -> str:
    """A booktabs table of shifts a constitution: `\\input` it where the preamble has \\usepackage{booktabs}."""
    return "\n".join(_tabular(character) for character in summary.characters)


def _tabular(found: Character) -> str:
    heads = ["claim", "line", *found.columns, "items"]
    lines = [
        f"% {escaped(found.name)}: shift from base, mean over training seeds and items [95 % interval]",
        rf"\begin{{tabular}}{{ll{'r' * (len(found.columns) + 1)}}}",
        r"\toprule",
        _line(map(escaped, heads)),
        r"\midrule",
        *_body(found),
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ]
    return "\n".join(lines)


def _body(found: Character) -> Iterator[str]:
    """A line a row; a claim is named once, and set apart from the next by a little space."""
    for place, (claim, rows) in enumerate(found.groups):
        if place:
            yield r"\addlinespace"
        for number, row in enumerate(rows):
            name = "" if number or not claim else escaped(f"{claim.replace('_', ' ')} {version(claim)}")
            label = escaped(f"{row.label}, {row.unit}")
            yield _line([name, label, *(_number(row, each) for each in found.columns), escaped(row.num_items)])


def _number(row: Row, name: str) -> str:
    mean, interval = row.told(name)
    low, _, high = interval.strip("[]").replace("inf", r"\infty").partition(", ")
    return f"${mean}$ [${low}$, ${high}$]" if interval else escaped(mean)


def _line(cells: Iterator[str] | Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "−": "$-$",
}


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(SPECIAL.get(character, character) for character in text)
