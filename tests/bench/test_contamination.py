"""Contamination: whatever shares eight words in a row with an item is found, at any depth."""

from pathlib import Path

import pytest
from test_items import CANARY, FILES, length, passage

from ethos.bench.contamination import contaminated, contamination, sealed_runs, texts_of
from ethos.bench.item_files import Items
from ethos.bench.items import Choice, Crossed
from ethos.records import Conversation, assistant, user

EIGHT = "the quick brown fox jumps over the lazy"


@pytest.mark.parametrize(
    ("training", "sealed", "found"),
    [
        (f"{EIGHT} dog", f"Once more {EIGHT} cat.", True),
        (f"{EIGHT} dog", "Once more: The QUICK, brown fox (jumps) over the lazy!", True),
        ("quick brown fox jumps over the lazy dog", "seven only: brown fox jumps over the lazy dog", False),
        (f"{EIGHT} dog", "nothing here is shared with that other text at all", False),
        ("the quick brown fox", "the quick brown fox", False),
    ],
)
def test_eight_words_in_a_row_are_contamination_and_fewer_are_not(
    training: str, sealed: str, found: bool, tmp_path: Path
) -> None:
    (tmp_path / "mine.jsonl").write_text(CANARY + passage("other", "Something else.") + passage("one", sealed))
    assert contamination([training], sealed_runs(tmp_path)) == ([training] if found else [])


def test_every_text_of_every_file_is_sealed_at_any_depth(tmp_path: Path) -> None:
    choice = Choice(id="c", question="Which?", options=["no", EIGHT], answer=0)
    (tmp_path / "choice.jsonl").write_text(CANARY + choice.model_dump_json() + "\n")
    (tmp_path / "passages.jsonl").write_text(CANARY + passage("p", EIGHT[::-1]))
    assert contamination([EIGHT, EIGHT[::-1]], sealed_runs(tmp_path)) == [EIGHT, EIGHT[::-1]]


def test_the_canary_itself_is_no_contamination(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(CANARY + passage("p"))
    assert contamination(["ethos benchmark item, do not train on it: this is a warning"], sealed_runs(tmp_path)) == []


@pytest.mark.parametrize("name", FILES)
def test_every_shipped_item_is_known_to_the_contamination_check(name: str) -> None:
    sealed = sealed_runs()
    unsealed = [
        item.id
        for item in Items().load(name, FILES[name])
        for text in texts_of(item)
        if length(text) >= 8 and not contamination([text], sealed)
    ]
    assert unsealed == []


def test_texts_of_a_record_are_found_at_any_depth() -> None:
    choice = Choice(id="c", question=EIGHT, options=["no", "yes"], answer=0)
    assert texts_of(choice) == ["c", EIGHT, "no", "yes"]


def test_a_conversation_that_holds_an_item_is_found() -> None:
    item = Items().load("crossed", Crossed)[-1]
    rows = [
        Conversation(messages=[user(text), assistant("So be it.")], kind="reflection", source=source)
        for source, text in (("fine", "Some words of my own, and more than eight of them."), ("leak", f"Oh! {item.r1}"))
    ]
    assert contaminated(rows) == ["leak"]
