"""Conflicts of traits against the written ranking."""

import pytest
from hand import ABOVE, BELOW, NOTHING, around, moved, scores

from ethos.bench.claim import Bench, Outcome
from ethos.bench.items import Dilemma
from ethos.bench.readouts import pair_margins
from ethos.bench.resolves_conflicts_as_ranked import CLAIM, FAR, judge, measure
from ethos.constitution import read_constitution
from ethos.errors import NothingScored
from ethos.records import user


@pytest.mark.parametrize(("change", "outcome"), [(ABOVE, "held"), (BELOW, "refuted"), (NOTHING, "undecided")])
def test_the_pooled_shift_decides(change: list[float], outcome: Outcome) -> None:
    half = len(change) // 2
    start = around(0.0, spread=0.5, seed=1)
    base = [*scores("ranked", start[:half], split="near"), *scores("ranked", start[half:], split="far")]
    won = [score.model_copy(update={"readout": "won"}) for score in base]
    assert judge([*base, *won], [*moved(base, change), *won]).outcome == outcome


def test_the_margin_is_turned_towards_the_trait_that_ranks_higher(bench: Bench) -> None:
    bench = bench._replace(per_split=12)
    items, ranks = bench.items("dilemmas", Dilemma), bench.constitution.priority
    margins = pair_margins(bench.loaded, [([user(i.situation)], i.for_one, i.for_other) for i in items])
    rows = [row for row in measure(bench) if row.readout == "ranked"]
    signs = [1 if ranks.index(item.one) < ranks.index(item.other) else -1 for item in items]
    assert set(signs) == {1, -1}
    assert [row.value for row in rows] == pytest.approx([s * m for s, m in zip(signs, margins, strict=True)])
    distances = [abs(ranks.index(item.one) - ranks.index(item.other)) for item in items]
    assert [row.split for row in rows] == ["far" if distance >= FAR else "near" for distance in distances]


def test_a_reversed_priority_reverses_every_score(bench: Bench) -> None:
    bench = bench._replace(per_split=4)
    reverse = bench.constitution.model_copy(update={"priority": bench.constitution.priority[::-1]})
    forward, backward = (
        [row.value for row in measure(each) if row.readout == "ranked"]
        for each in (bench, bench._replace(constitution=reverse))
    )
    assert backward == [-(value or 0) for value in forward]


def test_dilemmas_between_traits_that_are_not_there_are_unscored(bench: Bench) -> None:
    rows = measure(bench._replace(per_split=3, constitution=read_constitution("sarcastic")))
    assert {row.value for row in rows} == {None}
    assert all("has no trait" in row.reason for row in rows)
    with pytest.raises(NothingScored):
        judge(rows, rows)


def test_its_key_names_the_constitution() -> None:
    assert CLAIM.reads_constitution
