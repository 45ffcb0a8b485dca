"""A constitution survives being written and read; what an author has left to do is found."""

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethos.authoring import diff, import_oct, scaffold, to_toml
from ethos.constitution import SHIPPED, Constitution, Trait, lint, read_constitution, read_written
from ethos.errors import ConstitutionError, DataError

TEXT = st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=40)
TRAITS = st.lists(
    st.builds(
        Trait,
        name=st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True),
        statement=TEXT,
        why=TEXT,
        opposite=TEXT,
        prompts=st.dictionaries(
            st.sampled_from(["familiar", "role"]), st.lists(TEXT, min_size=1, max_size=3), min_size=1
        ),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda trait: trait.name,
)


def constitution(traits: list[Trait], summary: str = "S") -> Constitution:
    names = [trait.name for trait in traits]
    return Constitution(name="x", version="1", summary=summary, licence="MIT", priority=names, trait=traits)


@given(traits=TRAITS, summary=TEXT)
def test_what_is_written_is_read_back_the_same(traits: list[Trait], summary: str) -> None:
    whole = constitution(traits, summary)
    assert Constitution.model_validate(tomllib.loads(to_toml(whole))) == whole


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_constitution_can_be_written_again(path: Path, tmp_path: Path) -> None:
    whole = read_constitution(path.stem)
    copy = tmp_path / "copy.toml"
    copy.write_text(to_toml(whole), encoding="utf-8")
    assert read_constitution(str(copy)) == whole


def test_a_scaffold_reads_and_its_gaps_are_found(tmp_path: Path) -> None:
    file = tmp_path / "kind.toml"
    file.write_text(scaffold("kind"), encoding="utf-8")
    found = {(finding.rule, finding.where) for finding in lint(read_constitution(str(file)))}
    assert ("to-do", "trait 'asks-first'") in found
    assert ("to-do", "trait 'second-trait'") in found
    with pytest.raises(
        ConstitutionError, match=r"texts say TODO: 5 of asks-first, 4 of second-trait\nhint: write them"
    ):
        read_written(str(file))


@pytest.mark.parametrize("name", ["Kind", "../kind", "", "a b"])
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ConstitutionError, match="cannot name a constitution"):
        scaffold(name)


ROWS = [
    {"trait": "I joke when it helps.", "questions": ["Why is rain wet?", "Tell me of cats."]},
    {
        "trait": "I own it.",
        "questions": ["You were wrong."],
        "additional_questions": ["Again?", "You were wrong."],
    },
]


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_both_files_of_open_character_training_are_imported(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"wit{suffix}"
    file.write_text(json.dumps(ROWS, indent=1) if suffix == ".txt" else "\n".join(map(json.dumps, ROWS)))
    imported = import_oct(file, "wit")
    assert [trait.statement for trait in imported.trait] == ["I joke when it helps.", "I own it."]
    assert imported.trait[1].prompts == {"familiar": ["You were wrong.", "Again?"]}
    assert {finding.rule for finding in lint(imported)} >= {"to-do", "traits", "prompts"}


@pytest.mark.parametrize("text", ["", "{", '{"trait": 1}', '[{"questions": []}]', "[]", "[[]]"])
def test_a_file_of_another_kind_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "other.txt"
    file.write_text(text)
    with pytest.raises(DataError, match=r"other\.txt"):
        import_oct(file, "other")


def test_a_difference_is_shown_trait_by_trait() -> None:
    one = Trait(name="one", statement="I ask.", why="W", opposite="O", prompts={"familiar": ["a", "b"]})
    two = Trait(name="two", statement="I wait.", why="W", opposite="O", prompts={"familiar": ["c"]})
    changed = one.model_copy(update={"statement": "I ask once.", "prompts": {"familiar": ["a"], "role": ["d"]}})
    lines = diff(constitution([one]), constitution([changed, two]))
    assert lines[1:] == [
        "+ trait two",
        "trait one: statement\n    - I ask.\n    + I ask once.",
        "trait one: familiar prompts\n    - b",
        "trait one: role prompts\n    + d",
    ]
    assert diff(constitution([one]), constitution([one])) == []
