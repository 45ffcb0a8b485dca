"""The speed benchmark: its claims of equal outputs on the tiny model, its arithmetic by hand, one row end to end."""

import importlib
import math
from pathlib import Path

import pytest

from benchmarks import page, results, texts
from benchmarks.__main__ import chosen, fair, measured
from benchmarks.laps import Gate, Lap, Over, Ready, Word
from benchmarks.machine import Machine, this_machine
from benchmarks.ours import ordered, sizes_of
from benchmarks.results import Measured, Results, Sided, agreements, exponent, ratios
from benchmarks.table import LOOSELY, ROWS, Job, Load, Row, Side, Target
from ethos.chat import Chat
from ethos.errors import ConfigError, DataError

TRL_WARNS = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning:transformers")
"""TRL 1.16 speaks of it by its old names."""
MACHINE = Machine(
    processor="abacus",
    cores=2,
    features={"avx2": True},
    accelerator=None,
    memory_gib=1,
    dtype="float32",
    python="3.11",
    packages={"torch": "2"},
)
LOAD = Load(laps=3, per_lap=2, prompt=(3, 9), reply=(4, 8))


def row_named(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


def values_of(side: Side, load: Load, model: Path) -> tuple[list[Word], list[float]]:
    """What a side tells and computes, in this process."""
    told: list[Word] = []
    gate = Gate(lambda: True, told.append)
    module, function = side.run.split(":")
    run = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    run(Job(row="test", side=side, load=load, model=str(model)), gate)
    return told, gate.values


def sided(*rates: float, values: tuple[float, ...] = (), name: str = "ethos", memory: float = 100.0) -> Sided:
    """A side whose laps take a second each."""
    laps = tuple(Lap(seconds=1.0, work=rate) for rate in rates)
    return Sided(side=Side(name=name, run="a:b"), laps=laps, values=values, memory_mib=memory)


def speed_row(**changes: object) -> Row:
    sides = (Side(name="ethos", run="a:b"), Side(name="peer", run="a:b"))
    row = Row(name="fast", work="work", sides=sides, load=LOAD, quick=LOAD, agree=1e-3, choices="")
    return row.model_copy(update=changes)


def found(row: Row, *sides: Sided, problem: str | None = None) -> Measured:
    return Measured(row=row, machine=MACHINE, date="2026-01-01", minutes=1.0, sides=sides, problem=problem)


@TRL_WARNS
@pytest.mark.parametrize("name", ["losses-dpo", "losses-sft"])
def test_losses_over_twenty_steps_equal_those_of_trl(name: str, tiny_base: Path) -> None:
    row = row_named(name)
    (ours, own), (theirs, other) = (values_of(side, row.load, tiny_base) for side in row.sides)
    assert ours[0] == theirs[0]  # the same tokens, the same of them learnt, in the same order
    assert isinstance(ours[0], Ready)
    assert len(own) == len(other) == 20
    assert max(abs(a - b) for a, b in zip(own, other, strict=True)) <= 1e-3
    assert max(own) - min(own) > 0.01  # the adapters do move


def test_a_row_runs_in_a_subprocess(tiny_base: Path, tmp_path: Path) -> None:
    asked = row_named("growth-rows")
    row = asked.model_copy(update={"load": asked.quick, "model": "default"})
    made = measured(row, MACHINE, tiny_base, tmp_path, quick=False)
    assert made.problem is None
    assert [lap.work for lap in made.sides[0].laps] == [10, 40, 10, 40]
    assert made.sides[0].memory_mib > 50
    (line,) = page.lines(made)
    assert line.ratio.startswith("exponent ")


def test_a_row_that_fails_says_why(tiny_base: Path, tmp_path: Path) -> None:
    row = speed_row(sides=(Side(name="ethos", run="nowhere:nothing"),))
    made = measured(row, MACHINE, tiny_base, tmp_path, quick=False)
    assert made.problem is not None
    assert "nowhere" in made.problem
    (line,) = page.lines(made)
    assert (line.verdict, "nowhere" in line.ratio) == ("missed", True)


def test_a_gate_that_stays_shut_ends_a_side() -> None:
    gate = Gate(lambda: False, lambda word: None)
    with pytest.raises(Over):
        gate.begin()


def test_texts_have_the_lengths_asked_for(chat: Chat) -> None:
    made = texts.Texts(chat.tokenizer, 1)
    for count in (1, 7, 40):
        assert len(chat.tokenizer.encode(made.of(count), add_special_tokens=False)) == count
    rows = texts.windows(LOAD, chat, 20)
    assert [(len(row.tokens), sum(row.mask)) for row in rows] == [(20, 8)] * 2


def test_every_lap_takes_its_units_in_the_order_of_training(chat: Chat) -> None:
    units = texts.pairs(LOAD, chat)
    taken = ordered(units, LOAD)
    assert sorted(unit.source for unit in taken) == sorted(unit.source for unit in units)
    assert taken != units
    assert [len(lap) for lap in texts.by_lap(taken, LOAD)] == [2, 2, 2]
    assert texts.inputs_of(taken) != texts.inputs_of(units)


def test_the_first_lap_of_a_growth_warms_up() -> None:
    assert sizes_of(LOAD.model_copy(update={"laps": 5, "sizes": (10, 40)})) == [10, 10, 40, 10, 40]


def test_the_exponent_of_a_power_law_by_hand() -> None:
    assert exponent([Lap(seconds=2.0, work=1.0), Lap(seconds=8.0, work=2.0)]) == pytest.approx(2.0)
    assert exponent([Lap(seconds=3 * n, work=n) for n in (1.0, 5.0, 7.0)]) == pytest.approx(1.0)


def test_ratios_compare_laps_of_one_round() -> None:
    assert ratios(sided(6.0, 8.0, 9.0), sided(3.0, 2.0)) == [2.0, 4.0]


def test_values_are_compared_as_far_as_both_got_and_loosely_in_bfloat16() -> None:
    row, ours = speed_row(), sided(1.0, values=(0.5, 200.0, 3.0))
    other = sided(1.0, values=(0.5, 204.0), name="peer")
    (exact,) = agreements(row, [ours, other], "float32")
    assert (exact.worst, exact.allowed, exact.compared, exact.met) == (4.0, 1e-3, 2, False)
    (rounded,) = agreements(row, [ours, other], "bfloat16")
    assert (rounded.worst, rounded.allowed, rounded.met) == (0.02, LOOSELY, True)


def test_no_values_are_no_agreement() -> None:
    (each,) = agreements(speed_row(), [sided(1.0), sided(1.0, name="peer")], "float32")
    assert (each.worst, each.met) == (math.inf, False)


def test_the_fastest_setting_of_a_peer_stands_in_the_table_with_met_or_missed() -> None:
    row = speed_row(
        agree=None, targets=(Target(peer="peer", bound=3.0), Target(peer="peer", bound=0.6, measure="memory"))
    )
    made = found(row, sided(6.0, 8.0), sided(1.0, 1.0, name="peer"), sided(2.0, 4.0, name="peer", memory=200.0))
    speed, memory = page.lines(made)
    assert (speed.ratio, speed.aimed, speed.verdict) == ("2.50× [2.00–3.00], 2 laps", "≥ 3×", "missed")
    assert (memory.ratio, memory.aimed, memory.verdict) == ("0.50×", "≤ 0.6×", "met")


def test_outputs_that_differ_are_no_speed() -> None:
    made = found(speed_row(), sided(9.0, values=(1.0,)), sided(1.0, values=(2.0,), name="peer"))
    (line,) = page.lines(made)
    assert line.verdict == "missed"
    assert "outputs differ" in line.ratio


def test_finished_rows_are_kept_and_failed_ones_are_not(tmp_path: Path) -> None:
    row = speed_row(agree=None)
    good, bad = found(row, sided(1.0), sided(1.0, name="peer")), found(row, problem="died")
    assert Results(rows=(good,)).of(row, MACHINE) == good
    assert Results(rows=(bad,)).of(row, MACHINE) is None
    assert Results(rows=(good,)).of(row, MACHINE.model_copy(update={"cores": 64})) is None
    assert Results(rows=(good,)).of(speed_row(agree=0.5), MACHINE) is None
    assert Results(rows=(bad,)).with_row(good).rows == (good,)
    newer = good.model_copy(update={"machine": MACHINE.model_copy(update={"packages": {"torch": "9"}})})
    other = good.model_copy(update={"machine": MACHINE.model_copy(update={"dtype": "bfloat16"})})
    assert Results(rows=(good,)).with_row(newer).with_row(other).rows == (newer, other)
    results.write(Results(rows=(good,)), tmp_path)
    page.write(results.read(tmp_path).rows, tmp_path)
    written = (tmp_path / page.PAGE).read_text()
    assert "| work | 1 tokens/s | 1 (peer) | 1.00× [1.00–1.00], 1 lap |" in written
    assert "2 cores of abacus" in written


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / results.JSON).write_text("{")
    with pytest.raises(DataError, match=r"results\.json"):
        results.read(tmp_path)


def test_an_unknown_row_is_refused_with_the_nearest_name() -> None:
    assert [row.name for row in chosen(["sft"])] == ["sft"]
    assert chosen([]) == list(ROWS)
    with pytest.raises(ConfigError, match="scoring"):
        chosen(["scorin"])


def test_peers_in_a_dtype_that_the_machine_emulates_are_left_out_and_the_page_says_so() -> None:
    row = row_named("dpo")
    here = fair(row, MACHINE)
    assert [side.name for side in here.sides] == ["ethos", "TRL float32"]
    assert [target.peer for target in here.targets] == ["TRL float32"]
    assert "left out" in here.choices
    assert fair(row, MACHINE.model_copy(update={"dtype": "bfloat16"})) == row
    assert fair(row_named("scoring"), MACHINE) == row_named("scoring")


def test_names_targets_and_sides_of_the_table_fit_together() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row.sides[0].name == "ethos"
        if row.kind == "speed":
            assert {target.peer for target in row.targets} <= {side.name for side in row.sides[1:]}
        for load in (row.load, row.quick):
            assert load.laps >= 2 or row.kind == "equal"


def test_this_machine_is_told() -> None:
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.packages["torch"]
    assert machine.dtype in ("float32", "bfloat16")
