"""Rows as the model sees them and in numbers, by hand: the tiny tokenizer has one token a byte."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethos.chat import Chat
from ethos.data.files import PREFERENCES
from ethos.errors import DataError
from ethos.manifest import read_manifest
from ethos.models import load_tokenizer_chat
from ethos.records import Conversation, Document, Drop, Preference, assistant, read_jsonl, to_jsonl, user
from ethos.rows.provenance import AnyRow, Traced, read_trained
from ethos.rows.seen import Turn, as_read, seen
from ethos.rows.tally import Line, abouts, refusals, render_stats, tally

END = "<|im_end|>"
OPENING, TURN = 1 + len("user\n") + 1 + 1, 1 + len("assistant\n")
"""Tokens around a user's text, and before a reply: <|im_start|>, the role, <|im_end|>, a line break."""


def contrast(chosen: str, rejected: str, kind: str = "pole", about: str = "care") -> Traced[Preference]:
    row = Preference(
        prompt=[user("ab")],
        chosen=[assistant(chosen)],
        rejected=[assistant(rejected)],
        group="g",
        kind=kind,
        source=f"{kind}:1",
    )
    return Traced(row, "data", about)


def talk(*texts: str, learn_from: int = 0) -> Traced[Conversation]:
    turns = [user(text) if place % 2 == 0 else assistant(text) for place, text in enumerate(texts)]
    return Traced(Conversation(messages=turns, kind="interaction", source="i:1", learn_from=learn_from), "data", "")


def test_a_contrast_by_hand(chat: Chat) -> None:
    found = seen(chat, contrast("xyz", "q"))
    assert found.turns == [Turn("user", "ab", "")]
    assert found.chosen == [Turn("assistant", "xyz", END)]
    assert found.rejected == [Turn("assistant", "q", END)]
    assert (found.learnt, found.context) == (3 + 1 + 1 + 1, OPENING + 2 + TURN)


def test_a_conversation_learns_from_its_place_on(chat: Chat) -> None:
    found = seen(chat, talk("a", "bc", "d", "efg", learn_from=2))
    assert [turn.end for turn in found.turns] == ["", "", "", END]
    assert found.learnt == 3 + 1
    assert found.context == 2 * (OPENING + 1 + TURN) + len("bc") + 1 + 1  # the first reply, its end and its line break


def test_a_document_is_learnt_but_for_the_token_that_opens_it(chat: Chat) -> None:
    found = seen(chat, Traced(Document(text="hello", kind="news", source="document:1"), "data", ""))
    assert (found.learnt, found.context, found.turns) == (6, 1, [Turn("document", "hello", END)])


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1).map(str.strip).filter(bool)


@given(turns=st.lists(texts, min_size=2, max_size=6), learn_from=st.integers(0, 1))
def test_what_is_coloured_is_what_is_learnt(tiny_base: Path, turns: list[str], learn_from: int) -> None:
    chat, row = load_tokenizer_chat(tiny_base), talk(*turns[: len(turns) // 2 * 2], learn_from=learn_from)
    messages = row.row.messages
    rendered = chat.render(messages, learn_from=learn_from)
    coloured = "".join(turn.text + turn.end for turn in seen(chat, row).turns if turn.end)
    learnt = [token for token, carries in zip(rendered.tokens, rendered.mask, strict=True) if carries]
    assert coloured == chat.tokenizer.decode(learnt)
    assert "".join(text for text, _ in as_read(chat, messages)) == chat.tokenizer.decode(rendered.tokens)


def test_a_line_a_kind_by_hand(chat: Chat) -> None:
    rows: list[AnyRow] = [
        contrast("one two", "one"),
        contrast("one two", "one"),
        contrast("a b c", "d"),
        talk("x", "y"),
    ]
    pole, interaction = tally([(row, seen(chat, row)) for row in rows])
    context = OPENING + 2 + TURN
    learnt = 2 * (len("one two") + 1 + len("one") + 1) + len("a b c") + 1 + len("d") + 1
    assert pole == Line("pole", 3, learnt, 3 * context, pytest.approx(7 / 3), 1.0, repeated=1)
    assert interaction[:6] == ("interaction", 1, 2, OPENING + 1 + TURN, None, None)


def test_a_row_counts_under_each_of_its_traits(tiny_run: Path) -> None:
    rows = [contrast("a", "b", "pole", "care, wit"), contrast("a", "b", "voice", "wit"), contrast("a", "b", about="")]
    found = abouts(read_trained(tiny_run)._replace(preferences=rows))
    assert found == {"wit": Counter(pole=1, voice=1), "care": Counter(pole=1)}
    assert list(found) == ["wit", "care"]


def test_refusals_are_counted_by_stage_and_reason(tiny_run: Path) -> None:
    drops = [Drop(source=str(place), reason=reason) for place, reason in enumerate(("short", "loops", "loops"))]
    trained = read_trained(tiny_run)._replace(dropped={"data": drops[:1], "introspection": drops})
    assert refusals(trained) == [("data", 1, "short"), ("introspection", 2, "loops"), ("introspection", 1, "short")]


def test_the_numbers_of_a_finished_run(tiny_run: Path) -> None:
    told, trained = render_stats(tiny_run), read_trained(tiny_run)
    assert told.startswith("virtuous-reasoner 1.0 in ")
    kinds = Counter(row.kind for rows in trained.by_kind for row in rows)
    for kind, count in kinds.items():
        assert any(line.split()[:2] == [kind, str(count)] for line in told.splitlines()), kind
    assert f"{len(trained.preferences)} preference rows: " in told
    assert "dropped by introspection: 2 cut off: no stop token within the limit\n" in told
    assert "a bag of words picks the crossed reply: familiar 50%" in told


def test_a_run_that_dropped_nothing_says_so(tiny_run: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tiny_run, tmp_path / "copy", symlinks=True))
    (root / read_manifest(root).stages["introspection"] / "dropped.jsonl").write_text(to_jsonl([]))
    assert "no filter refused a row" in render_stats(root)


def test_a_controls_swapped_labels_are_told(tiny_run: Path, tmp_path: Path) -> None:
    assert "swapped" not in render_stats(tiny_run)
    root = Path(shutil.copytree(tiny_run, tmp_path / "copy", symlinks=True))
    path = root / read_manifest(root).stages["data"] / PREFERENCES
    rows = read_jsonl(path, Preference)
    path.write_text(to_jsonl([row.model_copy(update={"swapped": row.kind == "pole"}) for row in rows]))
    assert "note: a control: 2 of 10 contrasts have chosen and rejected swapped" in render_stats(root)


def test_a_data_stage_alone_has_no_tokenizer(tiny_run: Path) -> None:
    with pytest.raises(DataError, match="a data stage does not name its model"):
        render_stats(tiny_run / read_manifest(tiny_run).stages["data"])
