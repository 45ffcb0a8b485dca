"""Generated contrasts: who is asked what, what is kept, and that every refusal is counted."""

import json
from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from ethos.constitution import read_constitution
from ethos.data.filters import RESEMBLES
from ethos.data.generation import BRIEFLY, DELIBERATE, SEALED, Kind, Order, deliberations, generate, later
from ethos.data.recorded import PoleItem, PoleRow, VoiceItem, VoiceRow, words
from ethos.samplers.replies import Reply, Request

CONSTITUTION = read_constitution("loving")
CHARACTER = f"{CONSTITUTION.system_prompt()}\n{BRIEFLY}"
PROMPTS = [text for trait in CONSTITUTION.trait for text in trait.prompts["familiar"]]
ELSEWHERE = [
    (trait.name, split, text)
    for trait in CONSTITUTION.trait
    for split in ("domain", "format", "role", "pressure")
    for text in trait.prompts.get(split, [])  # type: ignore[call-overload]
]
FIRST = "Tell your sister before the weekend, since she is the one who has to drive all that way."
SECOND = "Drive there by yourself on Friday night and let your sister find out about it later on."
THIRD = "Tell your sister today, since she is the one who has to drive the whole way on Friday."
LONG = f"{SECOND} Then think it over in peace with a cup of tea by the window, and ask yourself what you would want."


def tag(prompt: str) -> str:
    """A few words that a reply to this prompt has and no other reply."""
    place = [*PROMPTS, *(text for *_, text in ELSEWHERE)].index(prompt)
    return " ~ " + " ".join(f"w{place}{letter}" for letter in "abcdef")


def about(reply: Reply, prompt: str) -> Reply:
    """The reply as it is said to one prompt: stock answers are refused."""
    if not reply.text.startswith("{"):
        return reply.model_copy(update={"text": reply.text + tag(prompt)})
    told = json.loads(reply.text)
    return reply.model_copy(update={"text": json.dumps(told | {"answer": told["answer"] + tag(prompt)})})


def bare(text: str) -> str:
    return text.partition(" ~ ")[0]


def said(text: str, finish: str = "stop") -> Reply:
    return Reply.model_validate({"text": text, "num_tokens": 9, "finish": finish})


class Teacher:
    """Answers by side and candidate, and remembers what it was asked."""

    def __init__(self, *sides: Sequence[Reply]) -> None:
        self.sides, self.asked = sides, list[Request]()

    def __call__(self, requests: Sequence[Request]) -> list[Reply]:
        self.asked += requests
        side_of = {CHARACTER: 0}
        return [
            about(self.sides[side_of.get(r.messages[0].content, 1)][n % self.candidates], r.messages[1].content)
            for n, r in enumerate(requests)
        ]

    @property
    def candidates(self) -> int:
        return len(self.sides[0])


def made(teacher: Teacher, kind: Kind = "voice", *, sealed: bool = False):
    return generate(
        CONSTITUTION, Order(kind=kind, candidates=teacher.candidates), teacher, lambda _: SEALED if sealed else None
    )


@pytest.mark.parametrize(("kind", "row"), [("voice", VoiceRow), ("poles", PoleRow)])
def test_each_familiar_prompt_becomes_a_row_with_its_trait(kind: Kind, row: type) -> None:
    teacher = Teacher([said(FIRST)], [said(SECOND)])
    kept, dropped = made(teacher, kind)
    assert [item.prompt for item in kept] == PROMPTS
    assert {type(item) for item in kept} == {row}
    assert {(bare(item.chosen), bare(item.rejected)) for item in kept} == {(FIRST, SECOND)}
    assert dropped == []
    by_name = {trait.name: trait for trait in CONSTITUTION.trait}
    assert all(item.prompt in by_name[item.trait].prompts["familiar"] for item in kept)
    assert len({item.id for item in kept}) == len(kept)


@pytest.mark.parametrize(("kind", "row"), [("voice", VoiceItem), ("poles", PoleItem)])
def test_items_answer_the_prompts_that_training_never_has(kind: Kind, row: type) -> None:
    order = Order(kind=kind, candidates=1, measured=True)
    kept, dropped = generate(CONSTITUTION, order, Teacher([said(FIRST)], [said(SECOND)]), lambda _: None)
    assert [(item.trait, item.split, item.prompt) for item in kept] == ELSEWHERE
    assert {type(item) for item in kept} == {row}
    assert dropped == []
    with pytest.raises(ValidationError, match="items are voice or pole contrasts without thoughts"):
        Order(kind=kind, measured=True, deliberated=True)


def test_no_item_resembles_a_reply_that_is_trained_on() -> None:
    (_, _, first), *rest = ELSEWHERE
    order, trained_on = Order(candidates=1, measured=True), [f"{FIRST}{tag(first)} Really."]
    kept, dropped = generate(
        CONSTITUTION, order, Teacher([said(FIRST)], [said(SECOND)]), lambda _: None, beside=trained_on
    )
    assert [item.prompt for item in kept] == [text for *_, text in rest]
    assert [drop.reason for drop in dropped] == [RESEMBLES]


def test_only_the_chosen_side_sees_the_constitution_and_poles_set_its_opposite_against_it() -> None:
    for kind, other in (("voice", BRIEFLY), ("poles", f"{CONSTITUTION.inverted().system_prompt()}\n{BRIEFLY}")):
        teacher = Teacher([said(FIRST)], [said(SECOND)])
        made(teacher, kind)
        told = [(request.messages[0].content, request.messages[1].content) for request in teacher.asked]
        assert told == [(system, prompt) for system in (CHARACTER, other) for prompt in PROMPTS]
        assert len({request.seed for request in teacher.asked}) == len(teacher.asked)


def test_the_candidates_nearest_in_length_are_paired() -> None:
    kept, _ = made(Teacher([said(LONG), said(FIRST)], [said(SECOND), said(f"{LONG} So be it, and good luck to you.")]))
    assert {(bare(row.chosen), bare(row.rejected)) for row in kept} == {(FIRST, SECOND)}
    assert abs(words(FIRST) - words(SECOND)) <= 1


@pytest.mark.parametrize(
    ("sides", "reason"),
    [
        (([said(FIRST)], [said(LONG)]), "no two answers within 4 words"),
        (([said(FIRST)], [said(FIRST)]), "both sides answer the same"),
        (([said(FIRST, "length")], [said(SECOND)]), "every chosen reply was refused: cut off"),
        (([said(FIRST)], [said("No.")]), "every rejected reply was refused: short"),
    ],
)
def test_what_is_refused_is_counted_with_its_reason(sides: tuple[list[Reply], list[Reply]], reason: str) -> None:
    kept, dropped = made(Teacher(*sides))
    assert kept == []
    assert len(dropped) == len(PROMPTS)
    assert all(drop.reason.startswith(reason) for drop in dropped)


def test_a_row_that_shares_words_with_an_item_is_dropped() -> None:
    kept, dropped = made(Teacher([said(FIRST)], [said(SECOND)]), sealed=True)
    assert kept == []
    assert {drop.reason for drop in dropped} == {"shares eight words in a row with a benchmark item"}


def second_thought(reply: str) -> Reply:
    return said(json.dumps({"critique": "Cold.", "answer": reply}))


class Rewriter(Teacher):
    """In the second round, says what it is told to."""

    def __init__(self, *sides: Sequence[Reply], again: Reply) -> None:
        super().__init__(*sides)
        self.again, self.rounds = again, list[int]()

    def __call__(self, requests: Sequence[Request]) -> list[Reply]:
        self.rounds.append(len(requests))
        return (
            super().__call__(requests)
            if len(self.rounds) == 1
            else [about(self.again, r.messages[1].content) for r in requests]
        )


def test_replies_in_character_are_rewritten_and_plain_ones_stay() -> None:
    teacher = Rewriter([said(FIRST)], [said(SECOND)], again=second_thought(THIRD))
    kept, _ = generate(CONSTITUTION, Order(candidates=1, rewrite=True), teacher, lambda _: None)
    assert {(bare(row.chosen), bare(row.rejected)) for row in kept} == {(THIRD, SECOND)}
    assert teacher.rounds == [2 * len(PROMPTS), len(PROMPTS)]


def test_of_poles_both_sides_are_rewritten() -> None:
    teacher = Rewriter([said(FIRST)], [said(SECOND)], again=second_thought(THIRD))
    order = Order(kind="poles", candidates=1, rewrite=True)
    _, dropped = generate(CONSTITUTION, order, teacher, lambda _: None)
    assert teacher.rounds == [2 * len(PROMPTS), 2 * len(PROMPTS)]
    assert {drop.reason for drop in dropped} == {"both sides answer the same"}


@pytest.mark.parametrize(
    ("again", "reason"),
    [
        (said("I would not change it."), "rewriting: not the JSON that was asked for"),
        (second_thought("Too short."), "short: under 12 words"),
    ],
)
def test_a_rewriting_that_fails_is_no_return_to_the_first_answer(again: Reply, reason: str) -> None:
    teacher = Rewriter([said(FIRST)], [said(SECOND)], again=again)
    kept, dropped = generate(CONSTITUTION, Order(candidates=1, rewrite=True), teacher, lambda _: None)
    assert kept == []
    assert {drop.reason for drop in dropped} == {f"every chosen reply was refused: {reason}"}


def test_only_sound_answers_are_rewritten_and_no_more_is_asked_than_foreseen() -> None:
    order = Order(candidates=2, rewrite=True)
    teacher = Rewriter([said(FIRST), said("No.")], [said(SECOND), said(SECOND)], again=second_thought(THIRD))
    generate(CONSTITUTION, order, teacher, lambda _: None)
    assert teacher.rounds[1] == len(PROMPTS) <= len(later(CONSTITUTION, order, 0))
    assert later(CONSTITUTION, order, 1) == later(CONSTITUTION, Order(), 0) == []


def test_a_student_has_the_rejected_side_and_never_sees_the_character() -> None:
    teacher, student = Teacher([said(FIRST)], [said(LONG)]), Teacher([said(LONG)], [said(SECOND)])
    order = Order(candidates=1, student="student")
    kept, _ = generate(CONSTITUTION, order, teacher, lambda _: None, student)
    assert {(bare(row.chosen), bare(row.rejected)) for row in kept} == {(FIRST, SECOND)}
    assert {request.messages[0].content for request in teacher.asked} == {CHARACTER}
    assert {request.messages[0].content for request in student.asked} == {BRIEFLY}


def test_a_ratio_chooses_the_pair_that_is_told_apart_most_within_the_tolerance() -> None:
    gains = {FIRST: 0.1, THIRD: 0.3, LONG: 9.0, SECOND: -0.2, f"{SECOND} Yes.": 0.2}
    rated: list[tuple[str, str]] = []

    def rate(pairs: Sequence[tuple[str, str]]) -> list[float]:
        rated.extend(pairs)
        return [gains[bare(text)] for _, text in pairs]

    sides = [said(FIRST), said(THIRD), said(LONG), said("No.")], [said(f"{SECOND} Yes."), said(SECOND)] * 2
    teacher = Teacher(*sides)
    kept, _ = generate(CONSTITUTION, Order(candidates=4, choose="ratio"), teacher, lambda _: None, rate=rate)
    assert {(bare(row.chosen), bare(row.rejected)) for row in kept} == {(THIRD, SECOND)}
    assert len(rated) == len(set(rated)) == 5 * len(PROMPTS)  # each sound text once a prompt


def test_a_stock_reply_is_kept_once_and_counted_after() -> None:
    class Stock(Teacher):
        def __call__(self, requests: Sequence[Request]) -> list[Reply]:
            return [said(bare(reply.text)) for reply in super().__call__(requests)]

    kept, dropped = made(Stock([said(FIRST)], [said(SECOND)]))
    assert [row.prompt for row in kept] == PROMPTS[:1]
    assert [drop.reason for drop in dropped] == ["resembles an earlier reply"] * (len(PROMPTS) - 1)


def test_a_reply_in_another_language_than_its_prompt_is_refused() -> None:
    german = "Sprich heute mit deiner Schwester, denn sie ist es, die das ganze Stück mit dem Auto fahren wird."
    kept, dropped = made(Teacher([said(german)], [said(SECOND)]))
    assert kept == []
    assert {drop.reason for drop in dropped} == {"every chosen reply was refused: in another language"}


THOUGHT = "It touches your sister most of all, and an evening on the road hangs on it."


class Deliberate(Teacher):
    """With a thought for each prompt."""

    def __init__(self, *sides: Sequence[Reply], thought: Reply) -> None:
        super().__init__(*sides)
        self.thought = thought

    def __call__(self, requests: Sequence[Request]) -> list[Reply]:
        asked = [DELIBERATE in request.messages[0].content for request in requests]
        sides = iter(super().__call__([r for r, thought in zip(requests, asked, strict=True) if not thought]))
        return [self.thought if thought else next(sides) for thought in asked]


@pytest.mark.parametrize("kind", ["voice", "poles"])
def test_a_deliberated_row_has_a_thought_in_character_before_both_replies(kind: Kind) -> None:
    teacher = Deliberate([said(FIRST)], [said(SECOND)], thought=said(THOUGHT))
    order = Order(kind=kind, candidates=1, deliberated=True)
    kept, dropped = generate(CONSTITUTION, order, teacher, lambda _: None)
    assert dropped == []
    assert {row.thought for row in kept} == {THOUGHT}
    requests = deliberations(CONSTITUTION, order)
    assert [request.messages[1].content for request in requests] == PROMPTS
    assert {request.messages[0].content for request in requests} == {f"{CONSTITUTION.system_prompt()}\n{DELIBERATE}"}
    plain, _ = made(Teacher([said(FIRST)], [said(SECOND)]), kind)
    assert all("thought" not in row.model_dump_json() for row in plain)


@pytest.mark.parametrize(
    ("thought", "reason"),
    [
        (said(THOUGHT, "length"), "its thought: cut off"),
        (said("Your sister."), "its thought: short"),
        (said(f"{THOUGHT} " * 5), "its thought: over 60 words"),
        (said("Tell your sister before the weekend, I would say."), "its thought: says what a reply says"),
    ],
)
def test_a_thought_that_is_none_takes_its_row_with_it(thought: Reply, reason: str) -> None:
    teacher = Deliberate([said(FIRST)], [said(SECOND)], thought=thought)
    kept, dropped = generate(CONSTITUTION, Order(candidates=1, deliberated=True), teacher, lambda _: None)
    assert kept == []
    assert all(drop.reason.startswith(reason) for drop in dropped)
