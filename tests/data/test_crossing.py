"""Crossed contrasts by a teacher: what is asked, what is mended, and what two readings have to agree on."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethos.constitution import read_constitution
from ethos.data import recorded
from ethos.data.crossing import DECIDES, Draft, Showing, cross, later, refuted, showings_of, wanted
from ethos.data.generation import SEALED, Order
from ethos.data.recorded import CrossedRow
from ethos.samplers.replies import Reply, Request

WHOLE = read_constitution("loving")
CONSTITUTION = WHOLE.model_copy(update={"trait": WHOLE.trait[:1], "priority": [WHOLE.trait[0].name]})
KINDS = get_args(recorded.Kind)
GOOD = {
    "a": "My neighbour lent me a ladder for our roof, and she leaves for good tonight at nine.",
    "b": "My neighbour lent me a ladder for our roof, and she leaves for good in ten years.",
    "r1": "Carry it back now, before anything else.",
    "r2": "Finish the roof first, then carry it back.",
    "fact": "tonight versus in ten years",
}
THOUGHTS = {
    "thought_a": "She is gone tonight, and then it is too late.",
    "thought_b": "She will be here for years yet.",
}


def said(text: str) -> Reply:
    return Reply(text=text, num_tokens=9, finish="stop")


def story(place: int) -> dict[str, str]:
    """A sound draft that no other one resembles."""
    names = " ".join(f"{name}{place}" for name in ("ann", "bob", "cem", "dee", "eli", "flo", "gus", "hal", "ivo"))
    return GOOD | {"a": f"{names} leaves tonight.", "b": f"{names} leaves in ten years."}


def verdict(request: Request, draft: dict[str, str]) -> int:
    """The number of the right reply where it is shown."""
    text = request.messages[0].content
    right = draft["r1"] if draft["a"] in text else draft["r2"]
    return 1 if f"1. {right}" in text else 2


class Teacher:
    """Drafts `draft(place)`, mends to `mended(place)`, and reads rightly unless `read` says otherwise."""

    def __init__(
        self,
        draft: Callable[[int], Any] = story,
        mended: Callable[[int], Any] = story,
        read: Callable[[int, int], object] = lambda place, right: right,
    ) -> None:
        self.draft, self.mended, self.read = draft, mended, read
        self.rounds = list[list[Request]]()
        self.told = dict[str, dict[str, str]]()

    def __call__(self, requests: Sequence[Request]) -> list[Reply]:
        self.rounds.append(list(requests))
        if len(self.rounds) < 3:
            say = self.draft if len(self.rounds) == 1 else self.mended
            drafts = [say(place) for place in range(len(requests))]
            self.told |= {draft["a"]: draft for draft in drafts if isinstance(draft, dict)}
            return [said(draft if isinstance(draft, str) else json.dumps(draft)) for draft in drafts]
        return [
            said(json.dumps({"why": "w", "reply": self.read(place, verdict(request, self.shown(request)))}))
            for place, request in enumerate(requests)
        ]

    def shown(self, request: Request) -> dict[str, str]:
        text = request.messages[0].content
        return next(draft for draft in reversed(self.told.values()) if draft["a"] in text or draft["b"] in text)


def crossed(teacher: Teacher, *, sealed: str = "nothing", **order: Any) -> tuple[list[CrossedRow], Counter[str]]:
    made = cross(
        CONSTITUTION,
        Order(kind="crossed", candidates=1, **order),
        teacher,
        lambda texts: SEALED if any(sealed in text for text in texts) else None,
    )
    return made.kept, Counter(drop.reason for drop in made.dropped)


def test_every_kind_of_fact_has_its_words_and_is_asked_about_for_every_trait() -> None:
    assert tuple(DECIDES) == KINDS
    asked = wanted(WHOLE, Order(kind="crossed", candidates=2))
    assert Counter((want.trait.name, want.kind) for want in asked) == {
        (t.name, k): 2 for t in WHOLE.trait for k in KINDS
    }
    assert len({want.request.seed for want in asked}) == len({want.source for want in asked}) == len(asked)
    for want in asked:
        assert want.trait.statement in want.request.messages[0].content
        assert DECIDES[want.kind] in want.request.messages[0].content


def test_sound_drafts_that_are_borne_out_become_rows() -> None:
    teacher = Teacher()
    rows, dropped = crossed(teacher)
    assert dropped == Counter()
    assert [row.kind for row in rows] == list(KINDS)
    assert {row.trait for row in rows} == {CONSTITUTION.trait[0].name}
    assert [len(asked) for asked in teacher.rounds] == [10, 0, 40]


def test_thoughts_come_with_the_rows_where_they_were_ordered() -> None:
    rows, dropped = crossed(Teacher(draft=lambda place: story(place) | THOUGHTS), deliberated=True)
    assert not dropped
    assert {(row.thought_a, row.thought_b) for row in rows} == {tuple(THOUGHTS.values())}
    assert crossed(Teacher(), deliberated=True)[0] == []  # asked for, and missing


LONG = "Finish the roof first, then the gutter, then the chimney, and carry it back at last."
BROKEN: dict[str, tuple[Any, str]] = {
    "no JSON": ("Sure, here are two situations.", "not the JSON that was asked for"),
    "one situation": ({"b": GOOD["a"], "a": GOOD["a"]}, "the two situations, or the two replies, are the same"),
    "one reply": ({"r2": GOOD["r1"]}, "the two situations, or the two replies, are the same"),
    "a long reply": ({"r2": LONG}, "the replies differ in length by more than 3 words"),
    "a short situation": ({"b": "She leaves in ten years."}, "a situation: short: under 8 words"),
    "a long situation": ({"a": " ".join(f"word{i}" for i in range(61))}, "a situation: over 60 words"),
    "a refusal": ({"r1": "I'm sorry, I can't help with that."}, "a reply: refusal"),
    "an invented turn": ({"r1": "Go now.\nUser: thanks, I will."}, "a reply: invented turn"),
    "its own instructions": ({"r1": "My constitution says to go now."}, "a reply: speaks of its instructions"),
    "a quotation": ({"a": CONSTITUTION.trait[0].statement}, "a situation: quotes the constitution"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_draft_is_sent_back_once_with_its_fault_and_then_dropped(fault: str) -> None:
    broken, reason = BROKEN[fault]

    def draft(place: int) -> Any:
        return broken if isinstance(broken, str) else story(place) | broken

    mended = Teacher(draft=draft)
    rows, dropped = crossed(mended)
    assert (len(rows), dropped) == (10, Counter())
    back = mended.rounds[1][0]
    assert back.messages[:1] == mended.rounds[0][0].messages
    assert back.messages[1].content == (broken if isinstance(broken, str) else json.dumps(draft(0)))
    assert reason in back.messages[2].content
    stubborn = Teacher(draft=draft, mended=draft)
    assert crossed(stubborn) == ([], Counter({reason: 10}))
    assert stubborn.rounds[2] == []  # nothing to verify


def test_who_cannot_count_is_told_the_words() -> None:
    teacher = Teacher(draft=lambda place: story(place) | {"r2": LONG})
    crossed(teacher)
    assert "r1 has 7 words and r2 has 16." in teacher.rounds[1][0].messages[2].content


def test_the_same_story_told_again_and_a_sealed_one_are_dropped_unverified() -> None:
    teacher = Teacher(draft=lambda place: story(min(place, 7)))
    rows, dropped = crossed(teacher, sealed="ann3")
    assert dropped == Counter(
        {"tells the story of an earlier draft": 2, "shares eight words in a row with a benchmark item": 1}
    )
    assert len(rows) == 7
    assert len(teacher.rounds[2]) == 4 * 7


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (lambda place, right: 1, "the verifications disagree"),  # always the reply that is shown first
        (lambda place, right: 3 - right, "both verifications find it wrong"),
        (lambda place, right: 0, "both verifications find it wrong"),
        (lambda place, right: right if place % 4 else 0, "the verifications disagree"),
        (lambda place, right: right if place % 4 != 3 else 3 - right, "the verifications disagree"),
        (lambda place, right: str(right), "a verification could not be read"),
    ],
)
def test_a_draft_that_two_readings_do_not_bear_out_is_dropped(read: Callable[[int, int], object], reason: str) -> None:
    assert crossed(Teacher(read=read)) == ([], Counter({reason: 10}))


@given(st.integers(0, 10**6))
def test_readings_see_one_situation_each_and_the_second_one_the_other_order(seed: int) -> None:
    draft = Draft(**GOOD)
    showings = showings_of(draft, CONSTITUTION, seed)
    texts = [showing.request.messages[0].content for showing in showings]
    assert [("tonight" in text, "ten years" in text) for text in texts] == [(True, False), (False, True)] * 2
    assert [showing.right for showing in showings[:2]] == [3 - showing.right for showing in showings[2:]]
    assert len({showing.request.seed for showing in showings}) == 4
    for place, showing in enumerate(showings):
        assert f"{showing.right}. {draft.r2 if place % 2 else draft.r1}" in texts[place]
        assert draft.fact not in texts[place]


def test_both_orders_come_first_alike_often() -> None:
    firsts = Counter(
        tuple(showing.right for showing in showings_of(Draft(**GOOD), CONSTITUTION, seed)[:2]) for seed in range(400)
    )
    assert all(70 < firsts[a, b] < 130 for a in (1, 2) for b in (1, 2))


def test_one_unsound_reading_is_enough() -> None:
    showing = Showing(Request(messages=[]), 1)
    right, wrong = said('{"why": "", "reply": 1}'), said("The first.")
    assert refuted([showing] * 4, [right] * 4) is None
    assert refuted([showing] * 4, [right, right, right, wrong]) == "a verification could not be read"


def test_what_is_foreseen_is_no_less_than_what_is_asked() -> None:
    order = Order(kind="crossed", candidates=1)
    teacher = Teacher(draft=lambda _: "no", mended=story)
    cross(CONSTITUTION, order, teacher, lambda _: None)
    for number in range(3):
        assert len(later(CONSTITUTION, order, number)) == sum(map(len, teacher.rounds[number + 1 :]))
