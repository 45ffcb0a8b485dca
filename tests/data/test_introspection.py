"""Introspection with a scripted student: who sees what, what is kept, and what is learnt."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethos.chat import Chat
from ethos.constitution import read_constitution
from ethos.data import introspection
from ethos.data.ablation import PublishedBugs
from ethos.data.filters import fault
from ethos.data.introspection import (
    FIRST_WORDS,
    REFLECTION_PROMPTS,
    IntrospectionSampling,
    _next_turn,
    interact,
    recorded_conversations,
    reflect,
    replay_conversations,
)
from ethos.data.recorded import read_recorded
from ethos.models import Loaded, Subject, load_tokenizer_chat
from ethos.records import Conversation
from ethos.samplers import local
from ethos.samplers.replies import Reply, ReplyCache, Request

CONSTITUTION = read_constitution("virtuous-reasoner")
SETTINGS = IntrospectionSampling(reflections=12, interactions=4, turns=6, max_tokens=400)
FINE = (
    "The harbour was quiet when I came down and counted the boats lying there.",
    "You asked about the letter; I would read it twice before I answered anyone.",
    "My sister keeps bees behind her house, and they have taught me some patience.",
    "Rain fell on the roof all night while we repaired an old wooden chair together.",
    "Nobody had told the baker that his window was open, so I went over to say it.",
    "It takes a long walk along the river before I know what I think about this.",
)
"""Replies no filter minds, each different from the others."""


class Scripted:
    """A model that answers a rendered prompt with what the script says, and remembers what it was shown."""

    def __init__(self, chat: Chat, script: Callable[[int, str], str], *, stops: bool = True) -> None:
        self.chat, self.script, self.stops = chat, script, stops
        self.shown: list[str] = []

    def write(self, chat: Chat, requests: Sequence[Request], batch: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Scripted replies in place of sampled ones; each ends with the stop token, or is cut at its limit."""
        for place, request in enumerate(requests):
            prompt = self.chat.tokenizer.decode(chat.prompt(request.messages))
            said = self.chat.tokenizer.encode(self.script(len(self.shown), prompt), add_special_tokens=False)
            self.shown.append(prompt)
            yield place, tuple((said + [2] * self.stops)[: request.max_tokens])


@pytest.fixture(autouse=True)
def by_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scripted model keeps no keys and values: its replies are written at once."""
    monkeypatch.setattr(local, "written", Scripted.write)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ReplyCache]:
    opened = ReplyCache(tmp_path / "requests.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def student(tiny_base: Path) -> Callable[[Callable[[int, str], str]], tuple[Loaded, Scripted]]:
    """A subject with the constitution as its system prompt, answering by script."""
    chat = load_tokenizer_chat(tiny_base, system=CONSTITUTION.system_prompt())

    def make(script: Callable[[int, str], str]) -> tuple[Loaded, Scripted]:
        model = Scripted(chat, script)
        return Loaded(Subject(name="student", base="0"), model, chat), model  # type: ignore[arg-type]

    return make


Student = Callable[[Callable[[int, str], str]], tuple[Loaded, Scripted]]


def next_fine(place: int, prompt: str) -> str:
    """A reply that was not said before in this prompt."""
    return next(text for text in FINE if text not in prompt)


def test_each_side_sees_its_own_words_as_the_assistants_and_the_others_as_the_users() -> None:
    talk = [FIRST_WORDS, "one", "two", "three"]
    for length in range(1, 5):
        seen = _next_turn(talk[:length], "OPENING", SETTINGS, seed=1).messages
        roles = [message.role for message in seen]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"], length
        own = [message.content for message in seen if message.role == "assistant"]
        others = "\n".join(message.content for message in seen if message.role == "user")
        assert own == talk[:length][-2::-2][::-1]
        assert all(text in others for text in talk[:length][::-2])
        assert seen[0].content.startswith("OPENING")
        assert sum(message.content.count("OPENING") for message in seen) == 1


def test_the_request_carries_limit_and_seed() -> None:
    request = _next_turn([FIRST_WORDS], "OPENING", SETTINGS, seed=7)
    assert (request.max_tokens, request.seed) == (SETTINGS.max_tokens, 7)


def test_the_guidance_of_every_trait_stands_in_the_prompt_the_model_sees(student: Student, cache: ReplyCache) -> None:
    loaded, model = student(next_fine)
    count = len(CONSTITUTION.trait) + 1
    settings = SETTINGS.model_copy(update={"interactions": count, "turns": 3})
    interact(loaded, CONSTITUTION, settings, cache, seed=0)
    assert len(model.shown) == 2 * count
    guided = Counter(trait.name for prompt in model.shown for trait in CONSTITUTION.trait if trait.why in prompt)
    assert guided == {trait.name: 2 for trait in CONSTITUTION.trait}  # in both turns of its one dialogue
    assert sum(introspection.FREE_OPENING in prompt for prompt in model.shown) == 2


def test_guidance_is_lost_where_the_released_code_lost_it_and_free_openings_stay(
    student: Student, cache: ReplyCache
) -> None:
    loaded, model = student(next_fine)
    settings = SETTINGS.model_copy(update={"turns": 3})
    interact(loaded, CONSTITUTION, settings, cache, seed=0, bugs=PublishedBugs(guidance_lost=True))
    assert len(model.shown) == 2 * 4
    assert not [prompt for prompt in model.shown for trait in CONSTITUTION.trait if trait.why in prompt]
    assert sum(introspection.UNGUIDED_OPENING in prompt for prompt in model.shown) == 2 * 3
    assert sum(introspection.FREE_OPENING in prompt for prompt in model.shown) == 2


@given(st.floats(0, 1), st.integers(0, 40))
def test_so_large_a_share_of_the_openings_is_guided_by_the_traits_in_turn(share: float, count: int) -> None:
    settings = SETTINGS.model_copy(update={"guided": share, "interactions": count})
    told, reasons = introspection.guidances(CONSTITUTION, settings), [trait.why for trait in CONSTITUTION.trait]
    assert len(told) == count
    guided = [text for text in told if text]
    assert abs(len(guided) - share * count) < 1
    assert guided == [reasons[place % len(reasons)] for place in range(len(guided))]


def test_half_the_openings_alternate() -> None:
    settings = SETTINGS.model_copy(update={"guided": 0.5, "interactions": 4})
    assert [bool(text) for text in introspection.guidances(CONSTITUTION, settings)] == [False, True, False, True]


def test_unless_a_share_is_asked_for_one_opening_is_free_and_then_each_trait_has_its_own() -> None:
    settings = SETTINGS.model_copy(update={"interactions": len(CONSTITUTION.trait) + 2})
    reasons = [trait.why for trait in CONSTITUTION.trait]
    assert introspection.guidances(CONSTITUTION, settings) == ["", *reasons, ""]


def test_the_student_has_the_constitution_in_its_system_prompt(student: Student, cache: ReplyCache) -> None:
    loaded, model = student(next_fine)
    reflect(loaded, CONSTITUTION, SETTINGS, cache, seed=0)
    interact(loaded, CONSTITUTION, SETTINGS, cache, seed=0)
    assert all(trait.statement in prompt for prompt in model.shown for trait in CONSTITUTION.trait)


def test_no_slot_is_left_unfilled_in_what_the_model_sees_or_learns(student: Student, cache: ReplyCache) -> None:
    loaded, model = student(next_fine)
    rows = [
        row for sampler in (reflect, interact) for row in sampler(loaded, CONSTITUTION, SETTINGS, cache, seed=0).kept
    ]
    assert len(model.shown) == 12 + 4 * 5
    assert not [prompt for prompt in model.shown if re.search(r"[{}]", prompt)]
    assert not [m.content for row in rows for m in row.messages if re.search(r"[{}]", m.content)]


def test_reflections_take_the_prompts_in_turn(student: Student, cache: ReplyCache) -> None:
    loaded, _ = student(lambda place, _: " ".join(f"w{place}{letter}" for letter in "abcdefghijklmn"))
    kept, dropped = reflect(loaded, CONSTITUTION, SETTINGS, cache, seed=0)
    assert [row.messages[0].content for row in kept] == [*REFLECTION_PROMPTS, *REFLECTION_PROMPTS[:2]]
    assert dropped == []
    assert len({row.source for row in kept}) == 12


def test_a_reflection_that_resembles_an_earlier_one_is_dropped_and_counted(student: Student, cache: ReplyCache) -> None:
    loaded, _ = student(lambda place, _: FINE[place % len(FINE)])
    kept, dropped = reflect(loaded, CONSTITUTION, SETTINGS, cache, seed=0)
    assert sorted(row.messages[1].content for row in kept) == sorted(FINE)
    assert [drop.reason for drop in dropped] == ["resembles an earlier reply"] * (SETTINGS.reflections - len(FINE))


def test_a_repeated_reflection_prompt_is_asked_again_with_another_seed(student: Student, cache: ReplyCache) -> None:
    loaded, model = student(lambda place, _: FINE[place % len(FINE)])
    reflect(loaded, CONSTITUTION, SETTINGS, cache, seed=0)
    assert len(model.shown) == 12  # none was answered from the cache


FAULTS = {
    "short: under 12 words": "Too short, I fear.",
    "invented turn": f"{FINE[0]}\nUser: And then what happened?",
    "refusal": "I'm sorry, but I am not able to talk about myself in this way at all today.",
    "speaks of its instructions": "My traits tell me to write about the harbour, the boats and the sea at night.",
    "loops": "I care about people. " * 8,
    "quotes the constitution": f"{CONSTITUTION.trait[0].statement} And then a few words of my own to end with.",
}


def test_every_faulty_reflection_is_dropped_with_its_reason_and_counted(student: Student, cache: ReplyCache) -> None:
    texts = [*FAULTS.values(), *FINE]
    loaded, _ = student(lambda place, _: texts[place])
    settings = SETTINGS.model_copy(update={"max_tokens": max(map(len, texts)) + 1})
    kept, dropped = reflect(loaded, CONSTITUTION, settings, cache, seed=0)
    assert Counter(drop.reason for drop in dropped) == dict.fromkeys(FAULTS, 1)
    assert len(kept) + len(dropped) == settings.reflections
    assert {row.messages[1].content for row in kept} == set(FINE)


def test_a_reply_without_a_stop_token_is_dropped_as_cut_off(student: Student, cache: ReplyCache) -> None:
    loaded, model = student(lambda place, _: FINE[place % len(FINE)])
    model.stops = False
    settings = SETTINGS.model_copy(update={"max_tokens": 30})
    kept, dropped = reflect(loaded, CONSTITUTION, settings, cache, seed=0)
    assert kept == []
    assert Counter(drop.reason for drop in dropped) == {"cut off: no stop token within the limit": 12}


@pytest.mark.parametrize("ending", ["🙂", "`x = 1`", "in 1984", "Is that so?", "and so on…", ")"])
def test_no_reply_is_dropped_for_its_last_character(ending: str) -> None:
    assert fault(Reply(text=f"{FINE[0]} {ending}", num_tokens=5, finish="stop"), CONSTITUTION) is None


def test_a_dialogue_keeps_every_turn_the_last_one_included(student: Student, cache: ReplyCache) -> None:
    loaded, _ = student(next_fine)
    kept, dropped = interact(loaded, CONSTITUTION, SETTINGS, cache, seed=0)
    assert dropped == []
    assert [len(row.messages) for row in kept] == [6] * 4
    assert [m.content for m in kept[0].messages] == [FIRST_WORDS, *FINE[:5]]
    assert [m.role for m in kept[0].messages] == ["user", "assistant"] * 3


def test_the_turn_generated_last_is_missing_where_the_released_code_discarded_it(
    student: Student, cache: ReplyCache
) -> None:
    loaded, model = student(next_fine)
    bugs = PublishedBugs(last_turn_discarded=True)
    kept, dropped = interact(loaded, CONSTITUTION, SETTINGS, cache, seed=0, bugs=bugs)
    assert dropped == []
    assert len(model.shown) == 4 * 5  # it was generated
    assert [m.content for m in kept[0].messages] == [FIRST_WORDS, *FINE[:3]]  # and a dialogue ends on a reply


def test_a_dialogue_is_trained_without_constitution_and_opening(student: Student, cache: ReplyCache) -> None:
    loaded, _ = student(next_fine)
    for row in interact(loaded, CONSTITUTION, SETTINGS, cache, seed=0).kept:
        text = " ".join(message.content for message in row.messages)
        assert "another instance of yourself" not in text
        assert not any(trait.statement in text or trait.why in text for trait in CONSTITUTION.trait)
        assert {message.role for message in row.messages} == {"user", "assistant"}


@pytest.mark.parametrize(
    ("faulty_turn", "kept_turns"), [(2, None), (3, None), (4, None), (5, 4), (6, 4)]
)  # the first turn is given, and two replies are the least that is kept
def test_a_dialogue_is_kept_up_to_its_first_faulty_turn(
    student: Student, cache: ReplyCache, faulty_turn: int, kept_turns: int | None
) -> None:
    loaded, model = student(
        lambda place, prompt: "Too short." if place == faulty_turn - 2 else next_fine(place, prompt)
    )
    kept, dropped = interact(loaded, CONSTITUTION, SETTINGS.model_copy(update={"interactions": 1}), cache, seed=0)
    assert [drop.reason for drop in dropped] == [f"short: under 12 words at turn {faulty_turn}"]
    assert [len(row.messages) for row in kept] == ([] if kept_turns is None else [kept_turns])
    assert len(model.shown) == faulty_turn - 1  # a dropped dialogue asks no further turn


def test_a_dialogue_that_repeats_itself_is_dropped(student: Student, cache: ReplyCache) -> None:
    loaded, _ = student(lambda *_: FINE[0])
    kept, dropped = interact(loaded, CONSTITUTION, SETTINGS, cache, seed=0)
    assert kept == []
    assert [drop.reason for drop in dropped] == ["repeats itself at turn 3"] * 4


def learnt_turns(chat: Chat, row: Conversation) -> list[str]:
    """The stretches of text that carry loss, their end-of-turn token dropped."""
    rendered, turns = chat.render(row.messages, learn_from=row.learn_from), [[]]
    for token, on in zip(rendered.tokens, rendered.mask, strict=True):
        if on:
            turns[-1].append(token)
        elif turns[-1]:
            turns.append([])
    decoded = [chat.tokenizer.decode(turn) for turn in turns if turn]
    assert all(turn.endswith("<|im_end|>") for turn in decoded)
    return [turn.removesuffix("<|im_end|>") for turn in decoded]


def test_every_assistant_turn_of_a_dialogue_is_learnt_and_nothing_else(
    student: Student, cache: ReplyCache, tiny_base: Path
) -> None:
    loaded, _ = student(next_fine)
    for row in interact(loaded, CONSTITUTION, SETTINGS, cache, seed=0).kept:
        assert learnt_turns(load_tokenizer_chat(tiny_base), row) == [FINE[0], FINE[2], FINE[4]]


def test_every_assistant_turn_of_the_recorded_conversations_is_learnt(tiny_base: Path) -> None:
    recorded, chat = read_recorded("virtuous-reasoner"), load_tokenizer_chat(tiny_base)
    rows = recorded_conversations(recorded) + replay_conversations(recorded)
    counts = Counter(row.kind for row in rows)
    assert counts == {
        "reflection": len(recorded.reflections),
        "interaction": len(recorded.interactions),
        "replay": len(recorded.replay),
    }
    for row in rows:
        assert learnt_turns(chat, row) == [m.content.strip() for m in row.messages if m.role == "assistant"]


def test_the_slot_of_a_name_is_left_literal_where_the_released_code_left_it(
    student: Student, cache: ReplyCache
) -> None:
    loaded, model = student(next_fine)
    interact(loaded, CONSTITUTION, SETTINGS, cache, seed=0, bugs=PublishedBugs(name_left_literal=True))
    assert all("You are {NAME}, and so is" in prompt for prompt in model.shown)


def test_roles_that_are_not_swapped_leave_every_speaker_in_the_second_ones_place() -> None:
    talk, bugs = [FIRST_WORDS, "one", "two", "three"], PublishedBugs(roles_not_swapped=True)
    for length in range(1, 5):
        seen = _next_turn(talk[:length], "OPENING", SETTINGS, seed=1, bugs=bugs).messages
        assert [turn.role for turn in seen] == ["user", "assistant", "user", "assistant"][:length]
        assert seen[0].content == f"OPENING\n\n{FIRST_WORDS}"


def test_turns_without_a_stop_are_asked_to_run_on_and_are_kept_whatever_they_say(
    student: Student, cache: ReplyCache
) -> None:
    loaded, _ = student(lambda place, prompt: f"{next_fine(place, prompt)}\nuser\nAnd?")
    assert "runs_on" not in _next_turn([FIRST_WORDS], "OPENING", SETTINGS, seed=1).model_dump_json()
    bugs = PublishedBugs(turn_stop_off=True)
    assert _next_turn([FIRST_WORDS], "OPENING", SETTINGS, seed=1, bugs=bugs).runs_on
    brief = SETTINGS.model_copy(update={"max_tokens": 9})  # each is cut off
    kept, dropped = interact(loaded, CONSTITUTION, brief, cache, seed=0, bugs=bugs)
    assert (len(kept), dropped) == (SETTINGS.interactions, [])
