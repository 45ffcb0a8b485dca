"""Later training of a subject: the doses, the model that is left alone, and what the shifts say."""

import math
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hand import NUM_ITEMS, around, lines

from ethos.bench.claim import Bench, Score, Verdict, pick
from ethos.bench.item_files import Items
from ethos.bench.readouts import reply_scores
from ethos.bench.survives_fine_tuning import (
    CLAIM,
    DOSES,
    PLACES,
    half_life,
    legs,
    relearning,
)
from ethos.chat import Chat
from ethos.constitution import read_constitution
from ethos.measuring import tuned
from ethos.models import Loaded, Subject, load_subject, load_tokenizer_chat
from ethos.records import Conversation, assistant, user
from ethos.samplers.replies import ReplyCache


def rows(*replies: str) -> list[Conversation]:
    return [
        Conversation(messages=[user("Well?"), assistant(reply)], kind="later", source=str(place))
        for place, reply in enumerate(replies)
    ]


def learnt(chat: Chat, row: Conversation) -> int:
    return sum(chat.render(row.messages).mask)


# --- doses


def test_legs_hold_the_learnt_tokens_of_their_doses_and_no_row_too_many(chat: Chat) -> None:
    texts = rows(*("word " * length for length in (1, 7, 3, 9, 5)))
    found = legs(texts, chat, (60, 100, 250))
    totals = np.cumsum([sum(learnt(chat, row) for row in leg) for leg in found])
    for total, dose, leg in zip(totals, (60, 100, 250), found, strict=True):
        assert dose <= total < dose + learnt(chat, leg[-1])


def test_no_row_comes_twice_before_every_row_came_once(chat: Chat) -> None:
    texts = rows("one", "two", "three", "four")
    (leg,) = legs(texts, chat, [sum(learnt(chat, row) for row in texts) + 1])
    assert sorted(row.source for row in leg[:4]) == ["0", "1", "2", "3"]
    assert len(leg) == 5
    assert legs(texts, chat, [40, 90]) == legs(texts, chat, [40, 90])


# --- training a model that is really there


@pytest.fixture(scope="module")
def bench_tuned(tiny_base: Path, cache: ReplyCache) -> Bench:
    """The tiny model, with later training as every subject gets it."""
    subject = Subject(name="tiny", base="tiny")
    loaded = load_subject(tiny_base, subject, None)
    tune = partial(tuned, tiny_base, subject, None)
    return Bench(loaded, loaded, cache, 1, 0, read_constitution("virtuous-reasoner"), tune=tune)


def test_what_is_learnt_grows_likelier_leg_by_leg(tiny_base: Path) -> None:
    subject = Subject(name="tiny", base="tiny")
    case = [([user("Well?")], "So be it, and gladly.")]
    (before,) = reply_scores(load_subject(tiny_base, subject, None), case)
    legs_ = [rows(*["So be it, and gladly."] * 8)] * 2
    once, twice = (reply_scores(later, case)[0] for later in tuned(tiny_base, subject, None, legs_))
    assert before < once < twice


def test_a_system_prompt_is_there_when_the_subject_is_measured_and_not_when_it_learns(tiny_base: Path) -> None:
    case, course = [([user("Well?")], "So be it.")], [rows("So be it.")]
    plain, prompted = (Subject(name="tiny", base="tiny", system=system) for system in (None, "Be brief."))
    (one,), (other,) = (list(tuned(tiny_base, subject, None, course)) for subject in (plain, prompted))
    assert reply_scores(one, case) != reply_scores(other, case)
    assert reply_scores(one, case) == reply_scores(Loaded(plain, other.model, load_tokenizer_chat(tiny_base)), case)


@pytest.fixture(scope="module")
def measured(bench_tuned: Bench) -> list[Score]:
    return CLAIM.measure(bench_tuned)


def test_the_same_items_are_scored_before_and_after_every_dose(measured: list[Score]) -> None:
    assert list(dict.fromkeys(score.split for score in measured)) == list(PLACES)
    assert len({tuple(s.item for s in pick(measured, "crossed", [place])) for place in PLACES}) == 1
    assert Counter(score.readout for score in measured) == {"crossed": 4 * len(PLACES), "pole": 4 * len(PLACES)}
    assert len({score.value for score in pick(measured, "pole")}) == 4 * len(PLACES)  # every dose moves every item


def test_training_leaves_no_trace_in_the_subject_and_is_the_same_twice(
    bench_tuned: Bench, measured: list[Score]
) -> None:
    assert CLAIM.measure(bench_tuned) == measured


def test_rows_of_one_constitution_say_nothing_of_another(bench_tuned: Bench) -> None:
    assert CLAIM.measure(bench_tuned._replace(source=Items(character="poetic"))) == []


# --- what the shifts say


def judged(
    before: float, ordinary: tuple[float, ...], contrary: tuple[float, ...] = (), back: tuple[float, ...] = ()
) -> tuple[Verdict, float]:
    """The verdict on mean shifts: before, after each ordinary dose, each contrary one, and each dose in character."""
    shifts = [before, *ordinary, *(contrary or (before,) * 3), *(back or (before,) * 2)]
    base, subject = [], []
    for place, shift in zip(PLACES, shifts, strict=True):
        for i, distance in enumerate(around(0.0, spread=0.05)):
            score = Score(item=f"item-{i}", split=place, readout="crossed", value=0.1 * i)
            base.append(score)
            subject.append(score.model_copy(update={"value": 0.1 * i + shift + distance}))
    return CLAIM.judge(base, subject), CLAIM.test(base, subject)


@pytest.mark.parametrize(
    ("before", "ordinary", "outcome"),
    [
        (0.4, (0.4, 0.4, 0.4), "held"),
        (0.4, (0.4, 0.35, 0.3), "held"),
        (0.4, (0.3, 0.2, 0.1), "refuted"),
        (0.4, (0.3, 0.2, 0.2), "undecided"),
        (0.4, (0.0, 0.4, 0.4), "undecided"),
        (0.0, (0.0, 0.0, 0.0), "undecided"),
        (0.0, (0.0, 0.0, -0.3), "refuted"),
        (-0.3, (-0.3, -0.3, -0.3), "refuted"),
    ],
)
def test_a_character_survives_where_half_of_its_shift_is_kept(
    before: float, ordinary: tuple[float, ...], outcome: str
) -> None:
    verdict, p = judged(before, ordinary)
    assert verdict.outcome == outcome
    assert (p < 0.05) == (outcome == "held")


@pytest.mark.parametrize("contrary", [(0.4, 0.0, -0.4), (-0.4, -0.4, -0.4), (0.0, 0.0, 0.0)])
def test_contrary_rows_decide_nothing(contrary: tuple[float, ...]) -> None:
    assert judged(0.4, (0.4, 0.4, 0.4), contrary)[0].outcome == "held"


def test_half_lives_and_relearning_are_told_or_the_reason_why_not() -> None:
    # contrary: from 0.4 to 0.1 between 600 and 1,200 tokens, so 0.2 is met after two thirds of the way: 1,000
    verdict: Verdict = judged(0.4, (0.4, 0.4, 0.4), (0.4, 0.1, 0.1), (0.1, 0.5))[0]
    assert "Half-life, ordinary rows: none, more than half is left after the last dose." in verdict.sentence
    assert "Half-life, contrary rows: 1,000 tokens" in verdict.sentence
    assert "Re-learning: 1,050 tokens" in verdict.sentence  # 0.1 to 0.5 between 600 and 1,200: 0.4 after three quarters
    assert "the shift is not back" in judged(0.4, (0.4,) * 3, (0.1,) * 3, (0.1, 0.1))[0].sentence
    assert "contrary rows took nothing away" in judged(0.4, (0.4,) * 3)[0].sentence
    assert "no half-life" in judged(0.0, (0.0,) * 3)[0].sentence
    assert lines(verdict)["2,400 contrary tokens"].estimate.mean == pytest.approx(0.1)


def test_a_half_life_by_hand_has_an_interval_over_items() -> None:
    before = np.full(NUM_ITEMS, 0.8)
    half = half_life([before, before - 0.2, before - 0.6, before - 0.7])
    assert (half.mean, half.low, half.high) == pytest.approx((900.0, 900.0, 900.0))  # all items alike
    spread = np.array(around(0.8, spread=0.7))
    unsure = half_life([spread, spread - 0.2, spread - 0.3, spread - 0.35])
    assert math.isinf(unsure.mean)
    assert unsure.low <= DOSES[-1]


def test_relearning_starts_where_contrary_rows_ended() -> None:
    before = np.full(NUM_ITEMS, 0.4)
    assert relearning(before, [before - 0.4, before - 0.2, before]).mean == pytest.approx(1200.0)
    assert relearning(before, [before, before, before]).mean == 0.0
