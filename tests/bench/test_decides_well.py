"""Advice by virtue and stakes."""

from collections import Counter

import pytest
from hand import ABOVE, BELOW, NOTHING, around, lines, moved, scores

from ethos.bench.claim import Bench, Outcome, Score, Verdict
from ethos.bench.decides_well import STAKES, VIRTUES, judge, measure
from ethos.bench.items import Decision
from ethos.bench.readouts import reply_scores
from ethos.records import user


def verdict(change: list[float], only: str = "") -> Verdict:
    base: list[Score] = []
    subject: list[Score] = []
    for virtue in VIRTUES:
        for stakes in STAKES:
            before = scores("margin", around(1.0, spread=0.5, seed=1), split=f"{virtue}, {stakes}")
            by = change if only in f"{virtue}, {stakes}" else NOTHING
            won = [score.model_copy(update={"readout": "won"}) for score in before]
            base, subject = [*base, *before, *won], [*subject, *moved(before, by), *won]
    return judge(base, subject)


@pytest.mark.parametrize(("change", "outcome"), [(ABOVE, "held"), (BELOW, "refuted"), (NOTHING, "undecided")])
def test_the_pooled_shift_decides(change: list[float], outcome: Outcome) -> None:
    assert verdict(change).outcome == outcome


def test_virtues_and_stakes_have_lines_of_their_own() -> None:
    found = lines(verdict(ABOVE, only="courage, high"))
    assert found["courage"].estimate.mean == pytest.approx(0.15)
    assert found["high stakes"].estimate.mean == pytest.approx(0.05)
    assert [found[name].estimate.mean for name in ("care", "honesty")] == [pytest.approx(0.0)] * 2
    assert found["everyday stakes"].estimate.mean == pytest.approx(0.0)


def test_a_margin_is_right_minus_wrong_and_won_its_sign(bench: Bench) -> None:
    bench = bench._replace(per_split=2)
    items = bench.items("decisions", Decision)
    assert Counter(item.virtue for item in items) == dict.fromkeys(VIRTUES, 2)
    rows = measure(bench)
    margins = [row.value for row in rows if row.readout == "margin"]
    right, wrong = (
        reply_scores(bench.loaded, [([user(i.situation)], getattr(i, which)) for i in items])
        for which in ("right", "wrong")
    )
    assert margins == pytest.approx([r - w for r, w in zip(right, wrong, strict=True)], abs=1e-5)
    assert [row.value for row in rows if row.readout == "won"] == [float((margin or 0) > 0) for margin in margins]
    assert {row.readout for row in rows} == {"margin", "won", "letter", "pmi"}
