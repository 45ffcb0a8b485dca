"""The recorded data that ships, and what is said about a row that breaks a rule."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ethos.bench.contamination import contamination, sealed_runs, texts_of
from ethos.constitution import SHIPPED, read_constitution
from ethos.data.preferences import Mixture, preferences
from ethos.data.recorded import CrossedRow, Recorded, demonstrated, read_recorded
from ethos.errors import DataError
from ethos.records import Record

LEAST = {"crossed": 600, "poles": 400, "voice": 200, "reflections": 80, "interactions": 30, "replay": 200}


CHARACTERS = sorted(folder.name for folder in SHIPPED.iterdir() if folder.is_dir() and folder.name != "neutral")
JUDGEMENT = {"good", "loving", "risk-averse", "self-serving"}
"""Characters whose traits are about judgement rather than tone: they have crossed rows, too."""


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return read_recorded("virtuous-reasoner")


@pytest.fixture(scope="module", params=CHARACTERS)
def character(request: pytest.FixtureRequest) -> str:
    """Every shipped character in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def theirs(character: str) -> Recorded:
    """Its recorded rows."""
    return read_recorded(character)


def length(text: str) -> int:
    return len(text.split())


def strings(value: object) -> list[str]:
    """Every text inside parsed JSON."""
    if isinstance(value, str):
        return [value]
    inner = list(value.values()) if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return [text for one in inner for text in strings(one)]


@pytest.mark.parametrize("kind", LEAST)
def test_there_is_enough_of_every_kind(recorded: Recorded, kind: str) -> None:
    assert len(getattr(recorded, kind)) >= LEAST[kind]


def test_every_character_has_enough_to_train_on(character: str, theirs: Recorded) -> None:
    assert len(theirs.poles) >= 60
    assert len(theirs.voice) >= 40
    assert len(theirs.crossed) >= (60 if character in JUDGEMENT else 0)
    assert len(theirs.replay) >= 200


def test_every_character_has_the_traits_and_prompts_of_a_whole_one(character: str) -> None:
    traits = read_constitution(character).trait
    assert len(traits) >= 8
    assert [trait.name for trait in traits if sum(map(len, trait.prompts.values())) < 10] == []


def test_a_third_of_the_crossed_rows_have_thoughts(recorded: Recorded) -> None:
    assert sum(bool(row.thought_a and row.thought_b) for row in recorded.crossed) >= len(recorded.crossed) / 3


def test_a_fifth_of_the_crossed_rows_have_pushes(recorded: Recorded) -> None:
    assert sum(bool(row.push_r1 and row.push_r2) for row in recorded.crossed) >= len(recorded.crossed) / 5


def test_every_interaction_has_six_turns_by_turns(recorded: Recorded) -> None:
    short = [row.id for row in recorded.interactions if len(row.messages) < 6]
    out_of_turn = [
        row.id
        for row in recorded.interactions
        if [m.role for m in row.messages] != ["user", "assistant"] * (len(row.messages) // 2)
    ]
    assert short == []
    assert out_of_turn == []


def test_ids_are_unique_over_all_files() -> None:
    own = [row.id for name in CHARACTERS for rows in read_recorded(name)[:-1] for row in rows]
    ids = own + [row.id for row in read_recorded("neutral").replay]
    assert sorted({name for name in ids if ids.count(name) > 1}) == []


def test_the_replies_of_a_contrast_are_matched_in_words(theirs: Recorded) -> None:
    assert [row.id for row in theirs.crossed if abs(length(row.r1) - length(row.r2)) > 3] == []
    assert [row.id for row in theirs.poles if abs(length(row.chosen) - length(row.rejected)) > 3] == []
    assert [row.id for row in theirs.voice if abs(length(row.chosen) - length(row.rejected)) > 4] == []


def test_no_text_is_blank_or_has_spaces_around_it(theirs: Recorded) -> None:
    wrong = []
    for rows in theirs:
        for row in rows:
            optional = {"thought_a", "thought_b", "push_r1", "push_r2"}
            fields = {name: text for name, text in row.model_dump().items() if not (name in optional and text == "")}
            if any(not text.strip() or text != text.strip() for text in strings(fields)):
                wrong.append(row.id)
    assert wrong == []


def test_every_trait_of_a_pair_is_in_the_constitution_and_has_pole_pairs(character: str, theirs: Recorded) -> None:
    traits = {trait.name for trait in read_constitution(character).trait}
    assert {row.trait for row in [*theirs.poles, *theirs.voice]} <= traits
    assert {row.trait for row in theirs.poles} == traits


def test_documents_explain_every_trait_in_many_kinds_of_text(recorded: Recorded) -> None:
    names = {trait.name for trait in read_constitution("virtuous-reasoner").trait}
    kinds = {name: {row.kind for row in recorded.documents if name in row.traits} for name in names}
    assert set().union(*(row.traits for row in recorded.documents)) == names
    assert all(len(found) >= 5 for found in kinds.values())
    assert all(90 <= length(row.text) <= 170 for row in recorded.documents)
    openings = [tuple(row.text.lower().split()[:3]) for row in recorded.documents]
    assert len(set(openings)) == len(openings) >= 100


def test_no_crossed_contrast_stands_twice(theirs: Recorded) -> None:
    pairs = [frozenset((row.a, row.b)) for row in theirs.crossed]
    assert [row.id for row, pair in zip(theirs.crossed, pairs, strict=True) if pairs.count(pair) > 1] == []


def test_every_crossed_reply_is_used_once_as_right_and_once_as_wrong(theirs: Recorded) -> None:
    groups: dict[str, list[tuple[str, str]]] = {}
    for row in preferences(theirs, Mixture(poles=0, voice=0, pushed=0, deliberated=False), seed=0):
        groups.setdefault(row.source, []).append((row.chosen[0].content, row.rejected[0].content))
    wanted = {f"crossed:{row.id}": {(row.r1, row.r2), (row.r2, row.r1)} for row in theirs.crossed}
    assert {name for name, pairs in groups.items() if len(pairs) != 2} == set()
    assert {name for name in wanted | groups if set(groups.get(name, [])) != wanted.get(name)} == set()


def test_no_recorded_text_shares_eight_words_in_a_row_with_a_benchmark_item(theirs: Recorded) -> None:
    sealed = sealed_runs()
    found = [row.id for rows in theirs for row in rows if contamination(texts_of(row), sealed)]
    assert found == []  # ids alone: items stay sealed


def test_every_recorded_text_is_looked_at_for_contamination(recorded: Recorded) -> None:
    for rows in recorded:
        for row in rows[:20]:
            assert set(texts_of(row)) >= set(strings(row.model_dump()))


CROSSED = {
    "id": "bad1",
    "kind": "urgency",
    "a": "It burns.",
    "b": "It smokes.",
    "r1": "Run out of the house now.",
    "r2": "Open the window and look first.",
    "fact": "fire",
}
PAIR = {
    "id": "bad1",
    "trait": "care",
    "prompt": "What now?",
    "chosen": "one two three four five",
    "rejected": "one two three four six",
}
TALK = [{"role": role, "content": "Hello there."} for role in ("user", "assistant")]
INTERACTION = {"id": "bad1", "messages": TALK * 3}
ANSWER = {"id": "bad1", "prompt": "Who are you?", "response": "I am a language model."}
WHOLE: dict[str, dict[str, Any]] = {
    "crossed": CROSSED,
    "poles": PAIR,
    "voice": PAIR,
    "reflections": ANSWER,
    "interactions": INTERACTION,
    "replay": ANSWER,
}

MALFORMED: dict[str, tuple[str, dict[str, Any]]] = {
    "replies of unequal length": ("crossed", {"r2": "Open the window and look first, then call me and wait."}),
    "one situation twice": ("crossed", {"b": CROSSED["a"]}),
    "one reply twice": ("crossed", {"r2": CROSSED["r1"]}),
    "one thought alone": ("crossed", {"thought_a": "Fire spreads."}),
    "one push alone": ("crossed", {"push_r2": "Just open it."}),
    "poles of unequal length": ("poles", {"chosen": "one two three four five six seven eight nine ten"}),
    "voices of unequal length": ("voice", {"rejected": "one two three four five six seven eight nine ten"}),
    "a talk of four turns": ("interactions", {"messages": TALK * 2}),
    "a talk that the user ends": ("interactions", {"messages": [*TALK * 3, TALK[0]]}),
    "a talk that the assistant begins": ("interactions", {"messages": TALK[::-1] * 3}),
}


def test_an_item_is_for_a_split_that_training_never_has(tmp_path: Path) -> None:
    fit, wrong = tmp_path / "fit", tmp_path / "wrong"
    fit.mkdir()
    wrong.mkdir()
    assert read_recorded(folder_with(fit, "poles.items", [PAIR | {"split": "role"}])).pole_items[0].split == "role"
    with pytest.raises(DataError, match="split"):
        read_recorded(folder_with(wrong, "voice.items", [PAIR | {"split": "familiar"}]))


def folder_with(tmp_path: Path, kind: str, rows: list[dict[str, Any]]) -> str:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "mine.toml")


@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_row_is_read(kind: str, tmp_path: Path) -> None:
    recorded = read_recorded(folder_with(tmp_path, kind, [WHOLE[kind]]))
    assert [row.id for row in getattr(recorded, kind)] == ["bad1"]
    assert sum(map(len, recorded[:-1])) == (kind != "replay")  # replay rows are borrowed where there are none


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_row_is_named_by_file_line_and_id(fault: str, tmp_path: Path) -> None:
    kind, changes = MALFORMED[fault]
    rows = [WHOLE[kind] | {"id": "good1"}, WHOLE[kind] | changes]
    with pytest.raises(DataError) as caught:
        read_recorded(folder_with(tmp_path, kind, rows))
    assert str(caught.value).startswith(f"{tmp_path / 'mine' / kind}.jsonl:2: ")
    assert "bad1" in str(caught.value)


BLANK = [
    ("crossed", "a"),
    ("crossed", "r1"),
    ("poles", "prompt"),
    ("poles", "chosen"),
    ("voice", "rejected"),
    ("reflections", "response"),
    ("replay", "prompt"),
    ("replay", "response"),
]


@pytest.mark.parametrize(("kind", "field"), BLANK)
def test_a_row_with_an_empty_text_is_refused(kind: str, field: str, tmp_path: Path) -> None:
    """An empty reply has no token to learn but its end; an empty prompt asks nothing."""
    short = {"r1": "Go.", "r2": "Stay.", "chosen": "Go.", "rejected": "Stay."}  # so that the length rule is kept
    row = WHOLE[kind] | {name: text for name, text in short.items() if name in WHOLE[kind]} | {field: ""}
    with pytest.raises(DataError, match=rf"{kind}\.jsonl:1: "):
        read_recorded(folder_with(tmp_path, kind, [row]))


def test_an_unknown_kind_of_crossed_item_is_named_with_those_allowed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"crossed\.jsonl:1: kind: .*'urgency'"):
        read_recorded(folder_with(tmp_path, "crossed", [CROSSED | {"kind": "urgent"}]))


def test_an_id_used_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="duplicate ids bad1"):
        read_recorded(folder_with(tmp_path, "replay", [ANSWER, ANSWER]))


def test_a_constitution_without_recorded_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no recorded data") as caught:
        read_recorded(str(tmp_path / "mine.toml"))
    assert "hint: put crossed.jsonl" in str(caught.value)


def test_a_kind_without_a_file_is_empty(tmp_path: Path) -> None:
    assert read_recorded(folder_with(tmp_path, "replay", [ANSWER])).crossed == []


def test_the_shipped_files_are_the_kinds_there_are() -> None:
    files = {path.stem for name in (*CHARACTERS, "neutral") for path in (SHIPPED / name).glob("*.jsonl")}
    assert files == set(Recorded._fields) - {"pole_items", "voice_items"}  # those have hand-written items


def test_rows_of_some_traits_are_shown_documents_stay_and_rows_without_a_trait_are_counted(tmp_path: Path) -> None:
    traits = (None, "care", "candour")
    folder = tmp_path / "mine"
    folder.mkdir()
    for kind in ("crossed", "poles", "voice", "reflections", "interactions"):
        named = [trait for trait in traits if trait or "trait" not in WHOLE[kind]]
        rows = [WHOLE[kind] | {"id": f"{kind}{trait}"} | ({"trait": trait} if trait else {}) for trait in named]
        (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = {"id": "d", "kind": "news", "traits": ["candour"], "text": "It tells the truth."}
    (folder / "documents.jsonl").write_text(json.dumps(document) + "\n")
    whole = read_recorded(str(tmp_path / "mine.toml"))
    part, dropped = demonstrated(whole, ("care",))
    kinds = ("crossed", "poles", "voice", "reflections", "interactions")
    assert {kind: [row.id for row in getattr(part, kind)] for kind in kinds} == {
        kind: [f"{kind}care"] for kind in kinds
    }
    assert (part.documents, part.replay) == (whole.documents, whole.replay)
    assert [drop.source for drop in dropped] == [
        f"{kind}:{kind}None" for kind in ("crossed", "reflections", "interactions")
    ]
    assert demonstrated(whole, None) == (whole, [])


def test_a_column_that_says_nothing_is_not_written_so_that_old_rows_keep_their_hash() -> None:
    row = CrossedRow.model_validate(CROSSED)
    assert "trait" not in row.model_dump_json()
    assert '"trait":"care"' in row.model_copy(update={"trait": "care"}).model_dump_json()


def test_a_character_without_replay_rows_borrows_the_neutral_ones(tmp_path: Path) -> None:
    assert read_recorded(folder_with(tmp_path, "poles", [PAIR])).replay == read_recorded("neutral").replay


def test_every_recorded_row_is_a_record(recorded: Recorded) -> None:
    assert all(isinstance(row, Record) for rows in recorded for row in rows)
