"""What an arm cost and lost: counted from files, by hand."""

import json
from pathlib import Path

import pytest
from made import HARDWARE, LAYERS, PARAMETERS, SECONDS, STEPS, TOKENS_A_STEP, Made, made_study

from ethos.bench.claim import Score
from ethos.design import cells
from ethos.records import Drop, read_jsonl, to_jsonl
from ethos.report.study.cells import Done, read_cells
from ethos.report.study.costs import Dropped, Size, costs, dropped, machines, model_size, unscored


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return made_study(
        tmp_path, {"dpo": 0.1, "sft": 0.0, "shuffled": 0.0}, seeds=(0, 1), claims=("knows_when",), items=8
    )


def read(made: Made) -> list[Done]:
    root, plan, _ = made
    return read_cells(root, cells(plan.study))


def test_positions_seconds_and_arithmetic_by_hand(made: Made) -> None:
    first, second, third = costs(read(made))
    assert (first.arm, first.stages, first.rows, first.num_seeds) == ("dpo", ("preference",), "as recorded", 2)
    assert (second.stages, third.rows) == (("sft",), "labels shuffled")
    assert first.positions == STEPS * TOKENS_A_STEP
    assert (first.spent, first.generated) == (STEPS * TOKENS_A_STEP / 2, STEPS * TOKENS_A_STEP / 4)
    assert first.seconds == SECONDS
    assert first.flops == 2 * PARAMETERS * STEPS * TOKENS_A_STEP * 2  # all layers adapted


def test_only_adapted_layers_are_gone_back_through(made: Made) -> None:
    done = read(made)[0]
    (stage,) = done.manifest.config.stages
    top = stage.model_copy(update={"lora": stage.lora.model_copy(update={"top_layers": 1})})
    config = done.manifest.config.model_copy(update={"stages": (top,)})
    (cost,) = costs([done._replace(manifest=done.manifest.model_copy(update={"config": config}))])
    assert cost.flops == 2 * PARAMETERS * STEPS * TOKENS_A_STEP * (1 + 1 / LAYERS)


def test_parameters_are_counted_from_the_heads_of_the_weight_files(made: Made, tiny_base: Path) -> None:
    assert model_size(made[0] / "weights") == Size(PARAMETERS, LAYERS)
    size = model_size(tiny_base)
    assert size is not None
    hidden, inner, words, head = 32, 64, 259, 16
    layer = 2 * hidden * hidden + 2 * hidden * head + 3 * hidden * inner + 2 * hidden
    assert size == Size(2 * layer + 2 * words * hidden + hidden, 2)


def test_weights_that_are_gone_leave_no_number(made: Made) -> None:
    (made[0] / "weights" / "config.json").unlink()
    assert {cost.flops for cost in costs(read(made))} == {None}


def test_machines_are_told_by_processor_or_accelerator_and_precision(made: Made) -> None:
    done = read(made)
    assert machines(done) == [("Abacus 3 (AVX2), float32", 6)]
    gpu = HARDWARE | {"accelerator": "Loom 9", "dtype": "bfloat16"}
    other = done[0]._replace(manifest=done[0].manifest.model_copy(update={"hardware": gpu}))
    assert machines([other, *done[1:]]) == [("Abacus 3 (AVX2), float32", 5), ("Loom 9, bfloat16", 1)]


def test_arms_that_lost_the_same_rows_are_told_together(made: Made) -> None:
    root = made[0]
    assert dropped(read(made)) == [Dropped(("dpo", "sft", "shuffled"), "data", "longer | than 512 tokens", (3, 3))]
    (root / "store" / "sft" / "sft-1" / "dropped.jsonl").write_text(
        json.dumps({"source": "s", "reason": "loops"}) + "\n"
    )
    assert dropped(read(made))[1:] == [Dropped(("sft",), "sft", "loops", (0, 1))]


def test_dialogues_are_lost_for_one_reason_at_whichever_turn(made: Made) -> None:
    root = made[0]
    for seed, turns in ((0, (2, 2)), (1, (4,))):
        lost = [Drop(source=str(turn), reason=f"loops at turn {turn}") for turn in turns]
        (root / "store" / "preference" / f"dpo-{seed}" / "dropped.jsonl").write_text(to_jsonl(lost))
    assert Dropped(("dpo",), "preference", "loops", (2, 1)) in dropped(read(made))


def unscore(root: Path, subject: str, items: int, reason: str) -> None:
    """Take the value of the first `items` crossed items of one subject."""
    path = root / "store" / "measured" / "knows_when" / subject / "scores.jsonl"
    rows = read_jsonl(path, Score)
    lost = {"value": None, "reason": reason}
    rows = [
        row.model_copy(update=lost) if row.readout == "crossed" and int(row.item.split("-")[1]) < items else row
        for row in rows
    ]
    path.write_text(to_jsonl(rows))


def test_unscored_items_are_counted_by_reason_over_seeds_with_both_bounds(made: Made) -> None:
    root = made[0]
    assert unscored(read(made)) == []
    unscore(root, "dpo-0", 3, "few letters")
    unscore(root, "dpo-1", 1, "few letters")
    (lost,) = unscored(read(made))
    assert (lost.name, lost.claim, lost.readout) == ("dpo", "knows_when", "crossed")
    assert (lost.num_unscored, lost.num_values) == (4, 16)
    assert lost.reasons == (("few letters", 4),)
    assert lost.bounds is not None
    assert lost.bounds[0] < 0.1 < lost.bounds[1]


def test_a_base_without_a_number_is_told_from_a_subject_without_one(made: Made) -> None:
    unscore(made[0], "base", 2, "no mass")
    unscore(made[0], "dpo-0", 1, "few letters")
    found = {lost.name: lost for lost in unscored(read(made))}
    assert dict(found["dpo"].reasons) == {"base: no mass": 3, "few letters": 1}
    assert dict(found["sft"].reasons) == {"base: no mass": 4}
    assert found["prompted"].num_values == 16  # once a seed, however many arms there are
