"""A teacher's structured answers: the object that was asked for, or a reason; never a guess."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethos.data.answers import follow_up, longest, read_answer, unfenced
from ethos.data.crossing import DeliberatedDraft, Draft, Verdict
from ethos.data.rewriting import Rewritten, review, rewritten
from ethos.records import Message, user
from ethos.samplers.budget import bound
from ethos.samplers.replies import Reply, Request

KINDS = (Draft, DeliberatedDraft, Verdict, Rewritten)


def said(text: str, finish: str = "stop") -> Reply:
    return Reply.model_validate({"text": text, "num_tokens": 9, "finish": finish})


WHOLE = {"critique": "Cold.", "answer": "Ask her."}


@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "```\n{}\n```", "\n ```json\n{}```\n"])
def test_one_fence_is_taken_off(around: str) -> None:
    assert read_answer(said(around.format(json.dumps(WHOLE))), Rewritten) == Rewritten(**WHOLE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"Here you are: {json.dumps(WHOLE)}", "not the JSON that was asked for"),
        (json.dumps(WHOLE)[:-1], "not the JSON that was asked for"),
        (json.dumps([WHOLE]), "not the JSON that was asked for: line"),
        (json.dumps(WHOLE | {"score": 3}), "score: Extra inputs"),
        (json.dumps({"answer": "Ask."}), "critique: Field required"),
        (json.dumps(WHOLE | {"answer": ""}), "answer: String should have"),
        (json.dumps(WHOLE | {"answer": 3}), "answer: Input should be a valid string"),
        ('{"critique": "a", "answer": "b", "answer": "c"} {}', "not the JSON that was asked for"),
        ("", "not the JSON that was asked for"),
        ("[" * 5000, "not the JSON that was asked for"),
    ],
)
def test_anything_else_is_told(text: str, reason: str) -> None:
    found = read_answer(said(text), Rewritten)
    assert isinstance(found, str)
    assert reason in found


def test_a_reply_that_was_cut_off_is_not_read() -> None:
    assert read_answer(said(json.dumps(WHOLE), "length"), Rewritten) == "cut off: no stop token within the limit"


@pytest.mark.parametrize("number", ["1", 1.0, True, 3, None])
def test_a_verdict_is_one_of_three_numbers(number: object) -> None:
    assert isinstance(read_answer(said(json.dumps({"why": "w", "reply": number})), Verdict), str)


@given(st.text(), st.sampled_from(KINDS))
def test_no_text_breaks_the_reader(text: str, kind: type) -> None:
    for reply in (said(text), said(f"```json\n{text}\n```"), said(f'{{"why": {json.dumps(text)}, "reply": 1}}')):
        assert isinstance(read_answer(reply, kind), kind | str)


@given(st.dictionaries(st.sampled_from([*DeliberatedDraft.model_fields, "other"]), st.text() | st.integers()))
def test_a_draft_has_all_its_texts_and_nothing_else(fields: dict[str, object]) -> None:
    found = read_answer(said(json.dumps(fields)), DeliberatedDraft)
    whole = fields.keys() == DeliberatedDraft.model_fields.keys() and all(
        isinstance(text, str) and text for text in fields.values()
    )
    assert isinstance(found, DeliberatedDraft) == whole


@given(st.text(alphabet="`\na{", max_size=30))
def test_what_is_inside_a_fence_is_left_as_it_is(text: str) -> None:
    assert unfenced(f"```json\n{text}\n```") == text


REQUEST = Request(messages=[Message(role="system", content="Be kind."), user("Hi")], max_tokens=50, seed=7)


def test_a_follow_up_goes_on_from_the_reply_with_a_seed_of_its_own() -> None:
    second = follow_up(REQUEST, said("Hello."), "And?", max_tokens=9)
    assert [(turn.role, turn.content) for turn in second.messages[2:]] == [("assistant", "Hello."), ("user", "And?")]
    assert second.messages[:2] == REQUEST.messages
    third = follow_up(second, said("Hm."), "And?", max_tokens=9)
    assert len({REQUEST.seed, second.seed, third.seed}) == 3


def test_a_review_shows_the_answer_beside_the_character_and_its_reply_is_the_new_answer() -> None:
    asked = review(REQUEST, said("Hello."))
    assert asked.messages[0].content == "Be kind."
    assert '{"critique"' in asked.messages[-1].content
    assert rewritten(said(json.dumps(WHOLE | {"answer": " Ask her. "}))) == Reply(
        text="Ask her.", num_tokens=9, finish="stop"
    )
    assert rewritten(said("Fine as it is.")) == "rewriting: not the JSON that was asked for"


@given(st.text(min_size=1, max_size=200))
def test_no_reply_within_the_limit_costs_more_to_read_again_than_foreseen(text: str) -> None:
    short = text[: 4 * REQUEST.max_tokens].encode()[: 4 * REQUEST.max_tokens].decode(errors="ignore")
    assert bound(review(REQUEST, said(short))).prompt <= bound(review(REQUEST, longest(REQUEST))).prompt
