"""Generated contrasts: who is asked what, what is kept, and that every refusal is counted."""

from collections.abc import Sequence

import pytest

from ethos.constitution import read_constitution
from ethos.data.generation import BRIEFLY, Kind, generate
from ethos.data.recorded import PoleRow, VoiceRow, words
from ethos.samplers.replies import Reply, Request

CONSTITUTION = read_constitution("loving")
PROMPTS = [text for trait in CONSTITUTION.trait for text in trait.prompts["familiar"]]
FIRST = "Tell your sister before the weekend, since she is the one who has to drive all that way."
SECOND = "Drive there by yourself on Friday night and let your sister find out about it later on."
LONG = f"{SECOND} Then think it over in peace with a cup of tea by the window, and ask yourself what you would want."


def said(text: str, finish: str = "stop") -> Reply:
    return Reply.model_validate({"text": text, "num_tokens": 9, "finish": finish})


class Teacher:
    """Answers by side and candidate, and remembers what it was asked."""

    def __init__(self, *sides: Sequence[Reply]) -> None:
        self.sides, self.asked = sides, list[Request]()

    def __call__(self, requests: Sequence[Request]) -> list[Reply]:
        self.asked += requests
        candidates = len(self.sides[0])
        return [self.sides[place // candidates % 2][place % candidates] for place in range(len(requests))]


def made(teacher: Teacher, kind: Kind = "voice", *, sealed: bool = False):
    return generate(CONSTITUTION, kind, teacher, lambda _: sealed, candidates=len(teacher.sides[0]))


@pytest.mark.parametrize(("kind", "row"), [("voice", VoiceRow), ("poles", PoleRow)])
def test_each_familiar_prompt_becomes_a_row_with_its_trait(kind: Kind, row: type) -> None:
    teacher = Teacher([said(FIRST)], [said(SECOND)])
    kept, dropped = made(teacher, kind)
    assert [item.prompt for item in kept] == PROMPTS
    assert {type(item) for item in kept} == {row}
    assert {(item.chosen, item.rejected) for item in kept} == {(FIRST, SECOND)}
    assert dropped == []
    by_name = {trait.name: trait for trait in CONSTITUTION.trait}
    assert all(item.prompt in by_name[item.trait].prompts["familiar"] for item in kept)
    assert len({item.id for item in kept}) == len(kept)


def test_only_the_chosen_side_sees_the_constitution_and_poles_set_its_opposite_against_it() -> None:
    for kind, other in (("voice", BRIEFLY), ("poles", f"{CONSTITUTION.inverted().system_prompt()}\n{BRIEFLY}")):
        teacher = Teacher([said(FIRST)], [said(SECOND)])
        made(teacher, kind)
        systems = [request.messages[0].content for request in teacher.asked[:2]]
        assert systems == [f"{CONSTITUTION.system_prompt()}\n{BRIEFLY}", other]
        assert [request.messages[1].content for request in teacher.asked[::2]] == PROMPTS
        assert len({request.seed for request in teacher.asked}) == len(teacher.asked)


def test_the_candidates_nearest_in_length_are_paired() -> None:
    kept, _ = made(Teacher([said(LONG), said(FIRST)], [said(SECOND), said(f"{LONG} So be it, and good luck to you.")]))
    assert {(row.chosen, row.rejected) for row in kept} == {(FIRST, SECOND)}
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
