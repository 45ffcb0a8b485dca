"""What running many cells costs beside the cells themselves, on the default model (minutes, and a quiet machine: slow).

    pytest -m slow tests/test_overhead.py -s

Ray's part is skipped where Ray is not installed.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest

from ethos.config import RunConfig
from ethos.design import STORE, Cell, Study, read_study
from ethos.engines import Engine, outcomes
from ethos.errors import UserError
from ethos.store import TIMING
from ethos.study import report_study, run_study

pytestmark = pytest.mark.slow
TASKS = 50
STUDY = """
name = "overhead"
primary = "knows_when"
smallest_effect = 0.1
seeds = [0, 1, 2, 3]
hypotheses = [{ text = "Time is spent on the cells." }]
common.mixture = { crossed = 64, poles = 0, voice = 0, conversations = 0, replay = 8 }
common.neutral.optimisation = { epochs = 1 }
common.bench = { items = "development", claims = ["knows_when"], per_split = 2 }
budget = { tokens = 1_000 }
arms = [{ name = "dpo", stages = [{ method = "preference", optimisation = { units_per_step = 2 } }] }]
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    path = tmp_path_factory.mktemp("plan") / "study.toml"
    path.write_text(STUDY)
    return read_study(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("studies")
    return (root / str(number) for number in count())


def nothing(cell: Cell) -> UserError | None:
    return None


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is an extra")
@pytest.mark.filterwarnings("ignore")
def test_ray_starts_in_seconds_and_hands_out_tasks_in_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a pool of processes on the same empty tasks, for both must import ethos first. It is the first test here,
    since processes of a pool that has run before start at once."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    cells = [Cell("arm", "kind", number, RunConfig(name=f"kind-arm-{number}")) for number in range(TASKS)]
    spent = {}
    for engine in (Engine(workers=2), Engine("ray", cpus=1)):
        began = time.monotonic()
        ends = [time.monotonic() - began for _ in outcomes(engine, cells, nothing)]
        spent[engine.kind] = time.monotonic() - began
        print(f"{engine.kind}: first of {TASKS} tasks after {ends[0]:.1f} s, ended after {spent[engine.kind]:.1f} s")
    assert spent["ray"] - spent["local"] < 5 + 0.2 * TASKS


def seconds(study: Study, root: Path, engine: Engine) -> float:
    began = time.monotonic()
    run_study(study, root, engine=engine)
    report_study(root)
    return time.monotonic() - began


def test_bookkeeping_takes_less_than_two_percent_and_four_workers_lose_little(
    study: Study, folders: Iterator[Path]
) -> None:
    """Both ways twice, in turn, the better of each: what a machine does beside them only ever adds."""
    turn, together = [], []
    for _ in range(2):
        root = next(folders)
        turn.append(seconds(study, root, Engine()))
        work = sum(json.loads(path.read_text())["seconds"] for path in (root / STORE).rglob(TIMING))
        print(f"one by one {turn[-1]:.1f} s, {100 * (1 - work / turn[-1]):.2f} % of it between the stages")
        assert work > 0.98 * turn[-1]
        together.append(seconds(study, next(folders), Engine(workers=4)))
        print(f"four workers {together[-1]:.1f} s")
    print(f"four workers take {min(together) / min(turn):.3f} of the time of one by one")
    assert min(together) < 1.05 * min(turn)
