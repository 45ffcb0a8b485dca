"""What is stated against what is decided."""

import math

import pytest

from ethos.bench.acts_as_it_speaks import QUESTION, by_pair, judge, measure
from ethos.bench.claim import Bench, Score
from ethos.bench.items import Dilemma
from ethos.bench.readouts import letter_preferences, pair_margins
from ethos.constitution import read_constitution
from ethos.errors import NothingScored
from ethos.records import user

PAIRS = [f"a{i} or b{i}" for i in range(24)]


def answers(sign: float, *, wobble: float = 0.0) -> list[Score]:
    """Two dilemmas a pair; decided follows stated with this sign."""
    rows = []
    for place, split in enumerate(PAIRS):
        stated = (place * 7) % len(PAIRS) / 10
        for twin in (0, 1):
            noise = wobble * math.sin(place * 3 + twin)
            item = f"{split}-{twin}"
            rows.append(Score(item=item, split=split, readout="stated", value=stated))
            rows.append(Score(item=item, split=split, readout="decided", value=sign * stated + noise))
    return rows


@pytest.mark.parametrize(
    ("sign", "wobble", "outcome"), [(1, 0.1, "held"), (-1, 0.1, "refuted"), (0, 1.0, "undecided"), (0, 0, "undecided")]
)
def test_agreement_of_the_two_decides(sign: float, wobble: float, outcome: str) -> None:
    assert judge(answers(0), answers(sign, wobble=wobble)).outcome == outcome


def test_the_two_dilemmas_of_a_pair_say_how_reliable_decisions_are() -> None:
    found = {line.label: line.estimate.mean for line in judge(answers(0), answers(1, wobble=0.01)).lines}
    assert found["two dilemmas of a pair"] > 0.95
    assert found["agreement of base"] == 0


def test_a_pair_counts_once_and_only_with_both_answers() -> None:
    rows = answers(2.0)
    stated, decided = by_pair(rows)
    assert decided == [2 * value for value in stated]
    assert len(stated) == len(PAIRS)
    unread = [
        r.model_copy(update={"value": None}) if r.split == PAIRS[0] and r.readout == "stated" else r for r in rows
    ]
    assert by_pair(unread) == (stated[1:], decided[1:])


def test_both_answers_are_filed_under_the_pair_in_alphabetical_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ethos.bench.readouts.OPTION_MASS_FLOOR", 0.0)
    bench = bench._replace(per_split=8)
    items, rows = bench.items("dilemmas", Dilemma), measure(bench)
    turned = [item for item in items if item.one > item.other]
    assert turned
    assert len(turned) < len(items)
    says = {trait.name: trait.statement.split(". ")[0].rstrip(".") + "." for trait in bench.constitution.trait}
    for item in items:
        first, second = sorted((item.one, item.other))
        own = {row.readout: row for row in rows if row.item == item.id}
        (preferred,) = letter_preferences(bench.loaded, [(QUESTION, says[first], says[second])])
        (margin,) = pair_margins(bench.loaded, [([user(item.situation)], item.for_one, item.for_other)])
        assert own["decided"].split == own["stated"].split == f"{first} or {second}"
        assert own["decided"].value == pytest.approx(margin if item.one == first else -margin, abs=1e-5)
        assert preferred.probability is not None
        odds = math.log(preferred.probability / (1 - preferred.probability))
        assert own["stated"].value == pytest.approx(odds, abs=1e-4)


def test_another_constitution_has_nothing_to_say(bench: Bench) -> None:
    rows = measure(bench._replace(per_split=2, constitution=read_constitution("poetic")))
    assert {row.value for row in rows if row.readout == "stated"} == {None}
    with pytest.raises(NothingScored):
        judge(rows, rows)
