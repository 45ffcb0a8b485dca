"""Constitutions: the shipped ones are sound, and a faulty one is told what is wrong with it."""

import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from ethos.constitution import (
    SHIPPED,
    Constitution,
    Trait,
    lint,
    read_constitution,
    recorded_folder,
    word_ngrams,
)
from ethos.errors import ConstitutionError

NAMES = sorted(path.stem for path in SHIPPED.glob("*.toml"))
SECONDS = 1.0
"""What "quickly" means for input that should be refused, on this processor whatever else it does."""

DEEDS = ("mend", "paint", "weigh", "borrow", "visit", "count", "photograph", "wash", "sell", "carry")
THINGS = ("ladders", "kettles", "violins", "orchards", "ledgers", "lanterns", "saddles", "wells", "maps", "boats")


def clean() -> Constitution:
    """A constitution that no rule has anything to say about."""
    traits = [
        Trait(
            name=f"trait-{thing}",
            statement=f"I {deed} the {thing} of each guest first and tell them what I found.",
            why="Guests rely on it.",
            opposite=f"I ignore {thing} and hope that somebody else looks after them later on.",
            prompts={
                "familiar": [f"May I {other} these {thing} alone tomorrow?" for other in DEEDS[:5]],
                "domain": [f"Our moon base wants to {other} its {thing} tonight, please advise" for other in DEEDS[5:]],
            },
        )
        for deed, thing in zip(DEEDS, THINGS, strict=True)
    ]
    return Constitution(
        name="clean",
        version="1",
        summary="s",
        licence="Apache-2.0",
        priority=[trait.name for trait in traits],
        trait=traits,
    )


def with_first(**changes: object) -> Constitution:
    first, *others = clean().trait
    return clean().model_copy(update={"trait": [first.model_copy(update=changes), *others]})


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


HEAD = 'name = "mine"\nversion = "1"\nsummary = "s"\nlicence = "MIT"\n'
TRAIT = """[[trait]]
name = "care"
statement = "I care."
why = "w"
opposite = "I sneer."
[trait.prompts]
familiar = ["Hi"]
"""
WHOLE = HEAD + 'priority = ["care"]\n' + TRAIT


def refusal(name: str) -> str:
    began = time.process_time()
    with pytest.raises(ConstitutionError) as caught:
        read_constitution(name)
    assert time.process_time() - began < SECONDS
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_constitution_is_clean(name: str) -> None:
    assert lint(read_constitution(name)) == []


def test_the_default_and_its_control_are_shipped() -> None:
    assert {"virtuous-reasoner", "neutral"} <= set(NAMES)


def test_the_virtuous_reasoner_has_enough_traits_and_prompts() -> None:
    constitution = read_constitution("virtuous-reasoner")
    assert len(constitution.trait) >= 8
    assert {trait.name: n for trait in constitution.trait if (n := sum(map(len, trait.prompts.values()))) < 10} == {}


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_constitution_is_named_as_its_file_and_says_its_licence(name: str) -> None:
    constitution = read_constitution(name)
    assert constitution.name == name
    assert constitution.licence


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    constitution = read_constitution(written(tmp_path, WHOLE))
    assert [trait.statement for trait in constitution.trait] == ["I care."]
    assert constitution.prompts() == ["Hi"]


def test_the_clean_example_is_clean() -> None:
    assert lint(clean()) == []


FAULTS: dict[str, Callable[[], Constitution]] = {
    "first-person": lambda: with_first(statement="The assistant weighs both sides and says which one tipped it."),
    "negation": lambda: with_first(statement="I say what I found and never hide the bill."),
    "vague": lambda: with_first(statement="I give advice that follows best practices for guests."),
    "pole": lambda: with_first(
        statement="I tell guests what I found in their ladders and kettles today.",
        opposite="I tell guests what I found in their ladders and kettles yesterday.",
    ),
    "traits": lambda: clean().model_copy(update={"trait": clean().trait[:7]}),
    "prompts": lambda: with_first(prompts={"familiar": ["May I take the ladder home?"]}),
    "duplicate": lambda: with_first(
        prompts=clean().trait[0].prompts
        | {"role": ["You run a ferry and a guest wants your seat.", "You run a ferry and a guest wants your seat!"]}
    ),
    "split-leakage": lambda: with_first(
        prompts=clean().trait[0].prompts | {"format": [clean().trait[1].prompts["familiar"][0]]}
    ),
}


@pytest.mark.parametrize("rule", FAULTS)
def test_a_planted_fault_is_found_by_its_rule_alone(rule: str) -> None:
    findings = lint(FAULTS[rule]())
    assert {finding.rule for finding in findings} == {rule}
    assert all(finding.where and finding.message and finding.hint for finding in findings)


def test_a_finding_says_which_trait_it_is_about() -> None:
    (finding,) = lint(FAULTS["negation"]())
    assert "trait-ladders" in finding.where
    assert "never" in finding.message


def test_inverting_swaps_statement_and_opposite_and_nothing_else_of_a_trait() -> None:
    constitution = read_constitution("virtuous-reasoner")
    for before, after in zip(constitution.trait, constitution.inverted().trait, strict=True):
        assert (after.statement, after.opposite) == (before.opposite, before.statement)
        assert (after.name, after.why, after.prompts) == (before.name, before.why, before.prompts)


def test_inverting_changes_the_name_and_the_digest_and_twice_gives_the_traits_back() -> None:
    constitution = clean()
    assert constitution.inverted().name == "clean-inverted"
    assert constitution.inverted().digest() != constitution.digest()
    assert constitution.inverted().inverted().trait == constitution.trait


@pytest.mark.parametrize("name", NAMES)
def test_half_a_constitution_has_every_other_trait_in_their_order_of_priority(name: str) -> None:
    constitution = read_constitution(name)
    half = Constitution.model_validate(constitution.halved().model_dump())  # priority still lists each trait once
    assert half.trait == constitution.trait[::2]
    assert [trait for trait in constitution.priority if trait in half.priority] == half.priority
    assert half.system_prompt() != constitution.system_prompt() or len(constitution.trait) == 1


def test_the_system_prompt_says_every_statement_and_no_opposite() -> None:
    constitution = read_constitution("virtuous-reasoner")
    prompt = constitution.system_prompt()
    assert all(trait.statement in prompt for trait in constitution.trait)
    assert not any(trait.opposite in prompt for trait in constitution.trait)


def test_some_traits_of_a_constitution_keep_their_order_and_their_rank() -> None:
    whole = read_constitution("virtuous-reasoner")
    names = [trait.name for trait in whole.trait]
    part = whole.only([names[3], names[0]])
    assert [trait.name for trait in part.trait] == [names[0], names[3]]
    assert part.priority == [name for name in whole.priority if name in (names[0], names[3])]
    assert Constitution.model_validate(part.model_dump()) == part
    assert whole.only(None) is whole
    with pytest.raises(ConstitutionError, match=rf"has no trait '{names[0]}s'\nhint: did you mean '{names[0]}'"):
        whole.only([f"{names[0]}s"])


def test_prompts_are_listed_by_split() -> None:
    constitution = clean()
    assert len(constitution.prompts("familiar")) == 50
    assert len(constitution.prompts("role")) == 0
    assert len(constitution.prompts()) == 100


BAD = {
    "without traits": (HEAD + "priority = []\n", "trait"),
    "with an empty list of traits": (HEAD + "priority = []\ntrait = []\n", "trait"),
    "with a duplicate trait": (WHOLE + TRAIT, "duplicate trait 'care'"),
    "with a wrong type": (WHOLE.replace('version = "1"', "version = 1"), "version"),
    "with an unknown key": ("colour = 3\n" + WHOLE, "colour"),
    "with an unknown split": (WHOLE.replace("familiar", "familar"), "familar"),
    "with a trait without prompts": (WHOLE.replace('["Hi"]', "[]"), "prompts"),
    "with a priority that names another trait": (WHOLE.replace('["care"]', '["courage"]'), "courage"),
    "with a priority that repeats a trait": (WHOLE.replace('["care"]', '["care", "care"]'), "priority"),
    "with an empty statement": (WHOLE.replace('"I care."', '""'), "trait.0.statement"),
    "with a name of spaces": (WHOLE.replace('name = "mine"', 'name = "my own"'), "name"),
    "with a name that climbs out of its folder": (WHOLE.replace('name = "mine"', 'name = "../mine"'), "name"),
    "with a name that is a path": (WHOLE.replace('name = "mine"', 'name = "/tmp/mine"'), "name"),
    "with a trait's name that is a path": (WHOLE.replace('name = "care"', 'name = "a/../care"'), "trait.0.name"),
    "that is not TOML": ("name = \n", "not TOML"),
    "that is empty": ("", "is empty"),
    "of blank lines": ("\n \n", "is empty"),
    "that is a list of arrays nested deeply": ("a = " + "[" * 100_000, "mine.toml"),
    "of inline tables nested deeply": ("a = " + "{a = " * 100_000, "mine.toml"),
    "of a dotted key nested deeply": (".".join("a" * 20_000) + " = 1", "mine.toml"),
    "of a table name nested deeply": ("[" + ".".join("a" * 20_000) + "]", "mine.toml"),
    "with closed arrays nested deeply": ("name = " + "[" * 400 + "]" * 400, "mine.toml"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_file_is_refused_quickly_and_told_why(fault: str, tmp_path: Path) -> None:
    text, named = BAD[fault]
    message = refusal(written(tmp_path, text))
    assert message.startswith(str(tmp_path / "mine.toml"))
    assert named in message
    assert len(message) < 2000


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b'name = "caf\xe9"\n')
    assert "not UTF-8 at byte 11" in refusal(str(tmp_path / "mine.toml"))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(str(tmp_path / "gone.toml"))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").mkdir()
    assert "cannot be read" in refusal(str(tmp_path / "mine.toml"))


def test_a_file_of_50_megabytes_is_refused_quickly(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with path.open("wb") as file:
        file.write(WHOLE.encode())
        file.truncate(50_000_000)
    assert "50,000,000 bytes" in refusal(str(path))


def test_a_misspelt_name_is_answered_with_the_shipped_one() -> None:
    assert "did you mean 'virtuous-reasoner'?" in refusal("virtuous-resoner")


def test_a_name_near_none_is_answered_with_all_of_them() -> None:
    assert f"there are: {', '.join(NAMES)} (or give" in refusal("zzz")


def test_recorded_data_lies_beside_the_file(tmp_path: Path) -> None:
    assert recorded_folder(str(tmp_path / "mine.toml")) == tmp_path / "mine"
    assert recorded_folder("neutral") == SHIPPED / "neutral"


def test_the_example_of_a_whole_file_is_toml() -> None:
    assert set(tomllib.loads(WHOLE)) == {"name", "version", "summary", "licence", "priority", "trait"}


def test_word_ngrams_ignore_case_and_punctuation() -> None:
    assert word_ngrams("Go home, now!", 2) == {("go", "home"), ("home", "now")} == word_ngrams("go HOME now", 2)


def test_a_text_shorter_than_the_ngram_is_one_ngram() -> None:
    assert word_ngrams("Go home", 3) == {("go", "home")}
