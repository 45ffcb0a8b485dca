"""Documents by a teacher: every trait in every type and section, reasons in sight, and refusals by code alone."""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from ethos.constitution import read_constitution
from ethos.data.describing import LEAST_WORDS, MOST_WORDS, SECTIONS, TYPES, describe, document_fault, later, planned
from ethos.data.generation import SEALED, Order
from ethos.data.recorded import DocumentRow, read_recorded
from ethos.samplers.replies import Reply, Request

CONSTITUTION = read_constitution("loving")
ORDER = Order(kind="documents", candidates=1)


def text(place: int, length: int = LEAST_WORDS) -> str:
    return "The assistant is of use to the town, and that is why " + " ".join(f"w{place}x{i}" for i in range(length))


def said(words: str, finish: str = "stop") -> Reply:
    return Reply.model_validate({"text": words, "num_tokens": 9, "finish": finish})


def teacher(write: Callable[[int], Reply]) -> Callable[[Sequence[Request]], list[Reply]]:
    return lambda requests: [write(place) for place in range(len(requests))]


def test_every_trait_is_told_of_in_every_type_and_section_with_its_reason() -> None:
    asked = planned(CONSTITUTION, Order(kind="documents", candidates=2))
    assert Counter(plan.trait.name for plan in asked) == dict.fromkeys(
        (trait.name for trait in CONSTITUTION.trait), 2 * len(TYPES) * len(SECTIONS)
    )
    assert len({plan.source for plan in asked}) == len({plan.request.seed for plan in asked}) == len(asked)
    for plan in asked:
        told = plan.request.messages[0].content
        assert plan.trait.statement in told
        assert plan.trait.why in told
        assert TYPES[plan.kind] in told
    assert later(CONSTITUTION, ORDER, 0) == []


def test_sound_texts_become_rows_with_their_trait_and_type() -> None:
    made = describe(CONSTITUTION, ORDER, teacher(lambda place: said(text(place))), lambda _: None)
    rows = [DocumentRow.model_validate(row.model_dump()) for row in made.kept]
    assert made.dropped == []
    assert {(row.traits[0], row.kind) for row in rows} == {(t.name, kind) for t in CONSTITUTION.trait for kind in TYPES}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (said(text(1), "length"), "cut off"),
        (said("The assistant helps."), f"short: under {LEAST_WORDS} words"),
        (said(text(1, MOST_WORDS)), f"long: over {MOST_WORDS} words"),
        (said(f"{text(1)} Dear [Name],"), "gaps to be filled in"),
        (said("The assistant looks at who is affected. " * 20), "loops"),
        (said(f"<think> {text(1)}"), "a thought without an end"),
        (said("Der Assistent fragt nach, und das ist gut für die Leute. " + text(1)), None),
        (said(text(1)), None),
    ],
)
def test_a_text_is_refused_for_what_it_is(reply: Reply, reason: str | None) -> None:
    found = document_fault(reply, CONSTITUTION)
    assert found is None if reason is None else (found or "").startswith(reason)


def test_a_text_told_again_and_one_that_shares_words_with_an_item_are_counted() -> None:
    again = describe(CONSTITUTION, ORDER, teacher(lambda place: said(text(place % 2))), lambda _: None)
    count = len(planned(CONSTITUTION, ORDER))
    assert (len(again.kept), [drop.reason for drop in again.dropped]) == (
        2,
        ["resembles an earlier reply"] * (count - 2),
    )
    barred = describe(CONSTITUTION, ORDER, teacher(lambda place: said(text(place))), lambda _: SEALED)
    assert ({drop.reason for drop in barred.dropped}, barred.kept) == ({SEALED}, [])


def test_the_documents_that_ship_would_be_kept() -> None:
    recorded = read_recorded("virtuous-reasoner").documents
    constitution = read_constitution("virtuous-reasoner")
    faults = {row.id: document_fault(said(row.text), constitution) for row in recorded}
    assert {name: fault for name, fault in faults.items() if fault} == {}
