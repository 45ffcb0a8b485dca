"""The whole line on labels thrown by a coin: how often a winner is named where there is none. Minutes: run by hand.

    pytest -m slow tests/test_null.py -s

Twenty seeds of each arm of studies/null.toml, on the tiny model. Seeds of one arm are then dealt to arms that do not
exist: those differ by nothing but luck, so a winner among them is a mistake of the statistics.
"""

import random
from pathlib import Path

import pytest

from conftest import few_rows
from ethos.design import Study, cells, read_study
from ethos.report.study.cells import Shifts, line_shifts, pooled, read_cells
from ethos.report.study.comparing import winner
from ethos.study import run_study

ROOT = Path(__file__).parent.parent
DEALS = 400
SEEDS_AN_ARM = 3


def tiny(study: Study, model: Path, constitution: Path) -> Study:
    """The same arms and seeds, small enough for a test."""
    raw = study.model_dump()
    raw["constitutions"] = [str(constitution)]
    raw["common"] |= {"model": str(model), "bench": {"claims": ["knows_when"], "per_split": 8}}
    raw["common"]["mixture"] |= {"crossed": 24, "poles": 0, "replay": 2}
    raw["common"]["neutral"]["optimisation"]["max_tokens"] = 5000
    for arm in raw["arms"]:
        for stage in arm["stages"]:
            stage["lora"] = {"rank": 4}
            stage["optimisation"] |= {"max_tokens": 2000, "pack_positions": 4000, "learning_rate": 1e-2}
    return Study.model_validate(raw)


def dealt(shifts: Shifts, arm: str, num_arms: int, rng: random.Random) -> Shifts:
    """Seeds of one arm as if they were those of several."""
    seeds = rng.sample([seed for name, seed in shifts if name == arm], num_arms * SEEDS_AN_ARM)
    return {(f"arm-{place % num_arms}", place // num_arms): shifts[arm, seed] for place, seed in enumerate(seeds)}


@pytest.mark.slow
def test_shuffled_labels_seldom_make_a_winner(tiny_base: Path, tmp_path: Path) -> None:
    study = tiny(read_study(ROOT / "studies" / "null.toml"), tiny_base, few_rows(tmp_path))
    assert study.common.mixture.labels == "shuffled"
    run_study(study, tmp_path / "study")
    shifts = line_shifts(read_cells(tmp_path / "study", cells(study)), study.primary.claim, study.primary.line)
    arms, rng = [arm.name for arm in study.arms], random.Random(0)
    for arm in (*arms, "neutral"):
        print(f"{arm}: {pooled(shifts, arm)} over {len(study.seeds)} seeds")
    print(f"between the arms themselves: {winner(shifts, arms).sentence}")
    for num_arms in (2, 3):
        names = [f"arm-{place}" for place in range(num_arms)]
        found = [winner(dealt(shifts, arm, num_arms, rng), names).arm for _ in range(DEALS // 2) for arm in arms]
        rate = sum(name is not None for name in found) / len(found)
        print(f"{num_arms} arms that differ by luck alone: a winner in {100 * rate:.1f} % of {len(found)} studies")
        assert rate <= 0.05
