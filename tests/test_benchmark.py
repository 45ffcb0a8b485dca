"""The benchmark without training, on the tiny model."""

import re
from pathlib import Path

import pytest

from ethos.bench.battery import CLAIMS
from ethos.benchmark import TABLE, compare, render_power, run_bench
from ethos.config import bench_settings
from ethos.errors import ConfigError
from ethos.manifest import read_manifest, read_scores
from ethos.measuring import SCORES
from ethos.stats import detectable

TWO = bench_settings(["knows_when", "leaves_other_requests_alone"], "sealed", 2)
REASONER = "virtuous-reasoner"


def outcomes(table: str) -> dict[str, str]:
    """Claim → outcome, as the table prints it."""
    return dict(re.findall(r"^\| `(\w+)`[^|]* \| ([a-z ]+) \|", table, re.MULTILINE))


def test_a_run_is_measured_again_by_the_same_names_and_to_the_same_bytes(tiny_run: Path, tmp_path: Path) -> None:
    run_bench([str(tiny_run)], TWO, REASONER, tmp_path, seed=0)
    manifest = read_manifest(tiny_run)
    for subject in ("base", "trained"):
        for claim in TWO.claims:
            folder = manifest.measured[subject][claim]
            assert (tmp_path / folder / SCORES).read_bytes() == (tiny_run / folder / SCORES).read_bytes()


def test_the_table_has_a_row_a_claim_and_is_kept(tiny_run: Path, tmp_path: Path) -> None:
    told = run_bench([str(tiny_run)], TWO, REASONER, tmp_path, seed=0)
    assert list(outcomes(told)) == list(TWO.claims)
    assert (tmp_path / TABLE).read_text() == told
    assert f"## {tiny_run} against base, sealed items" in told


def test_what_is_measured_is_not_measured_again(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_bench([str(tiny_run)], TWO, REASONER, tmp_path, seed=0)
    monkeypatch.setattr("ethos.measuring.load_subject", lambda *_: pytest.fail("a model was loaded"))
    assert run_bench([str(tiny_run)], TWO, REASONER, tmp_path, seed=0) == first
    assert "base" in compare(str(tiny_run / "base"), str(tiny_run), TWO, REASONER, tmp_path, seed=0)


def test_compared_with_its_base_a_subject_gets_the_verdict_of_a_run(tiny_run: Path, tmp_path: Path) -> None:
    run = run_bench([str(tiny_run)], TWO, REASONER, tmp_path, seed=0)
    compared = compare(str(tiny_run / "base"), str(tiny_run), TWO, REASONER, tmp_path, seed=0)
    rows = [[line for line in table.splitlines() if line.startswith("| ")] for table in (run, compared)]
    assert rows[0] == rows[1]


def test_swapped_subjects_swap_the_sign(tiny_run: Path, tmp_path: Path) -> None:
    names = str(tiny_run / "base"), str(tiny_run)
    tables = [compare(*order, TWO, REASONER, tmp_path, seed=0) for order in (names, names[::-1])]
    one, other = (float(re.findall(r"intrusion ([+-]\d\.\d+)", table)[0]) for table in tables)
    assert one == -other != 0


def test_nothing_to_compare_is_said(tiny_base: Path, tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to compare with a base"):
        run_bench([str(tiny_base)], TWO, REASONER, tmp_path, seed=0)
    with pytest.raises(ConfigError, match="are the same subject"):
        compare(str(tiny_run), str(tiny_run), TWO, REASONER, tmp_path, seed=0)


def test_an_unknown_claim_or_kind_of_items_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'knows_when'"):
        bench_settings(["know_when"], "sealed", None)
    with pytest.raises(ConfigError, match="items"):
        bench_settings(None, "hidden", None)


def test_the_plan_gives_what_each_claim_can_detect(tiny_run: Path) -> None:
    told = render_power(tiny_run, detect=0.05)
    (row,) = [line.split() for line in told.splitlines() if line.startswith("knows_when") and " crossed " in line]
    base, trained = (read_scores(tiny_run, read_manifest(tiny_run), name, "knows_when") for name in ("base", "trained"))
    shifts = [(b.value or 0) - (a.value or 0) for a, b in zip(base, trained, strict=True) if a.readout == "crossed"]
    mean = sum(shifts) / len(shifts)
    spread = (sum((shift - mean) ** 2 for shift in shifts) / (len(shifts) - 1)) ** 0.5
    assert row[2:5] == [str(len(shifts)), f"{spread:.3f}", f"{detectable(spread, len(shifts)):.3f}"]
    assert {line.split()[0] for line in told.splitlines()[1:-1]} <= set(CLAIMS)
