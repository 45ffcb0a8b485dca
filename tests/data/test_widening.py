"""New prompts by a teacher: quotas are shared out, every refusal has its reason, and splits stay apart."""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethos.constitution import SHIPPED, Split, Trait, lint, read_constitution
from ethos.data.cues import cue_words, cues
from ethos.data.generation import SEALED
from ethos.data.novelty import Known
from ethos.data.quotas import ASKS_FOR_FORM, DOMAINS, FORMS, LENGTHS, SHAPES, SITUATIONS, TOPICS, Slot, slots
from ethos.data.recorded import words
from ethos.data.widening import (
    ALIKE,
    AT_ONCE,
    NO_REQUEST,
    ROUNDS,
    Gap,
    Widened,
    proposed,
    refusal,
    widen,
)
from ethos.samplers.replies import Reply, Request

CONSTITUTION = read_constitution("loving")
SPLITS: tuple[Split, ...] = ("familiar", "domain", "format")
LINE = re.compile(r"^(\d+)\. about (.*); (.*); (\d+) to (\d+) words$", re.MULTILINE)
SYLLABLES = ("ka", "lo", "mi", "ru", "se", "to", "vu", "za", "pe", "ni")


def said(text: str) -> Reply:
    return Reply(text=text, num_tokens=9, finish="stop")


def fitting(rng: random.Random, form: str, least: int) -> str:
    """A prompt of nonsense words that no other one resembles and that fits its slot."""
    text = ["I", *("".join(rng.choices(SYLLABLES, k=4)) for _ in range(least - 1))]
    if form.startswith("asks for a "):
        text[1:3] = ["need", form.removeprefix("asks for a ")]
    return " ".join(text) + ("?" if form == SHAPES[0] else ".")


class Teacher:
    """Fills every slot it is asked for, unless `spoil` makes another text of it."""

    def __init__(self, spoil: Callable[[str, int], str] = lambda text, number: text) -> None:
        self.rng, self.spoil = random.Random(1), spoil
        self.rounds = list[list[Request]]()

    def __call__(self, requests: Sequence[Request]) -> list[Reply]:
        self.rounds.append(list(requests))
        return [said(self.answer(request.messages[0].content)) for request in requests]

    def answer(self, text: str) -> str:
        found = [(match[3], int(match[4])) for match in LINE.finditer(text)]
        prompts = [self.spoil(fitting(self.rng, form, least), len(self.rounds)) for form, least in found]
        return json.dumps({"prompts": prompts})


def widened(teacher: Teacher, per_trait: int = 3, splits: Sequence[Split] = SPLITS) -> Widened:
    return widen(
        CONSTITUTION, splits, per_trait, teacher, lambda texts: SEALED if "sealed" in texts[0] else None, seed=0
    )


def test_every_trait_gets_its_prompts_in_every_split_and_the_constitution_stays_sound() -> None:
    teacher = Teacher()
    made = widened(teacher, per_trait=10)
    assert (made.open, made.refused) == (0, [])
    assert Counter((each.trait, each.split) for each in made.added) == {
        (trait.name, split): 10 for trait in CONSTITUTION.trait for split in SPLITS
    }
    assert lint(made.constitution) == lint(CONSTITUTION) == []
    for old, new in zip(CONSTITUTION.trait, made.constitution.trait, strict=True):
        assert new.model_copy(update={"prompts": old.prompts}) == old
        for split, texts in old.prompts.items():
            assert new.prompts[split][: len(texts)] == texts
    assert [len(asked) for asked in teacher.rounds] == [2 * 3 * len(CONSTITUTION.trait), 0, 0, 0]


def test_what_is_refused_is_proposed_again_with_the_reason_in_sight_and_rounds_are_bounded() -> None:
    stubborn = Teacher(spoil=lambda text, number: f"Prompt 1: {text}")
    made = widened(stubborn)
    count = 3 * 3 * len(CONSTITUTION.trait)
    assert (made.open, made.added, len(made.refused)) == (count, [], ROUNDS * count)
    assert made.constitution == CONSTITUTION
    later = Teacher(spoil=lambda text, number: text if number > 1 else "As an AI I cannot say what a user asks of me.")
    made = widened(later)
    assert (made.open, len(made.added), len(made.refused)) == (0, count, count)
    assert "These were refused:\n- As an AI I cannot" in later.rounds[1][0].messages[0].content


def test_seeds_decide_and_no_two_requests_share_one() -> None:
    teacher = Teacher(spoil=lambda text, number: "No.")
    widened(teacher)
    seeds = [request.seed for asked in teacher.rounds for request in asked]
    assert len(set(seeds)) == len(seeds)


TRAIT = Trait(
    name="long-view",
    statement="I ask how a choice will stand in ten years, for children and for gardens.",
    why="w",
    opposite="I look at today.",
    prompts={"familiar": ["My brother wants to sell the boat that our grandfather built for us all."]},
)
SHORT = Slot("familiar", "a pet", SHAPES[2], 8, 14)


def told(text: str, slot: Slot = SHORT, *, sealed: bool = False) -> str | None:
    known = Known(TRAIT.prompts["familiar"], alike=ALIKE)
    return refusal(text, Gap(TRAIT, slot), known, lambda _: SEALED if sealed else None)


FINE = "My dog barks at the baker each morning before it is light."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("My dog barks.", "longer or shorter than its slot"),
        (f"{FINE} {FINE}", "longer or shorter than its slot"),
        ("User: my dog barks at the baker each morning, what now?", "not a request"),
        ("A user whose dog barks at the baker each morning asks.", "not a request"),
        ("My dog [name] barks at the baker each morning before dawn.", "not a request"),
        ("1. My dog barks at the baker each morning before dawn.", "not a request"),
        ("My dog barks at the baker.\nEach morning before it is light.", "not a request"),
        ("Sure, my dog barks at the baker each morning before dawn.", "not a request"),
        ("Here is a message about a dog that barks at bakers:", "not a request"),
        ("My dog barks at the children each morning before it is light.", "gives the trait away"),
        ("My dog barks at the child next door whenever he chooses to.", None),
        ("My dog digs up the garden each morning before it is light.", "gives the trait away"),
        ("My dog barks at the view each morning before it is light.", "gives the trait away"),
        ("Write a poster about my dog that barks at the baker daily.", "asks for a written form"),
        ("My sister wants to sell the boat that our grandfather built.", "resembles another prompt"),
        (FINE, None),
    ],
)
def test_a_proposal_has_to_earn_its_place(text: str, reason: str | None) -> None:
    found = told(text)
    assert (found or "").startswith(reason or "nothing") or found is reason


def test_a_sealed_proposal_is_refused() -> None:
    assert told(FINE, sealed=True) == "shares eight words in a row with a benchmark item"


def test_a_proposal_has_the_form_of_its_slot() -> None:
    poster = Slot("format", "a pet", "poster", 8, 14)
    assert told(FINE, poster) == "does not name the form it asks for"
    assert told("Write a poster about my dog that barks at the baker daily.", poster) is None
    question, statement = SHORT._replace(form=SHAPES[0]), SHORT._replace(form=SHAPES[1])
    asks = f"{FINE[:-1]}, doesn't he?"
    assert (told(FINE, question), told(asks, question)) == ("ends in no question", None)
    assert (told(FINE, statement), told(asks, statement)) == (None, "asks a question")


def test_known_prompts_are_of_all_traits_and_grow_by_what_is_accepted() -> None:
    known = Known(["one two three four five six"], alike=ALIKE)
    assert known.resembles("one two three four five seven")  # 3 of 5 word triples
    assert not known.resembles("one two three nine ten eleven")
    known.add("one two three nine ten eleven")
    assert known.resembles("one two three nine ten eleven twelve")
    twice = Teacher(spoil=lambda text, number: FINE)
    made = widened(twice, per_trait=1, splits=["role"])
    assert len(made.added) <= 1


@pytest.mark.parametrize("shipped", sorted(path.stem for path in SHIPPED.glob("*.toml")))
def test_prompts_written_by_hand_are_requests_and_mostly_keep_silent(shipped: str) -> None:
    constitution = read_constitution(shipped)
    assert [text for text in constitution.prompts() if NO_REQUEST.search(text)] == []
    telling = {trait.name: cues(trait) for trait in constitution.trait}
    prompts = [(trait.name, text) for trait in constitution.trait for some in trait.prompts.values() for text in some]
    leaks = sum(bool(cue_words(text) & telling[name]) for name, text in prompts)
    assert leaks <= 0.2 * len(constitution.prompts())


def test_endings_do_not_hide_a_word() -> None:
    for word, other in (("promise", "promised"), ("garden", "gardening"), ("friend", "friendly"), ("house", "houses")):
        assert cue_words(word) == cue_words(other) != set()
    assert cue_words("what they would have thought about something") == set()


@given(st.sampled_from(sorted(SITUATIONS)), st.integers(1, 60), st.integers(0, 99))
def test_quotas_are_shared_out_evenly(split: Split, count: int, seed: int) -> None:
    made = slots(split, count, random.Random(seed))
    for column, size in ((0, 3), (1, len(FORMS) if split == "format" else 3)):
        values = [((slot.least, slot.most), slot.form)[column] for slot in made]
        counts = Counter(values).values()
        assert len(made) == count
        assert max(counts) - min(counts) <= 1 or len(counts) < size
        assert len(counts) == min(size, count)
    topics = Counter(slot.topic for slot in made)
    assert len(topics) == min(count, len(DOMAINS if split == "domain" else TOPICS))


def test_domains_and_forms_belong_to_their_splits_alone() -> None:
    assert not set(DOMAINS) & set(TOPICS)
    assert len(set(DOMAINS)) == len(DOMAINS)
    assert len(set(TOPICS)) == len(TOPICS)
    assert all(ASKS_FOR_FORM.search(f"Please write a {form} about it") for form in FORMS)
    lengths = [words(text) for path in SHIPPED.glob("*.toml") for text in read_constitution(path.stem).prompts()]
    outside = sum(not LENGTHS[0][0] <= count <= LENGTHS[-1][1] for count in lengths)
    assert outside < 0.03 * len(lengths)  # the bands are those of prompts written by hand


@given(st.integers(1, AT_ONCE), st.recursive(st.text(max_size=4) | st.none(), st.lists, max_leaves=9))
def test_proposals_are_one_text_a_slot_or_none_at_all(count: int, value: Any) -> None:
    found = proposed(said(json.dumps({"prompts": value})), count)
    sound = isinstance(value, list) and len(value) == count and all(isinstance(text, str) for text in value)
    assert found == value if sound else isinstance(found, str)
