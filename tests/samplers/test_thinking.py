"""Thoughts before replies: found in a block or in a field, kept or gone as was asked, and never taken for a reply."""

import pytest
from pydantic import ValidationError

from ethos.constitution import read_constitution
from ethos.data.filters import fault
from ethos.samplers.api import Teacher, _read, openai_reply
from ethos.samplers.replies import Reply
from ethos.samplers.thinking import Thinking, parted, unfinished, with_thoughts

REPLY = "Ask your neighbour before you paint the fence, since half of it is hers and she sees it daily."
THOUGHT = "Whose fence is it?\nHers, too."
KEPT = f"<think>\n{THOUGHT}\n</think>\n\n{REPLY}"


def said(text: str, finish: str = "stop") -> Reply:
    return Reply.model_validate({"text": text, "num_tokens": 9, "finish": finish})


@pytest.mark.parametrize(
    "text",
    [
        f"<think>{THOUGHT}</think>{REPLY}",
        f"  <think>\n{THOUGHT}\n</think>\n\n{REPLY}\n",
        f"{THOUGHT}\n</think>\n{REPLY}",
    ],
    ids=["a block", "a block in lines", "a block that the template opened"],
)
def test_a_thought_is_parted_from_its_reply_and_kept_or_gone(text: str) -> None:
    assert parted(text) == (THOUGHT, REPLY)
    whole = text.strip() if "<think>" in text else KEPT
    for thinking, left in (("strip", REPLY), ("keep", whole)):
        reply = with_thoughts(said(text), thinking)
        assert (reply.text, reply.thought) == (left, True)


def test_a_reply_without_thoughts_stays_as_it_is_and_looks_the_same_on_disk() -> None:
    for thinking in ("strip", "keep"):
        assert with_thoughts(said(REPLY), thinking) == said(REPLY)
    assert "thought" not in said(REPLY).model_dump_json()
    assert parted("I think </b> so") == ("", "I think </b> so")


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_thought_without_an_end_is_no_reply_and_says_so(finish: str) -> None:
    reply = with_thoughts(said(f"<think>\n{THOUGHT} {REPLY}", finish), "strip")
    assert unfinished(reply.text)
    assert fault(reply, read_constitution("loving")) == "a thought without an end"
    assert not unfinished(KEPT)


def openai(message: dict[str, str | None], finish: str = "stop") -> object:
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": {"completion_tokens": 5}}


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize(("thinking", "left"), [("strip", REPLY), ("keep", KEPT)])
def test_thoughts_in_a_field_of_their_own_count_as_those_in_a_block(field: str, thinking: Thinking, left: str) -> None:
    reply = openai_reply(openai({"content": REPLY, field: THOUGHT}), thinking)
    assert (reply.text, reply.thought, reply.finish) == (left, True, "stop")


def test_anthropic_thinks_in_blocks_of_its_own() -> None:
    blocks = [{"type": "thinking", "thinking": THOUGHT, "signature": "s"}, {"type": "text", "text": REPLY}]
    answer = {"content": blocks, "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 5}}
    for thinking, left in (("strip", REPLY), ("keep", KEPT)):
        teacher = Teacher.model_validate(
            {"interface": "anthropic", "url": "http://a/v1", "model": "m", "thinking": thinking}
        )
        assert _read(teacher, answer).text == left


def test_what_was_cut_off_while_it_thought_is_not_asked_for_again_and_again() -> None:
    for content in (None, ""):
        reply = openai_reply(openai({"content": content, "reasoning_content": THOUGHT}, "length"), "strip")
        assert unfinished(reply.text)
        assert reply.finish == "length"
    with pytest.raises(ValidationError):  # a reply that ended has text
        openai_reply(openai({"content": None, "reasoning_content": THOUGHT}), "strip")
    with pytest.raises(ValidationError):
        openai_reply(openai({"content": f"<think>{THOUGHT}</think>"}), "strip")


def test_room_for_thoughts_is_in_the_requests_and_not_in_the_teachers_name() -> None:
    plain = Teacher(url="http://a/v1", model="m")
    assert plain.model_copy(update={"thought_tokens": 900}).fingerprint() == plain.fingerprint()
    assert plain.model_copy(update={"thinking": "keep"}).fingerprint() != plain.fingerprint()
