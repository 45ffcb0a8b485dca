"""A study's numbers for other programs: every score, typed; a table that LaTeX reads."""

import csv
import math
import re
import sys
from pathlib import Path

import pytest
from made import Made, made_study

from ethos.errors import DataError, StoreError, UserError
from ethos.report.study.export import COLUMNS, escaped, export_study


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("export")
    return made_study(
        root, {"a-b": 0.2, "sft": 0.0}, seeds=(0, 1), claims=("knows_when",), items=6, unfinished=("kind-sft-1",)
    )


def test_every_score_of_every_finished_cell_is_a_row(made: Made) -> None:
    path = export_study(*made, "csv", None)
    assert path == made[0] / "results.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 3 * 4 * 2 * 6  # cells, subjects, readouts, items
    assert {(row["arm"], row["seed"]) for row in rows} == {("a-b", "0"), ("a-b", "1"), ("sft", "0")}
    assert {row["version"] for row in rows} == {"1"}
    assert {row["subject"] for row in rows} == {"base", "prompted", "neutral", "trained"}
    assert all(math.isfinite(float(row["value"])) for row in rows)


def test_what_has_no_value_is_empty_with_its_reason(made: Made, tmp_path: Path) -> None:
    file = made[0] / "store/measured/knows_when/base/scores.jsonl"
    text = file.read_text()
    first = re.sub(r'"value":[^,]+,"reason":""', '"value":null,"reason":"a, \\\\"b\\\\""', text.splitlines()[0])
    file.write_text("\n".join([first, *text.splitlines()[1:]]) + "\n")
    try:
        rows = list(csv.DictReader(export_study(*made, "csv", tmp_path / "new" / "out.csv").read_text().splitlines()))
        pq = pytest.importorskip("pyarrow.parquet")
        table = pq.read_table(export_study(*made, "parquet", tmp_path / "out.parquet")).to_pylist()
    finally:
        file.write_text(text)
    lost = [row for row in rows if row["reason"]]
    assert {(row["value"], row["reason"]) for row in lost} == {("", 'a, "b"')}
    assert len(lost) == 3
    assert [row["value"] for row in table if row["reason"]] == [None] * 3
    assert [(str(row["seed"]), row["item"], "" if row["value"] is None else str(row["value"])) for row in table] == [
        (row["seed"], row["item"], row["value"]) for row in rows
    ]


def test_parquet_says_how_to_get_what_it_needs(made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pyarrow, which is not installed\nhint: pip install pyarrow"):
        export_study(*made, "parquet", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_the_latex_table_is_whole_and_holds_the_numbers_of_the_report(made: Made) -> None:
    lines = export_study(*made, "latex", None).read_text().splitlines()
    assert lines[1] == r"\begin{tabular}{llrrrrr}"
    assert [line for line in lines if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\bottomrule"]
    assert lines[-1] == r"\end{tabular}"
    cells = [line.split(" & ") for line in lines if line.endswith(r"\\")]
    assert {len(row) for row in cells} == {7}
    assert cells[0][2:] == ["a-b", "sft", "prompted", "neutral", r"items \\"]
    assert re.fullmatch(r"\$\+0\.\d{3}\$ \[\$[+-]\d\.\d{3}\$, \$[+-]\d\.\d{3}\$\]", cells[1][2])
    assert [row[0] for row in cells[1:]] == ["knows when v1", ""]


def test_special_characters_are_printed_as_they_are() -> None:
    assert escaped(r"a_b & 5 % $x$ {#} ~ ^ \ –") == (
        r"a\_b \& 5 \% \$x\$ \{\#\} \textasciitilde{} \textasciicircum{} \textbackslash{} --"
    )


def test_nothing_finished_is_nothing_to_export(tmp_path: Path) -> None:
    root, plan, states = made_study(tmp_path, {"a": 0.1}, seeds=(0,), unfinished=("kind-a-0",))
    with pytest.raises(DataError, match="no cell is finished yet"):
        export_study(root, plan, states, "csv", None)


def test_a_place_that_cannot_be_written_is_named(made: Made, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write to"):
        export_study(*made, "csv", tmp_path / "file" / "out.csv")
