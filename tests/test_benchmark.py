"""The benchmark without training, on the tiny model."""

import re
from pathlib import Path

import pytest

from ethos.bench.battery import CLAIMS
from ethos.bench.claim import Score
from ethos.bench.item_files import Items
from ethos.bench.items import Crossed
from ethos.benchmark import TABLE, by_trait, compare, render_power, run_bench
from ethos.config import bench_settings
from ethos.constitution import read_constitution
from ethos.data.recorded import NOTHING
from ethos.errors import ConfigError
from ethos.manifest import read_manifest, read_scores
from ethos.measuring import SCORES, Asked
from ethos.models import Subject
from ethos.stats import detectable
from ethos.subjects import Found

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


def test_traits_are_told_apart_with_p_values_that_allow_for_as_many_lines(tmp_path: Path) -> None:
    """By hand: care rises on every item, candour does not; a trait with too few items is no line."""
    items = [
        Crossed(
            id=f"{trait}-{i}", split="familiar", trait=trait, kind="urgency", a="a", b="b", r1="r", r2="s", fact="f"
        )
        for trait, count in (("care", 8), ("candour", 8), ("wit", 2))
        for i in range(count)
    ]
    asked = Asked(TWO, read_constitution(REASONER), Items(tmp_path, derived={"crossed": items}), NOTHING, 0, "")
    found, other = (Found(Subject(name=name, base=name), tmp_path, None) for name in ("one", "other"))
    gain = {"care": 0.2, "candour": 0.0, "wit": 9.0}

    def rows(shift: float) -> dict[str, list[Score]]:
        values = [(item, 0.01 * i + shift * (gain[item.trait] + 0.03 * (-1) ** i)) for i, item in enumerate(items)]
        made = [Score(item=item.id, split="familiar", readout="crossed", value=value) for item, value in values]
        return {claim: made if claim == "knows_when" else [] for claim in CLAIMS}

    scores = {found.subject.digest(): rows(0.0), other.subject.digest(): rows(1.0)}
    (told,) = by_trait(asked, scores, found, other)
    table = [line for line in told.splitlines() if line.startswith("| c")]
    assert [re.split(r" \| ", line.strip("| "))[:2] for line in table] == [["care", "crossed"], ["candour", "crossed"]]
    care, candour = (float(line.rstrip("| ").rpartition("| ")[2]) for line in table)
    assert care < 0.001
    assert candour == 1.0
    assert "over these 2 lines" in told
    assert by_trait(asked._replace(items=Items(tmp_path)), scores, found, other) == []
