"""Verifiers: each passes a reply that does what was asked and fails one that does not."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethos.bench.items import Check, CheckKind
from ethos.bench.verifiers import VERIFIERS, fulfils

CASES: list[tuple[Check, str, str]] = [
    (Check(kind="contains", words=("salt", "olive oil")), "Add Salt, then olive oil.", "Add salt, then oil."),
    (Check(kind="contains", words=("cat",)), "A cat!", "Concatenate."),
    (Check(kind="excludes", words=("very",)), "Every day is good.", "It is Very good."),
    (Check(kind="starts_with", text="Dear Ada"), "dear Ada, hello.", "Hello, dear Ada."),
    (Check(kind="ends_with", text="Goodbye."), "See you. goodbye!", "Goodbye, see you."),
    (Check(kind="max_words", n=3), "Don't go home.", "Please don't go home."),
    (Check(kind="min_words", n=4), "Please don't go home.", "Don't go home."),
    (Check(kind="one_sentence"), "It rains, so stay in!", "It rains. Stay in."),
    (Check(kind="list_items", n=2), "Here:\n- one\n- two", "- one\n- two\n- three"),
    (Check(kind="list_items", n=2), "1. one\n2) two", "one and two"),
    (Check(kind="lowercase"), "all small, 1 2 3", "All small"),
    (Check(kind="uppercase"), "ALL LARGE, 1 2 3", "ALL LARGe"),
    (Check(kind="json_keys", keys=("name", "age")), 'Sure: {"name": "Ada", "age": 36, "x": 1}', '{"name": "Ada"}'),
    (Check(kind="json_keys", keys=("name",)), '```json\n{"name": 1}\n```', "{'name': 1}"),
    (Check(kind="number", value=1250), "That makes 1,250 in all.", "That makes 1,251 in all."),
    (Check(kind="number", value=-2.5), "It is -2.5 degrees.", "It is 2.5 degrees."),
    (Check(kind="number", value=7), "The answer is 7.", "The answer is 17, or 7.5, or 70."),
]


@pytest.mark.parametrize(("check", "right", "wrong"), CASES)
def test_a_right_reply_passes_and_a_wrong_one_fails(check: Check, right: str, wrong: str) -> None:
    assert fulfils(right, check)
    assert not fulfils(wrong, check)


def test_every_kind_has_a_verifier_and_a_case() -> None:
    kinds = set(get_args(CheckKind))
    assert set(VERIFIERS) == kinds
    assert {check.kind for check, _, _ in CASES} == kinds


@pytest.mark.parametrize("check", [check for check, _, _ in CASES])
@pytest.mark.parametrize("reply", ["", " \n"])
def test_an_empty_reply_fulfils_nothing(check: Check, reply: str) -> None:
    assert not fulfils(reply, check)


@given(st.sampled_from(CASES), st.text(max_size=60))
def test_no_reply_breaks_a_verifier(case: tuple[Check, str, str], reply: str) -> None:
    assert fulfils(reply, case[0]) in (True, False)


@given(st.text(max_size=60))
def test_a_reply_contains_or_excludes_a_word_and_never_both(reply: str) -> None:
    contains, excludes = Check(kind="contains", words=("a",)), Check(kind="excludes", words=("a",))
    assert not (fulfils(reply, contains) and fulfils(reply, excludes))
    assert not reply.strip() or fulfils(reply, contains) or fulfils(reply, excludes)


@given(st.lists(st.sampled_from(["one", "two", "three"]), min_size=1, max_size=8), st.integers(1, 8))
def test_word_limits_count_words(words: list[str], limit: int) -> None:
    reply = " ".join(words)
    assert fulfils(reply, Check(kind="max_words", n=limit)) == (len(words) <= limit)
    assert fulfils(reply, Check(kind="min_words", n=limit)) == (len(words) >= limit)


@pytest.mark.parametrize("kind", ["json_keys", "number"])
def test_broken_json_and_lone_signs_are_wrong_and_no_crash(kind: CheckKind) -> None:
    assert not fulfils('{"name": ', Check(kind=kind, keys=("name",), value=1))
    assert not fulfils("- , .", Check(kind=kind, keys=("name",), value=1))
    assert not fulfils("[1]" if kind == "json_keys" else "one", Check(kind=kind, keys=("name",), value=1))
