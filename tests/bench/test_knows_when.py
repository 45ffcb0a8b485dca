"""Judgement by deciding fact."""

import pytest
from hand import ABOVE, BELOW, NOTHING, NUM_ITEMS, around, lines, moved, scores

from ethos.bench.claim import Bench, Outcome, Score, Verdict
from ethos.bench.items import Crossed
from ethos.bench.knows_when import KINDS, SPLITS, judge, measure
from ethos.bench.readouts import crossed_text


def verdict(**shifts: list[float]) -> Verdict:
    """The verdict on shifts by kind; the others do not move."""
    base: list[Score] = []
    subject: list[Score] = []
    for kind in KINDS:
        before = scores("crossed", around(0.0, spread=0.5, seed=1), split=kind)
        after = moved(before, shifts.get(kind, [0.0] * NUM_ITEMS))
        for rows, own in ((base, before), (subject, after)):
            rows += own + [s.model_copy(update={"readout": "won", "value": float((s.value or 0) > 0)}) for s in own]
    return judge(base, subject)


@pytest.mark.parametrize(("change", "outcome"), [(ABOVE, "held"), (BELOW, "refuted"), (NOTHING, "undecided")])
def test_the_pooled_shift_decides(change: list[float], outcome: Outcome) -> None:
    assert verdict(**dict.fromkeys(KINDS, change)).outcome == outcome


def test_a_kind_that_got_worse_takes_held_back_and_is_named() -> None:
    found = verdict(**dict.fromkeys(KINDS, ABOVE) | {"consent": BELOW})
    assert found.outcome == "undecided"
    assert "below zero where consent decides" in found.sentence
    assert lines(found)["crossed"].estimate.low > 0


def test_kinds_that_moved_by_themselves_are_named() -> None:
    assert "above zero by itself where urgency decides" in verdict(urgency=ABOVE).sentence
    assert "in no kind by itself" in verdict().sentence


def test_every_item_outside_pressure_is_filed_under_its_kind(bench: Bench) -> None:
    bench = bench._replace(per_split=3)
    items = bench.items("crossed", Crossed, SPLITS)
    rows = measure(bench)
    crossed = [row for row in rows if row.readout == "crossed"]
    assert [(row.item, row.split) for row in crossed] == [(item.id, item.kind) for item in items]
    assert [row.value for row in crossed] == crossed_text(bench, items)
    assert [row.value for row in rows if row.readout == "won"] == [float((row.value or 0) > 0) for row in crossed]
