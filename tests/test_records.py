"""Records survive the disk unchanged, and a broken file says where it broke."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ethos.errors import DataError
from ethos.records import (
    Conversation,
    Drop,
    Message,
    Preference,
    assistant,
    digest_of,
    read_jsonl,
    read_text,
    to_jsonl,
    user,
)

LABEL = st.text(max_size=10)
MESSAGES = st.lists(
    st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=st.text(max_size=40)), max_size=4
)
CONVERSATIONS = st.builds(Conversation, messages=MESSAGES, kind=LABEL, source=LABEL, learn_from=st.integers(0, 9))
PREFERENCES = st.builds(
    Preference, prompt=MESSAGES, chosen=MESSAGES, rejected=MESSAGES, group=LABEL, kind=LABEL, source=LABEL
)
TALK = Conversation(messages=[user("Hello"), assistant("Hi")], kind="replay", source="replay:1")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records") / "rows.jsonl"


@given(rows=st.lists(CONVERSATIONS, min_size=1, max_size=4))
def test_conversations_come_back_from_disk_as_they_went(file: Path, rows: list[Conversation]) -> None:
    file.write_text(to_jsonl(rows), encoding="utf-8")
    assert read_jsonl(file, Conversation) == rows


@given(rows=st.lists(PREFERENCES, min_size=1, max_size=4))
def test_preferences_come_back_from_disk_as_they_went(file: Path, rows: list[Preference]) -> None:
    file.write_text(to_jsonl(rows), encoding="utf-8")
    assert read_jsonl(file, Preference) == rows


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c", "\r", "\n"])
def test_a_line_break_inside_a_text_does_not_break_the_line(file: Path, mark: str) -> None:
    rows = [Drop(source="reflection:1", reason=f"one{mark}two"), Drop(source="reflection:2", reason="short")]
    file.write_text(to_jsonl(rows), encoding="utf-8")
    assert read_jsonl(file, Drop) == rows


def test_half_a_line_is_named_by_file_and_line(file: Path) -> None:
    whole = to_jsonl([TALK, TALK])
    file.write_text(whole + TALK.model_dump_json()[:40])
    with pytest.raises(DataError) as caught:
        read_jsonl(file, Conversation)
    assert str(caught.value).startswith(f"{file}:3: ")
    assert "Conversation" in str(caught.value)


@given(cut=st.integers(1, len(TALK.model_dump_json()) - 1))
def test_a_line_cut_anywhere_is_refused(file: Path, cut: int) -> None:
    file.write_text(TALK.model_dump_json()[:cut])
    with pytest.raises(DataError, match=r"rows\.jsonl:1: "):
        read_jsonl(file, Conversation)


def test_an_unknown_key_is_named_with_its_line(file: Path) -> None:
    file.write_text(to_jsonl([Drop(source="a", reason="b")]) + '{"source": "a", "reason": "b", "resaon": "c"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:2: resaon: "):
        read_jsonl(file, Drop)


def test_a_role_outside_the_three_is_named_with_its_place(file: Path) -> None:
    file.write_text(TALK.model_dump_json().replace('"assistant"', '"assitant"'))
    with pytest.raises(DataError, match=r"rows\.jsonl:1: messages\.1\.role: "):
        read_jsonl(file, Conversation)


def test_a_file_that_is_not_utf8_is_named_with_the_byte(file: Path) -> None:
    file.write_bytes(b'{"source": "caf\xe9", "reason": ""}\n')
    with pytest.raises(DataError, match="not UTF-8 at byte 15") as caught:
        read_jsonl(file, Drop)
    assert str(file) in str(caught.value)


def test_an_empty_file_holds_no_records(file: Path) -> None:
    file.write_text("")
    with pytest.raises(DataError, match="holds no records") as caught:
        read_jsonl(file, Drop)
    assert str(file) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file") as caught:
        read_jsonl(tmp_path / "gone.jsonl", Drop)
    assert str(tmp_path / "gone.jsonl") in str(caught.value)


def test_a_folder_in_place_of_a_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_text(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_a_data_error(tmp_path: Path) -> None:
    secret = tmp_path / "rows.jsonl"
    secret.write_text("{}")
    secret.chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        read_text(secret)


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TALK.kind = "reflection"


def test_rows_have_the_columns_that_trl_reads() -> None:
    row = Preference(
        prompt=[user("Hello")],
        chosen=[assistant("Hi")],
        rejected=[assistant("No")],
        group="g",
        kind="pole",
        source="s",
    ).model_dump()
    assert row["prompt"] == [{"role": "user", "content": "Hello"}]
    assert row["chosen"] == [{"role": "assistant", "content": "Hi"}]
    assert row["rejected"] == [{"role": "assistant", "content": "No"}]
    assert TALK.model_dump()["messages"] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
    ]


@given(CONVERSATIONS, CONVERSATIONS)
def test_digests_are_equal_exactly_where_records_are(one: Conversation, other: Conversation) -> None:
    assert len(one.digest()) == 12
    assert (one.digest() == other.digest()) == (one == other)


@given(st.lists(st.builds(Drop, source=LABEL, reason=LABEL), min_size=2, max_size=5))
def test_the_digest_of_many_records_depends_on_their_order(rows: list[Drop]) -> None:
    assert (digest_of(rows) == digest_of(rows[::-1])) == (rows == rows[::-1])
