"""Item files: sealed by a canary, whole, and enough of them. Only ids and counts are ever shown here."""

import json
import re
import shutil
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ConfigDict

from ethos.bench import lasts_through_long_conversations
from ethos.bench.battery import CLAIMS
from ethos.bench.contamination import contamination, sealed_runs, texts_of
from ethos.bench.item_files import DEVELOPMENT, ITEMS, Canary, Items, load_items, thinned
from ethos.bench.items import (
    Asserted,
    Check,
    Choice,
    Contrary,
    Crossed,
    Decision,
    Dilemma,
    Harmless,
    Instruction,
    MinimalPair,
    Ordinary,
    Passage,
    Prefilled,
    Pressing,
    Statement,
    Talk,
    Triple,
    Unrelated,
    Unvoiced,
    Word,
    WorldState,
    Writing,
)
from ethos.constitution import SHIPPED, read_constitution
from ethos.errors import DataError
from ethos.records import Record, jsonl_lines, read_text

FILES = {
    "contrary": Contrary,
    "crossed": Crossed,
    "decisions": Decision,
    "dilemmas": Dilemma,
    "flattery": Asserted,
    "outcomes": WorldState,
    "words": Word,
    "inventory": Statement,
    "triples": Triple,
    "unrelated": Unrelated,
    "choice": Choice,
    "instructions": Instruction,
    "prefill": Prefilled,
    "talks": Talk,
    "neutral_text": Passage,
    "minimal_pairs": MinimalPair,
    "harmless": Harmless,
    "drop_voice": Unvoiced,
    "pressure_kinds": Pressing,
    "ordinary": Ordinary,
    "pressure": Passage,
    "writing": Writing,
}
SPLITS = {"familiar", "domain", "format", "role", "pressure"}


class Loose(Record):
    """Any JSON object, whatever its columns."""

    model_config = ConfigDict(extra="allow")


CANARY = '{"canary": "ethos benchmark item, do not train on it: 00000000-0000-0000-0000-000000000000"}\n'


def length(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("name", FILES)
def test_every_shipped_file_begins_with_its_canary_and_loads(name: str) -> None:
    file = Items().file(name)
    assert file
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    assert Canary.model_validate_json(first).canary.startswith("ethos benchmark item")
    num_items = len(Items().load(name, FILES[name]))
    assert num_items >= (12 if name == "talks" else 20)  # a talk carries many items


def test_every_file_is_known_and_read_by_a_claim() -> None:
    known = {path.stem for path in ITEMS.rglob("*.jsonl")}
    assert known == set(FILES)
    assert {name for claim in CLAIMS.values() for name in (*claim.items, *claim.also)} == set(FILES)


@pytest.mark.parametrize("name", ["crossed", "triples"])
def test_every_split_has_at_least_40_items(name: str) -> None:
    counts = Counter(str(getattr(item, "split", "")) for item in Items().load(name, FILES[name]))
    assert set(counts) >= SPLITS
    assert {split: count for split, count in counts.items() if count < 40} == {}


def test_prefilled_items_are_matched_and_their_leads_are_long_enough_for_every_dose() -> None:
    items = Items().load("prefill", Prefilled)
    assert len(items) >= 60
    assert [item.id for item in items if abs(length(item.r1) - length(item.r2)) > 3] == []
    leads = {item.id: (length(item.lead_r1), length(item.lead_r2)) for item in items}
    assert {name: pair for name, pair in leads.items() if min(pair) < 44 or abs(pair[0] - pair[1]) > 6} == {}


FOLDERS = pytest.mark.parametrize("folder", [ITEMS, DEVELOPMENT], ids=["sealed", "development"])


@FOLDERS
def test_decisions_are_matched_and_balanced_over_virtues_and_stakes(folder: Path) -> None:
    items = Items(folder).load("decisions", Decision)
    assert [item.id for item in items if abs(length(item.right) - length(item.wrong)) > 2] == []
    assert len(set(Counter((item.virtue, item.stakes) for item in items).values())) == 1
    moral = re.compile(r"\b(honest|fair|truth|kind|harm|respect|right|wrong)", re.IGNORECASE)
    assert [item.id for item in items if moral.search(f"{item.right} {item.wrong}")] == []


@FOLDERS
def test_dilemmas_set_every_pair_of_traits_equally_often(folder: Path) -> None:
    items = Items(folder).load("dilemmas", Dilemma)
    names = {trait.name for trait in read_constitution("virtuous-reasoner").trait}
    pairs = Counter(frozenset((item.one, item.other)) for item in items)
    assert set(pairs) == {frozenset(pair) for pair in combinations(names, 2)}
    assert len(set(pairs.values())) == 1
    assert len(set(Counter(item.one for item in items).values())) == 1
    assert [item.id for item in items if abs(length(item.for_one) - length(item.for_other)) > 2] == []


@FOLDERS
def test_beliefs_of_either_side_are_alike_in_length_and_every_kind_is_there(folder: Path) -> None:
    items = Items(folder).load("flattery", Asserted)
    assert len(set(Counter(item.kind for item in items).values())) == 1
    assert [item.id for item in items if abs(length(item.right) - length(item.wrong)) > 2] == []
    columns = zip(*((item.says_right, item.says_wrong) for item in items), strict=True)
    total = [sum(length(text) for text in column) for column in columns]
    assert abs(total[0] - total[1]) < 0.1 * total[0]


@FOLDERS
def test_states_of_the_world_are_half_relevant_and_of_every_valence(folder: Path) -> None:
    items = Items(folder).load("outcomes", WorldState)
    relevant = [item for item in items if item.relevant]
    assert 2 * len(relevant) == len(items)
    assert len(set(Counter(item.valence for item in relevant).values())) == 1
    assert {item.valence for item in items if not item.relevant} == {0}
    assert [item.id for item in items if not 8 <= length(item.text) <= 18] == []


@FOLDERS
def test_words_are_single_and_balanced_over_sides(folder: Path) -> None:
    counts = Counter(item.side for item in Items(folder).load("words", Word))
    assert counts["own"] == counts["opposite"] == counts["neither"] / 2
    assert [item.id for item in Items(folder).load("words", Word) if item.text.split() != [item.id]] == []


def test_no_word_or_state_stands_in_both_folders() -> None:
    for name, kind in (("words", Word), ("outcomes", WorldState)):
        sealed, tuned_on = ({item.text for item in Items(f).load(name, kind)} for f in (ITEMS, DEVELOPMENT))
        assert sealed.isdisjoint(tuned_on)


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    """The items of a file as they stand, without its canary."""
    (file,) = folder.rglob(f"{name}.jsonl")
    return [json.loads(line) for line in jsonl_lines(read_text(file))[1:]]


LEAST = {"inventory": 60, "writing": 64, "neutral_text": 60, "minimal_pairs": 72}
LEAST |= {"harmless": 64, "drop_voice": 60, "pressure_kinds": 48}


@pytest.mark.parametrize("name", LEAST)
def test_there_are_enough_items_with_a_third_to_tune_on_and_no_text_in_both_folders(name: str) -> None:
    sealed, tuned_on = rows(ITEMS, name), rows(DEVELOPMENT, name)
    assert len(sealed) >= LEAST[name]
    assert len(tuned_on) >= 0.3 * len(sealed)
    labels = {"kind", "factor", "key"}
    texts = [{str(v).lower() for row in part for k, v in row.items() if k not in labels} for part in (sealed, tuned_on)]
    assert texts[0].isdisjoint(texts[1])


@FOLDERS
def test_statements_are_as_many_of_every_factor(folder: Path) -> None:
    counts = Counter(item.factor for item in load_items("inventory", Statement, folder=folder))
    assert len(counts) == 5
    assert len(set(counts.values())) == 1


@FOLDERS
def test_sentences_of_a_minimal_pair_differ_by_one_word_at_most_in_length(folder: Path) -> None:
    pairs = rows(folder, "minimal_pairs")
    assert [row["id"] for row in pairs if abs(length(row["good"]) - length(row["bad"])) > 1] == []
    assert [row["id"] for row in pairs if row["good"] == row["bad"]] == []
    counts = Counter(row["kind"] for row in pairs)
    assert len(counts) == 8
    assert len(set(counts.values())) == 1


@FOLDERS
def test_refusals_are_as_long_as_the_help_and_begin_in_many_ways(folder: Path) -> None:
    items = rows(folder, "harmless")
    assert [row["id"] for row in items if abs(length(row["helpful"]) - length(row["refusal"])) > 2] == []
    assert [row["id"] for row in items if not 15 <= length(row["helpful"]) <= 35] == []
    openings = Counter(tuple(row["refusal"].split()[:2]) for row in items)
    assert max(openings.values()) <= 0.1 * len(items)


@FOLDERS
def test_replies_with_and_without_the_voice_are_alike_in_length(folder: Path) -> None:
    items = rows(folder, "drop_voice")
    assert [row["id"] for row in items if abs(length(row["plain"]) - length(row["voiced"])) > 2] == []
    assert len({row["request"] for row in items}) == len(items)


@FOLDERS
def test_pressure_is_one_sentence_and_every_kind_is_there_equally_often(folder: Path) -> None:
    items = rows(folder, "pressure_kinds")
    assert [row["id"] for row in items if re.search(r"[.!?]\s", row["text"])] == []
    counts = Counter(row["kind"] for row in items)
    assert set(counts) == {"authority", "urgency", "flattery"}
    assert len(set(counts.values())) == 1


def test_later_rows_are_matched_and_balanced_over_traits() -> None:
    contrary, ordinary = Items().load("contrary", Contrary), Items().load("ordinary", Ordinary)
    assert min(len(contrary), len(ordinary)) >= 60
    assert [item.id for item in contrary if abs(length(item.contrary) - length(item.own)) > 3] == []
    counts = Counter(item.trait for item in contrary)
    assert set(counts) == {trait.name for trait in read_constitution("virtuous-reasoner").trait}
    assert len(set(counts.values())) == 1


@pytest.mark.parametrize("name", ["contrary", "ordinary"])
def test_later_rows_share_eight_words_with_no_recorded_row_of_any_constitution_and_no_other_item(
    name: str, tmp_path: Path
) -> None:
    """They are trained on while measuring: what overlaps a probe, or the rows of a stage before, would tell nothing."""
    file = Items().file(name)
    assert file
    shutil.copy(file, tmp_path)
    later = sealed_runs(tmp_path)
    recorded = [path for folder in SHIPPED.iterdir() if folder.is_dir() for path in folder.glob("*.jsonl")]
    others = [path for folder in (ITEMS, DEVELOPMENT) for path in folder.rglob("*.jsonl") if path.stem != name]
    found = [
        f"{path.parent.name}/{path.name}"
        for path in (*recorded, *others)
        for line in jsonl_lines(read_text(path))
        if contamination(texts_of(Loose.model_validate_json(line)), later)
    ]
    assert found == []


def test_talks_are_long_enough_and_of_every_kind() -> None:
    talks = Items().load("talks", Talk)
    assert {talk.id for talk in talks if len(talk.messages) < 2 * lasts_through_long_conversations.LENGTHS[-1]} == set()
    assert set(Counter(talk.kind for talk in talks).values()) == {len(talks) // 3}


CHARACTERS = pytest.mark.parametrize("name", sorted(path.parent.name for path in ITEMS.glob("*/crossed.jsonl")))


@CHARACTERS
def test_crossed_replies_are_matched_in_words_and_differ_as_the_situations_do(name: str) -> None:
    items = Items(ITEMS, name).load("crossed", Crossed)
    assert [item.id for item in items if abs(length(item.r1) - length(item.r2)) > 3] == []
    same = [item.id for item in items if item.a == item.b or item.r1 == item.r2]
    assert same == []


@CHARACTERS
def test_no_reply_echoes_the_words_that_decide_for_it(name: str) -> None:
    """Counting the words that a reply shares with one situation only would not find the right one."""

    def words(text: str) -> set[str]:
        return set(re.findall(r"[a-z']+", text.lower()))

    hits = 0
    for item in Items(ITEMS, name).load("crossed", Crossed):
        only_a, only_b = words(item.a) - words(item.b), words(item.b) - words(item.a)
        r1, r2 = words(item.r1), words(item.r2)
        right, wrong = len(r1 & only_a) + len(r2 & only_b), len(r1 & only_b) + len(r2 & only_a)
        hits += (right > wrong) - (right < wrong)
    assert abs(hits) <= 0.1 * len(Items(ITEMS, name).load("crossed", Crossed))


@CHARACTERS
def test_every_split_of_a_character_is_there_with_at_least_twelve_items(name: str) -> None:
    for file, kind in (("crossed", Crossed), ("triples", Triple)):
        counts = Counter(str(item.split) for item in Items(ITEMS, name).load(file, kind))
        assert set(counts) >= SPLITS
        assert min(counts[split] for split in SPLITS) >= 12


@CHARACTERS
def test_triple_replies_are_matched_in_words_and_differ(name: str) -> None:
    items = Items(ITEMS, name).load("triples", Triple)
    assert [item.id for item in items if abs(length(item.chosen) - length(item.opposite)) > 3] == []
    twice = [item.id for item in items if len({item.chosen, item.opposite, item.plain}) < 3]
    assert twice == []


@CHARACTERS
def test_triples_are_about_the_traits_of_the_constitution(name: str) -> None:
    names = {trait.name for trait in read_constitution(name).trait}
    assert {item.trait for item in Items(ITEMS, name).load("triples", Triple)} == names


@CHARACTERS
def test_unrelated_answers_are_matched_in_words(name: str) -> None:
    items = Items(ITEMS, name).load("unrelated", Unrelated)
    assert len(items) >= 60
    assert [item.id for item in items if abs(length(item.plain) - length(item.intruding)) > 4] == []


def test_no_right_option_is_told_by_its_place() -> None:
    answers = Counter(item.answer for item in Items().load("choice", Choice))
    assert max(answers.values()) < 0.6 * sum(answers.values())


def test_every_instruction_is_one_that_a_reply_can_fail() -> None:
    """A check without its argument would pass everything or nothing."""
    needs = {
        "contains": "words",
        "excludes": "words",
        "starts_with": "text",
        "ends_with": "text",
        "max_words": "n",
        "min_words": "n",
        "list_items": "n",
        "json_keys": "keys",
    }
    items = Items().load("instructions", Instruction)
    toothless = [item.id for item in items if not getattr(item.check, needs.get(item.check.kind, "kind"))]
    assert toothless == []


def test_no_item_text_is_blank() -> None:
    blank = [
        f"{name}:{item.id}"
        for name, kind in FILES.items()
        for item in Items().load(name, kind)
        if any(value == "" for value in item.model_dump().values())
    ]
    assert blank == []


# --- files of one's own


def passage(name: str, text: str = "A text.") -> str:
    return json.dumps({"id": name, "text": text}) + "\n"


def refusal(tmp_path: Path, text: str) -> str:
    (tmp_path / "mine.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_items("mine", Passage, folder=tmp_path)
    assert str(tmp_path / "mine.jsonl") in str(caught.value)
    return str(caught.value)


def test_a_whole_file_loads_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(CANARY + passage("b") + passage("a"))
    assert [item.id for item in load_items("mine", Passage, folder=tmp_path)] == ["b", "a"]


def test_a_file_without_its_canary_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, passage("a") + passage("b"))
    assert "mine.jsonl:1: " in message
    assert "canary" in message


def test_a_canary_of_other_words_is_refused(tmp_path: Path) -> None:
    assert "mine.jsonl:1: canary" in refusal(tmp_path, '{"canary": "train on me"}\n' + passage("a"))


def test_a_canary_below_the_first_line_is_refused(tmp_path: Path) -> None:
    assert "mine.jsonl:3: " in refusal(tmp_path, CANARY + passage("a") + CANARY)


def test_a_repeated_id_is_refused(tmp_path: Path) -> None:
    assert "repeated ids" in refusal(tmp_path, CANARY + passage("a") + passage("a", "Other."))


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    assert "mine.jsonl:3: " in refusal(tmp_path, CANARY + passage("a") + passage("b")[:12])


@pytest.mark.parametrize("text", ["", CANARY])
def test_a_file_without_items_is_refused(tmp_path: Path, text: str) -> None:
    assert "no items" in refusal(tmp_path, text)


def situation(**changes: str) -> str:
    row = {
        "id": "x",
        "split": "familiar",
        "kind": "urgency",
        "a": "Here.",
        "b": "There.",
        "r1": "Go now.",
        "r2": "Stay.",
    }
    return json.dumps(row | {"fact": "f"} | changes) + "\n"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"r2": "Stay where you are and wait for me."}, "x: r1 has 2 words and r2 has 8 words: at most 4 apart"),
        ({"r1": ""}, "x: r1 is empty"),
    ],
)
def test_replies_that_length_would_tell_apart_are_refused(tmp_path: Path, changes: dict[str, str], told: str) -> None:
    (tmp_path / "mine.jsonl").write_text(CANARY + situation())
    assert len(load_items("mine", Crossed, folder=tmp_path)) == 1
    (tmp_path / "mine.jsonl").write_text(CANARY + situation() + situation(**changes))
    with pytest.raises(DataError, match=f"mine.jsonl:3: {told}"):
        load_items("mine", Crossed, folder=tmp_path)


def test_an_item_without_one_of_its_options_is_refused(tmp_path: Path) -> None:
    whole = json.loads(situation())
    (tmp_path / "mine.jsonl").write_text(CANARY + json.dumps({k: v for k, v in whole.items() if k != "r2"}))
    with pytest.raises(DataError, match=r"mine\.jsonl:2: r2"):
        load_items("mine", Crossed, folder=tmp_path)


@FOLDERS
def test_every_shipped_item_is_fit_to_be_measured_on(folder: Path) -> None:
    """Loading checks it; a file that nobody loads elsewhere is loaded here."""
    for path in sorted(folder.rglob("*.jsonl")):
        assert load_items(path.stem, FILES[path.stem], folder=path.parent)


@pytest.mark.parametrize("mark", ["\u2028", "\x85"])
def test_a_line_break_inside_a_text_does_not_break_the_line(tmp_path: Path, mark: str) -> None:
    row = Passage(id="a", text=f"one{mark}two")
    (tmp_path / "mine.jsonl").write_text(CANARY + row.model_dump_json() + "\n", encoding="utf-8")
    assert load_items("mine", Passage, folder=tmp_path) == [row]


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_items("gone", Passage, folder=tmp_path)


@pytest.mark.parametrize("answer", [-1, 2])
def test_an_answer_outside_the_options_is_refused(answer: int) -> None:
    with pytest.raises(ValueError, match="q1: answer must index one of 2 distinct options"):
        Choice(id="q1", question="?", options=["yes", "no"], answer=answer)


def test_options_that_repeat_are_refused() -> None:
    with pytest.raises(ValueError, match="distinct options"):
        Choice(id="q1", question="?", options=["yes", "yes"], answer=0)


def test_an_unknown_check_is_refused() -> None:
    with pytest.raises(ValueError, match="kind"):
        Check.model_validate({"kind": "rhymes"})


# --- thinning and hashing


def crossed(number: int, split: str) -> Crossed:
    texts = {name: name for name in ("a", "b", "r1", "r2", "fact")}
    return Crossed.model_validate({"id": str(number), "split": split, "kind": "urgency", **texts})


@given(st.lists(st.sampled_from(sorted(SPLITS)), max_size=20), st.integers(1, 6))
def test_thinning_keeps_the_first_of_every_split_in_order(splits: list[str], per_split: int) -> None:
    items = [crossed(i, split) for i, split in enumerate(splits)]
    kept: list[Crossed] = thinned(items, per_split)
    assert kept == sorted(kept, key=lambda item: int(item.id))
    for split in set(splits):
        of_split = [item for item in items if item.split == split]
        assert [item for item in kept if item.split == split] == of_split[:per_split]


def test_thinning_by_none_keeps_all() -> None:
    items = [crossed(i, "role") for i in range(5)]
    assert thinned(items, None) == items


def test_items_without_a_split_are_thinned_as_one() -> None:
    items: list[Passage] = [Passage(id=str(i), text="x") for i in range(5)]
    assert thinned(items, 2) == items[:2]


def test_the_digest_changes_with_any_file_and_with_nothing_else(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text(CANARY + passage(name))
    items = Items(tmp_path)
    before = items.digest("one", "two")
    assert items.digest("one", "two") == before
    assert items.digest("one") != before
    (tmp_path / "two.jsonl").write_text(CANARY + passage("two", "Another text."))
    assert items.digest("one", "two") != before


def test_items_written_for_a_constitution_come_before_those_for_any_and_never_go_to_another(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "one.jsonl").write_text(CANARY + passage("any"))
    (tmp_path / "mine" / "one.jsonl").write_text(CANARY + passage("own"))
    (tmp_path / "mine" / "two.jsonl").write_text(CANARY + passage("two"))
    mine, other = Items(tmp_path, "mine"), Items(tmp_path, "other")
    assert [item.id for item in mine.load("one", Passage)] == ["own"]
    assert [item.id for item in other.load("one", Passage)] == ["any"]
    assert (mine.missing(["one", "two"]), other.missing(["one", "two"])) == ([], ["two"])
    assert other.load("two", Passage) == []
    assert mine.digest("two") != other.digest("two")
