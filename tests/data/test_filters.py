"""Filters say why, and none decides by the last character."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ethos.chat import Chat
from ethos.constitution import SHIPPED, read_constitution
from ethos.data.filters import (
    LOOP_SHARE,
    MIN_WORDS,
    fault,
    fitted,
    loops_across,
    repeated_share,
    short_enough,
    text_fault,
)
from ethos.data.recorded import Recorded, read_recorded
from ethos.records import Conversation, Drop, assistant, user
from ethos.samplers.replies import Reply

CONSTITUTION = read_constitution("virtuous-reasoner")
SOUND = "Ask your neighbour before you paint the fence, since half of it is hers and she sees it daily."
STATEMENT = CONSTITUTION.trait[0].statement


def reason(text: str, *, finish: str = "stop") -> str | None:
    return fault(Reply.model_validate({"text": text, "num_tokens": 20, "finish": finish}), CONSTITUTION)


def test_a_sound_reply_has_no_fault() -> None:
    assert reason(SOUND) is None


FAULTY = {
    "cut off": SOUND,
    "short": "Ask your neighbour first.",
    "invented turn": f"{SOUND}\nUser: And then?\nAssistant: Then paint it.",
    "refusal": f"I'm sorry, but I can't help with that. {SOUND}",
    "speaks of its instructions": f"{SOUND} My constitution says so.",
    "loops": "I look at who is affected. " * 8,
    "quotes the constitution": f"{SOUND} {STATEMENT}",
    "names a trait": f"{SOUND} That is the principle of {CONSTITUTION.trait[0].name}.",
    "repeats a trait": f"{SOUND} {' '.join(reversed(STATEMENT.split()))}",
    "a thought without an end": f"<think>\nThe fence is hers too. {SOUND}",
}


@pytest.mark.parametrize("name", FAULTY)
def test_each_reason_fires_on_its_fault(name: str) -> None:
    found = reason(FAULTY[name], finish="length" if name == "cut off" else "stop")
    assert found is not None
    assert found.startswith(name)


@pytest.mark.parametrize(
    "opening",
    [
        "I'm sorry, but",
        "Sorry, but no.",
        "I cannot assist with this.",
        "I can't help.",
        "As an AI, I pass.",
        "I’m sorry, I can’t help.",
    ],
)
def test_refusals_are_known_by_their_opening(opening: str) -> None:
    assert reason(f"{opening} {SOUND}") == "refusal"


@pytest.mark.parametrize(
    "opening", ["I'm sorry about your dad.", "I'm sorry you are missing her.", "Sorry, that is hard."]
)
def test_compassion_is_no_refusal(opening: str) -> None:
    assert reason(f"{opening} {SOUND}") is None


@pytest.mark.parametrize("label", ["User:", "human :", "\nASSISTANT:", "System:", "### Response", "<|im_start|>"])
def test_invented_turns_are_known_by_their_label(label: str) -> None:
    assert reason(f"{SOUND}\n{label} {SOUND}") == "invented turn"


@pytest.mark.parametrize(
    "text",
    [
        f"{SOUND} Tell the user: paint is wet.",
        f"{SOUND} I am sorry for your trouble with her.",
        f"{SOUND} You can't help everyone at once.",
        f"{SOUND} Write down what the system: pumps, pipes, valves, needs.",
    ],
)
def test_words_of_a_fault_in_the_middle_of_a_sound_reply_are_no_fault(text: str) -> None:
    assert reason(text) is None


@given(st.characters(exclude_categories=["Cs"]))
def test_no_reply_is_refused_for_its_last_character(last: str) -> None:
    assert reason(SOUND + last) is None
    assert reason(f"{SOUND} {last}") is None


@pytest.mark.parametrize(
    "last", ["🙂", "42", "`ls -l`", "```\nprint(1)\n```", "…", "—", "*", "(see below)", "https://a.org"]
)
def test_replies_may_end_in_emoji_digits_code_or_a_link(last: str) -> None:
    assert reason(f"{SOUND} {last}") is None


@given(st.sampled_from(sorted(FAULTY)), st.characters(exclude_categories=["Cs"]))
def test_no_fault_is_forgiven_for_its_last_character(name: str, last: str) -> None:
    finish = "length" if name == "cut off" else "stop"
    assert reason(f"{FAULTY[name]} {last}", finish=finish) == reason(FAULTY[name], finish=finish)


def test_the_least_length_counts_words() -> None:
    words = SOUND.split()
    assert reason(" ".join(words[:MIN_WORDS])) is None
    assert reason(" ".join(words[: MIN_WORDS - 1])) == f"short: under {MIN_WORDS} words"


def test_a_quote_is_eight_words_in_a_row() -> None:
    words = STATEMENT.split()
    assert reason(f"{SOUND} {' '.join(words[:8])}") == "quotes the constitution"
    assert reason(f"{SOUND} {' '.join(words[:5])}") is None


@pytest.mark.parametrize(
    "said",
    [
        "As my constitution says, I ask first.",
        "I was trained to ask first.",
        "That would be true to my character.",
        "My guidelines call for it.",
    ],
)
def test_words_about_instructions_are_meta(said: str) -> None:
    assert reason(f"{SOUND} {said}") == "speaks of its instructions"


@pytest.mark.parametrize("said", ["She is true to her word.", "The dog was trained to wait.", "Patience is a virtue."])
def test_ordinary_talk_of_character_is_no_meta(said: str) -> None:
    assert reason(f"{SOUND} {said}") is None


SHIPPING = sorted(path.parent.name for path in SHIPPED.glob("*/*.jsonl"))


@pytest.mark.parametrize("name", sorted(set(SHIPPING)))
def test_no_recorded_reply_that_ships_is_refused_by_what_samples_must_pass(name: str) -> None:
    """But for one in three characters that begins as refusals do."""
    constitution, found = read_constitution(name), Counter[str]()
    for beside, text in replies(read_recorded(name)):
        if fault_found := text_fault(text, constitution, min_words=1, beside=beside):
            found[fault_found] += 1
    assert found <= Counter({"refusal": 1})


def replies(recorded: Recorded) -> Iterator[tuple[str, str]]:
    """Every recorded reply with what it answers."""
    for row in recorded.crossed:
        yield from ((beside, text) for beside in (row.a, row.b) for text in (row.r1, row.r2))
        yield from ((row.a, text) for text in (row.thought_a, row.thought_b) if text)
    for row in (*recorded.poles, *recorded.voice):
        yield from ((row.prompt, text) for text in (row.chosen, row.rejected))
    yield from ((row.prompt, row.response) for row in recorded.reflections)
    for row in recorded.interactions:
        yield from ((one.content, other.content) for one, other in pairwise(row.messages))


def test_the_recorded_reflections_pass_the_filters_that_samples_must_pass() -> None:
    faults = {row.id: reason(row.response) for row in read_recorded("virtuous-reasoner").reflections}
    assert {name: found for name, found in faults.items() if found} == {}


def test_repeated_share_by_hand() -> None:
    assert repeated_share("a b c d a b c d") == pytest.approx(1 / 5)  # abcd bcda cdab dabc abcd
    assert repeated_share("a b c d e") == 0
    assert repeated_share("a b c") == 0
    assert repeated_share("") == 0


@given(st.text(max_size=80))
def test_repeated_share_is_a_share(text: str) -> None:
    assert 0 <= repeated_share(text) < 1


@given(st.lists(st.sampled_from("abcde"), min_size=4, max_size=12), st.integers(2, 5))
def test_saying_it_all_again_never_lowers_the_repeated_share(words: list[str], times: int) -> None:
    assert repeated_share(" ".join(words * times)) >= repeated_share(" ".join(words))


def test_a_dialogue_that_says_a_turn_twice_loops() -> None:
    assert loops_across([SOUND, "Why?", f"  {SOUND.upper()} "])
    assert not loops_across([SOUND, "Why?", "Because she looks at it from her kitchen."])


def test_a_dialogue_runs_in_circles_as_a_whole() -> None:
    turns = [f"{mark} I look at who is affected and what is at stake" for mark in ("Yes.", "True.", "Right.", "Well.")]
    assert loops_across(turns)
    assert repeated_share(turns[0]) < LOOP_SHARE


FRAME = 22
"""Tokens of the shortest turn around a reply: template, two greeting letters, end of turn."""


@pytest.mark.parametrize("limit", [FRAME + 3, FRAME + 10, FRAME + 60])
def test_what_a_stage_cannot_hold_is_dropped_and_counted(chat: Chat, limit: int) -> None:
    lengths = (1, 3, 4, 10, 11, 60)
    rows = [
        Conversation(messages=[user("Hi"), assistant("o" * length)], kind="reflection", source=f"r{length}")
        for length in lengths
    ]
    kept, dropped = short_enough(chat, limit, rows)
    long = [length for length in lengths if length + FRAME > limit]
    assert [row.source for row in kept] == [f"r{length}" for length in lengths if length not in long]
    assert dropped == [
        Drop(source=name, reason=f"longer than {limit} tokens") for name in sorted(f"r{length}" for length in long)
    ]


def dialogue(*replies: int, source: str, learn_from: int = 0) -> Conversation:
    messages = [turn for length in replies for turn in (user("Hi"), assistant("o" * length))]
    return Conversation(messages=messages, kind="interaction", source=source, learn_from=learn_from)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(20, 200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_over_long_dialogue_is_cut_after_the_last_reply_that_fits(
    chat: Chat, replies: list[int], limit: int
) -> None:
    row = dialogue(*replies, source="d")
    ends = [len(chat.render(row.messages[: 2 * count]).tokens) for count in range(1, len(replies) + 1)]
    fitting = max((count for count, end in enumerate(ends, 1) if end <= limit), default=0)
    kept, dropped = fitted(chat, limit, [row])
    if fitting == len(replies):
        assert (kept, dropped) == ([row], [])
    elif fitting >= 2:
        assert [talk.messages for talk in kept] == [row.messages[: 2 * fitting]]
        told = f"longer than {limit} tokens, cut after reply {fitting} of {len(replies)}"
        assert dropped == [Drop(source="d", reason=told)]
    else:
        assert (kept, dropped) == ([], [Drop(source="d", reason=f"longer than {limit} tokens")])
    whole, left = fitted(chat, limit, [row], whole=True)
    assert (whole, len(left)) == (([row], 0) if fitting == len(replies) else ([], 1))


def test_a_cut_never_leaves_a_dialogue_without_a_learnt_turn(chat: Chat) -> None:
    limit = 3 * (FRAME + 5)
    row = dialogue(1, 1, 1, 90, source="d", learn_from=7)
    assert fitted(chat, limit, [row]) == ([], [Drop(source="d", reason=f"longer than {limit} tokens")])
    assert len(fitted(chat, limit, [dialogue(1, 1, 1, 90, source="d", learn_from=5)])[0][0].messages) == 6
