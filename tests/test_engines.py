"""Engines on small work: everything is run, a process that dies takes nothing else with it, and one that cannot live is
named."""

import os
import signal
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest

from ethos import engines
from ethos.config import RunConfig
from ethos.design import Cell
from ethos.engines import Engine, outcomes
from ethos.errors import ConfigError, DataError, UserError

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is an extra")
ENGINES = [
    pytest.param(Engine(workers=2), id="pool"),
    pytest.param(
        Engine("ray", cpus=1), id="ray", marks=[needs_ray, pytest.mark.filterwarnings("ignore")]
    ),  # Ray's own warnings are not ours to mend
]


def cell(number: int) -> Cell:
    return Cell("arm", "kind", number, RunConfig(name=f"kind-arm-{number}"))


def attempted(folder: Path, cell: Cell) -> int:
    """How often the cell was tried before; this time is written down."""
    before = len(list(folder.glob(f"{cell.name} *")))
    (folder / f"{cell.name} {before}").touch()
    return before


def work(folder: Path, cell: Cell) -> UserError | None:
    """The second cell dies once, the third always; the fourth cannot be run."""
    before = attempted(folder, cell)
    if (cell.seed == 1 and not before) or cell.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return DataError("no rows", hint="write some") if cell.seed == 3 else None


def buggy(folder: Path, cell: Cell) -> UserError | None:
    raise ZeroDivisionError("a bug")


@pytest.fixture(autouse=True)
def findable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's workers import this module by its name."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_process_that_dies_takes_only_its_own_cell_with_it(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "ATTEMPTS", 2)
    found = {
        each.seed: str(error or "") for each, error in outcomes(engine, [*map(cell, range(6))], partial(work, tmp_path))
    }
    assert set(found) == set(range(6))
    assert {seed for seed, error in found.items() if error} == {2, 3}
    assert found[2].startswith("its process died 2 times without a word\nhint: ")
    assert found[3] == "no rows\nhint: write some"
    assert len(list(tmp_path.glob("kind-arm-2 *"))) in (
        2,
        3,
    )  # alone twice, and in a pool that may end before a cell it took has begun


@pytest.mark.parametrize("engine", [Engine(), *ENGINES])
def test_a_bug_keeps_its_name(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(outcomes(engine, [cell(0)], partial(buggy, tmp_path)))


@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_what_no_machine_of_the_cluster_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a cell would take 4000 CPU, and the cluster has "):
        list(outcomes(Engine("ray", cpus=4000), [cell(0)], partial(work, tmp_path)))


def test_ray_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"Ray is not installed\nhint: pip install 'ethos\[ray\]'"):
        list(outcomes(Engine("ray"), [cell(0)], partial(work, tmp_path)))
