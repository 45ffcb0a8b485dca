"""What asking a teacher costs: known before anything is asked, and held to a cap while it is.

Before it is sent, a request is bounded: its prompt by an estimate, one token for every four bytes and eight a message
(about right for English), its reply by `max_tokens`. Once it is answered, what the server reported counts instead.
Everything here wraps the one function that asks, so that it serves every process and every teacher.
"""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple

from pydantic import Field, model_validator

from ethos.errors import UserError
from ethos.records import Record
from ethos.samplers.replies import Ask, Reply, ReplyCache, Request

BYTES_PER_TOKEN, TOKENS_PER_MESSAGE = 4, 8
TOKENS_PER_SECOND = 40
"""How fast a server is taken to write one reply: a large model, fully used."""
ESTIMATED = (
    f"prompts are estimated at a token for {BYTES_PER_TOKEN} bytes and {TOKENS_PER_MESSAGE} a message, replies taken "
    f"at full length, minutes at {TOKENS_PER_SECOND} tokens a second and reply"
)


GO_ON = "run the same command with a larger budget: what was answered is stored and is not paid for again"


class Tokens(NamedTuple):
    """Tokens read and written."""

    prompt: int = 0
    completion: int = 0


class Prices(Record):
    """Dollars per million tokens."""

    price_in: float = Field(ge=0)
    price_out: float = Field(ge=0)

    def dollars(self, tokens: Tokens) -> float:
        """What so many tokens cost."""
        return (tokens.prompt * self.price_in + tokens.completion * self.price_out) / 1e6


class Budget(Record):
    """The most to spend on one data set, what was spent on it before included. None is no cap."""

    dollars: float | None = Field(None, gt=0)
    tokens: int | None = Field(None, gt=0)
    """Read and written together."""
    prices: Prices | None = None

    @model_validator(mode="after")
    def _priced(self) -> "Budget":
        if self.dollars is not None and self.prices is None:
            raise ValueError("a budget in dollars needs --price-in and --price-out")
        return self

    def allows(self, spent: Tokens) -> bool:
        """Whether so much is within the caps."""
        within_dollars = self.dollars is None or (
            self.prices is not None and self.prices.dollars(spent) <= self.dollars
        )
        return within_dollars and (self.tokens is None or sum(spent) <= self.tokens)


class BudgetSpent(UserError):
    """A cap was reached; what was answered is stored."""


class Unasked(Exception):
    """A round of requests that the store cannot answer in full: what foresight and shards are made of."""

    def __init__(self, number: int, requests: dict[str, Request], missing: dict[str, Request]) -> None:
        super().__init__(f"{len(missing)} requests are not answered")
        self.number, self.requests, self.missing = number, requests, missing


def bound(request: Request) -> Tokens:
    """The most a request may take: its prompt estimated, its reply at full length."""
    read = sum(TOKENS_PER_MESSAGE + -(-len(turn.content.encode()) // BYTES_PER_TOKEN) for turn in request.messages)
    return Tokens(read, request.max_tokens)


def used(request: Request, reply: Reply) -> Tokens:
    """What a request took, as the server reported it; its bound where the server said nothing."""
    most = bound(request)
    read = most.prompt if reply.num_prompt_tokens is None else reply.num_prompt_tokens
    return Tokens(read, reply.num_tokens or most.completion)


def total(parts: Iterable[Tokens]) -> Tokens:
    """The sum."""
    prompt = completion = 0
    for part in parts:
        prompt, completion = prompt + part.prompt, completion + part.completion
    return Tokens(prompt, completion)


def keyed(name: str, requests: Iterable[Request], cache: ReplyCache) -> dict[str, Request]:
    """Different requests by what the store calls them, in order."""
    return {cache.key(name, request): request for request in requests}


def only_stored(name: str, cache: ReplyCache) -> Ask:
    """The teacher called `name`, as far as the store holds its replies. Raises Unasked at the first gap."""
    rounds = count()

    def answer(requests: Sequence[Request]) -> list[Reply]:
        number, wanted = next(rounds), keyed(name, requests, cache)
        found = {key: reply for key in wanted if (reply := cache.get(key))}
        if missing := {key: request for key, request in wanted.items() if key not in found}:
            raise Unasked(number, wanted, missing)
        return [found[cache.key(name, request)] for request in requests]

    return answer


def within(budget: Budget, ask: Ask, name: str, cache: ReplyCache) -> Ask:
    """A teacher that is asked only what the budget is sure to cover, in parts that shrink as it runs out.

    Raises BudgetSpent where the next request may not be covered.
    """
    counted = dict[str, Tokens]()

    def answer(requests: Sequence[Request]) -> list[Reply]:
        wanted = keyed(name, requests, cache)
        counted.update({key: used(wanted[key], reply) for key in wanted if (reply := cache.get(key))})
        while todo := {key: request for key, request in wanted.items() if key not in counted}:
            part = _covered(budget, total(counted.values()), todo)
            if not part:
                raise BudgetSpent(_told(budget, total(counted.values()), len(counted), len(todo)), hint=GO_ON)
            replies = ask(list(part.values()))
            counted.update({k: used(part[k], reply) for k, reply in zip(part, replies, strict=True)})
        return ask(requests)

    return answer


def _covered(budget: Budget, spent: Tokens, todo: dict[str, Request]) -> dict[str, Request]:
    """The first requests whose bounds all fit into what is left."""
    part = dict[str, Request]()
    for key, request in todo.items():
        spent = total([spent, bound(request)])
        if not budget.allows(spent):
            break
        part[key] = request
    return part


def _told(budget: Budget, spent: Tokens, answered: int, todo: int) -> str:
    dollars = f" (${budget.prices.dollars(spent):.4f})" if budget.prices else ""
    return (
        f"the budget is spent: {answered:,} replies took {sum(spent):,} tokens{dollars}; the next one might exceed it, "
        f"and {todo:,} of this round are left to ask"
    )


def forecast(missing: Iterable[Request], prices: Prices | None, concurrency: int | None) -> str:
    """Tokens, price and minutes of requests, at most, in words."""
    bounds = [bound(request) for request in missing]
    most = total(bounds)
    told = [f"at most {most.prompt:,} prompt and {most.completion:,} completion tokens"]
    told += [f"${prices.dollars(most):.4f}"] if prices else []
    if concurrency:
        told.append(f"{most.completion / TOKENS_PER_SECOND / concurrency / 60:.1f} minutes at {concurrency} at a time")
    return ", ".join(told)
