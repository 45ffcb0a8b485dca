"""Foresight and caps: arithmetic by hand, and a cap that holds whatever a teacher uses."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ethos.records import Message, user
from ethos.samplers.budget import (
    Budget,
    BudgetSpent,
    Prices,
    Tokens,
    Unasked,
    bound,
    forecast,
    only_stored,
    used,
    within,
)
from ethos.samplers.replies import Reply, ReplyCache, Request

NAME = "teacher"
PRICES = Prices(price_in=2.0, price_out=10.0)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ReplyCache]:
    with closing(ReplyCache(tmp_path / "replies.sqlite")) as opened:
        yield opened


def asking(count: int, *, max_tokens: int = 100) -> list[Request]:
    return [Request(messages=[user(f"question {i:3}")], max_tokens=max_tokens) for i in range(count)]


class Teacher:
    """Stores what it answers, as real ones do, and uses as many tokens as it is told to."""

    def __init__(self, cache: ReplyCache, *uses: int) -> None:
        self.cache, self.uses, self.asked = cache, uses, list[Request]()

    def __call__(self, requests: Sequence[Request]) -> list[Reply]:
        replies = []
        for request in requests:
            key = self.cache.key(NAME, request)
            if not (found := self.cache.get(key)):
                tokens = self.uses[len(self.asked) % len(self.uses)]
                found = Reply(text="Yes.", num_tokens=tokens, finish="stop", num_prompt_tokens=5)
                self.cache.put({key: found})
                self.asked.append(request)
            replies.append(found)
        return replies


def spent(cache: ReplyCache, requests: Sequence[Request]) -> int:
    found = [(request, cache.get(cache.key(NAME, request))) for request in requests]
    return sum(sum(used(request, reply)) for request, reply in found if reply)


def test_a_bound_by_hand() -> None:
    request = Request(messages=[Message(role="system", content="12345"), user("é")], max_tokens=7)
    assert bound(request) == Tokens((8 + 2) + (8 + 1), 7)


def test_what_a_server_reports_counts_and_the_bound_where_it_is_silent() -> None:
    request = asking(1)[0]
    told = Reply(text="Yes.", num_tokens=3, finish="stop", num_prompt_tokens=4)
    assert used(request, told) == Tokens(4, 3)
    silent = Reply(text="Yes.", num_tokens=0, finish="stop")
    assert used(request, silent) == bound(request) == Tokens(8 + 3, 100)


def test_a_price_and_a_forecast_by_hand() -> None:
    assert PRICES.dollars(Tokens(500_000, 100_000)) == pytest.approx(1.0 + 1.0)
    told = forecast(asking(48), PRICES, 2)
    assert told == "at most 528 prompt and 4,800 completion tokens, $0.0491, 1.0 minutes at 2 at a time"
    assert forecast(asking(1), None, None) == "at most 11 prompt and 100 completion tokens"


def test_a_cap_in_dollars_takes_prices() -> None:
    with pytest.raises(ValidationError, match="needs --price-in and --price-out"):
        Budget(dollars=1.0)
    assert Budget(dollars=1.0, prices=PRICES).allows(Tokens(0, 100_000))
    assert not Budget(dollars=1.0, prices=PRICES).allows(Tokens(1, 100_000))


@given(st.integers(1, 5000), st.lists(st.integers(1, 100), min_size=1, max_size=5), st.integers(1, 30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cap_holds_and_leaves_too_little_for_one_more(
    cache: ReplyCache, cap: int, uses: list[int], count: int
) -> None:
    cache.database.execute("DELETE FROM replies")
    requests, teacher = asking(count), Teacher(cache, *uses)
    capped = within(Budget(tokens=cap), teacher, NAME, cache)
    try:
        assert len(capped(requests)) == count
        assert len(teacher.asked) == count
    except BudgetSpent:
        assert len(teacher.asked) < count
        assert spent(cache, requests) + sum(bound(requests[0])) > cap
    assert spent(cache, requests) <= cap


def test_a_larger_budget_goes_on_and_counts_what_was_spent_before(cache: ReplyCache) -> None:
    requests, teacher = asking(30), Teacher(cache, 20)
    with pytest.raises(BudgetSpent, match=r"8 replies took 200 tokens; .* 22 of this round .*\nhint: .*larger budget"):
        within(Budget(tokens=310), teacher, NAME, cache)(requests)
    with pytest.raises(BudgetSpent, match=r"8 replies took 200 tokens"):
        within(Budget(tokens=310), teacher, NAME, cache)(requests)  # not a second budget of the same size
    assert len(within(Budget(tokens=1000), teacher, NAME, cache)(requests)) == 30
    assert len(teacher.asked) == 30  # nothing twice


def test_rounds_share_one_budget(cache: ReplyCache) -> None:
    teacher = Teacher(cache, 20)
    capped = within(Budget(tokens=400, dollars=1.0, prices=PRICES), teacher, NAME, cache)
    assert len(capped(asking(10))) == 10
    assert len(capped(asking(10))) == 10  # the same requests cost nothing more
    with pytest.raises(BudgetSpent, match=r"\(\$0\.00\d\d\)"):
        capped(asking(20))
    assert 10 < len(teacher.asked) < 20


def test_the_store_alone_answers_round_by_round_until_something_is_missing(cache: ReplyCache) -> None:
    requests, teacher = asking(6), Teacher(cache, 3)
    teacher(requests[:4])
    stored = only_stored(NAME, cache)
    assert stored(requests[:2]) == teacher(requests[:2])
    with pytest.raises(Unasked) as caught:
        stored([*requests[2:], requests[5]])
    gap = caught.value
    assert (gap.number, len(gap.requests), list(gap.missing.values())) == (1, 4, requests[4:])
    assert len(teacher.asked) == 4
