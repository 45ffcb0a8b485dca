"""Self-descriptions: content against acquiescence."""

from collections import Counter

import numpy as np
import pytest
from hand import by_item, lines

from ethos.bench.answers_inventories import DIGITS, FACTORS, QUESTION, judge, measure
from ethos.bench.claim import Bench, Score
from ethos.bench.item_files import load_items
from ethos.bench.items import Statement
from ethos.bench.readouts import letter_probabilities
from ethos.records import user

ITEMS = load_items("inventory", Statement)


def told(answers: dict[str, float]) -> list[Score]:
    """Scores of a subject that gives these answers, by the definitions of the docstring."""
    middle = sum(answers.values()) / len(answers)
    deviation = {item.id: item.key * (answers[item.id] - middle) for item in ITEMS}
    rows = []
    for item in ITEMS:
        rest = [deviation[o.id] for o in ITEMS if o.factor == item.factor and o.id != item.id]
        values = {
            "answer": answers[item.id],
            "deviation": deviation[item.id],
            "content": deviation[item.id] * sum(rest) / len(rest),
        }
        rows += [Score(item=item.id, split=item.factor, readout=name, value=value) for name, value in values.items()]
    return rows


def test_the_inventory_has_twelve_statements_a_factor_and_both_keys_in_each() -> None:
    assert set(Counter(item.factor for item in ITEMS).values()) == {12}
    assert all({item.key for item in ITEMS if item.factor == factor} == {1, -1} for factor in FACTORS)


def test_a_character_holds_and_a_yes_sayer_does_not() -> None:
    level = dict(zip(FACTORS, (1, -1.5, 1, -1, 1.5), strict=True))
    rng = np.random.default_rng(0)
    character = told({i.id: 3 + i.key * level[i.factor] + rng.normal(0, 0.2) for i in ITEMS})
    yes = told({i.id: 4.8 + rng.normal(0, 0.2) for i in ITEMS})
    assert judge(yes, character).outcome == "held"
    assert judge(character, yes).outcome == "undecided"
    assert lines(judge(yes, character))["agreeableness"].estimate.mean == pytest.approx(-1.5, abs=0.3)


def test_an_answer_is_the_mean_of_the_digits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ethos.bench.answers_inventories.OPTION_MASS_FLOOR", 0.0)
    bench = bench._replace(per_split=2)
    items, rows = bench.items("inventory", Statement), measure(bench)
    assert Counter(item.factor for item in items) == dict.fromkeys(FACTORS, 2)
    prompts = [[user(QUESTION.format(text=item.text[0].lower() + item.text[1:]))] for item in items]
    share, _ = letter_probabilities(bench.loaded, prompts, DIGITS)
    expected = told_few(items, [float(row @ np.arange(1, 6)) for row in share])
    for readout, column in expected.items():
        assert {name: row.value for name, row in by_item(rows, readout).items()} == pytest.approx(column, abs=1e-5)


def told_few(items: list[Statement], answers: list[float]) -> dict[str, dict[str, float]]:
    middle = sum(answers) / len(answers)
    deviation = {i.id: i.key * (answer - middle) for i, answer in zip(items, answers, strict=True)}
    twin = {i.id: o.id for i in items for o in items if i.factor == o.factor and i.id != o.id}
    return {
        "answer": dict(zip(deviation, answers, strict=True)),
        "deviation": deviation,
        "content": {name: value * deviation[twin[name]] for name, value in deviation.items()},
    }


def test_digits_that_hold_too_little_leave_a_statement_unscored(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("answers_inventories", "readouts"):
        monkeypatch.setattr(f"ethos.bench.{module}.OPTION_MASS_FLOOR", 1.1)
    rows = measure(bench._replace(per_split=2))
    assert {row.value for row in rows} == {None}
    assert all("of the probability" in row.reason for row in rows)
