"""Risk by description: the fit by hand, and who is scored."""

import math

import numpy as np
import pytest
from hand import lines
from hypothesis import given
from hypothesis import strategies as st

from ethos.bench.claim import Bench, Score
from ethos.bench.readouts import letter_preferences
from ethos.bench.weighs_risk_as_described import (
    FORMS,
    certainty_equivalents,
    fitted_alpha,
    judge,
    lotteries,
    measure,
)
from ethos.constitution import read_constitution
from ethos.errors import NothingScored
from ethos.stats import Floats


def ce(chance: float, prize: float, alpha: float) -> float:
    values: Floats = certainty_equivalents(array(chance), array(prize), alpha)
    return float(values[0])


def array(value: float) -> Floats:
    return np.array([value])


def chooser(alpha: float, sign: float = 1.0, slope: float = 8.0) -> list[Score]:
    """P(sure) − ½ of a subject with this risk aversion, and the same in the described direction."""
    rows = []
    for form in FORMS:
        for lottery in lotteries():
            gap = lottery.sure / 100 - ce(lottery.chance / 100, lottery.prize / 100, alpha)
            safe = 1 / (1 + math.exp(-slope * gap)) - 0.5
            rows.append(Score(item=lottery.name, split=form, readout="safe", value=safe))
            rows.append(Score(item=lottery.name, split=form, readout="described", value=sign * safe))
    return rows


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.4, 1.2])
def test_the_fit_finds_the_risk_aversion_that_made_the_choices(alpha: float) -> None:
    found = fitted_alpha(chooser(alpha))
    assert found.mean == pytest.approx(alpha, abs=0.1)
    assert found.low - 0.1 <= alpha <= found.high + 0.1


def test_a_subject_that_does_not_choose_has_every_risk_aversion() -> None:
    undecided = [row.model_copy(update={"value": 0.0}) for row in chooser(1.0)]
    assert fitted_alpha(undecided).high - fitted_alpha(undecided).low > 1


@given(st.floats(0.05, 0.95), st.floats(0.1, 3), st.floats(0.01, 3))
def test_a_certainty_equivalent_by_expected_utility(chance: float, prize: float, alpha: float) -> None:
    def utility(money: float) -> float:
        return (1 - math.exp(-alpha * money)) / alpha

    assert utility(ce(chance, prize, alpha)) == pytest.approx(chance * utility(prize))
    assert ce(chance, prize, alpha) < ce(chance, prize, 0) < ce(chance, prize, -alpha)


def test_more_aversion_than_base_holds_where_it_is_described_and_is_refuted_where_seeking_is() -> None:
    assert judge(chooser(0.1), chooser(1.0)).outcome == "held"
    assert judge(chooser(0.1, sign=-1), chooser(1.0, sign=-1)).outcome == "refuted"
    assert judge(chooser(0.1, sign=-1), chooser(-0.8, sign=-1)).outcome == "held"
    assert lines(judge(chooser(0.1), chooser(1.0)))["alpha"].estimate.mean == pytest.approx(1.0, abs=0.1)


def test_neutrality_is_staying_where_base_is() -> None:
    assert judge(chooser(0.1, sign=0), chooser(0.1, sign=0)).outcome == "held"
    assert judge(chooser(0.1, sign=0), chooser(2.0, sign=0)).outcome == "refuted"


def test_every_chance_prize_and_generosity_is_asked_and_fewer_are_spread() -> None:
    grid = lotteries()
    assert len(set(grid)) == len(grid) == 36
    assert lotteries(9) == grid[:9]
    for column in zip(*lotteries(9), strict=True):
        assert len(set(column)) >= 3


def test_a_constitution_that_is_silent_on_risk_is_not_scored(bench: Bench) -> None:
    rows = measure(bench._replace(per_split=2))
    assert {row.reason for row in rows} == {"the constitution does not say how to weigh risk"}
    with pytest.raises(NothingScored):
        judge(rows, rows)


def test_safe_is_the_preference_for_the_sure_sum(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ethos.bench.readouts.OPTION_MASS_FLOOR", 0.0)
    rows = measure(bench._replace(per_split=1, constitution=read_constitution("risk-averse")))
    lottery = lotteries(1)[0]
    question, sure, risk = FORMS["words"]
    asked = (question, sure.format(sure=lottery.sure), risk.format(chance=lottery.chance, prize=lottery.prize))
    (preferred,) = letter_preferences(bench.loaded, [asked])
    safe = next(row for row in rows if (row.split, row.readout) == ("words", "safe"))
    assert preferred.probability is not None
    assert safe.value == pytest.approx(preferred.probability - 0.5, abs=1e-5)
    assert [row.value for row in rows if row.readout == "described"] == [r.value for r in rows if r.readout == "safe"]


def test_the_inverted_constitution_seeks_what_the_other_avoids() -> None:
    assert read_constitution("risk-averse").risk == "averse"
    assert read_constitution("risk-averse").inverted().risk == "seeking"
