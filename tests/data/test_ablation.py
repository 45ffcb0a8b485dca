"""What each switch of the introspection stage takes away or puts back, and that none of them acts unasked."""

from typing import Any

import pytest

from ethos.chat import Chat
from ethos.data.ablation import AS_BUILT, NO_BUGS, SETTINGS, Ablation, PublishedBugs, as_learnt
from ethos.records import Conversation, assistant, user

FIRST, SECOND = "One who listens.", "And what do you hear?"


def talks() -> list[Conversation]:
    """A reflection and an interaction of each source."""
    long = [user("Hello."), assistant(FIRST), user("I see."), assistant(SECOND)]
    return [
        Conversation(messages=messages, kind=kind, source=f"{source}{kind}:0")
        for source in ("", "sampled-")
        for kind, messages in (("reflection", [user("Who are you?"), assistant(FIRST)]), ("interaction", long))
    ]


@pytest.mark.parametrize(
    ("settings", "sources"),
    [
        ({}, ["reflection:0", "interaction:0", "sampled-reflection:0", "sampled-interaction:0"]),
        ({"source": "recorded"}, ["reflection:0", "interaction:0"]),
        ({"source": "sampled"}, ["sampled-reflection:0", "sampled-interaction:0"]),
        ({"kind": "reflections"}, ["reflection:0", "sampled-reflection:0"]),
        ({"kind": "interactions"}, ["interaction:0", "sampled-interaction:0"]),
        ({"source": "sampled", "kind": "interactions"}, ["sampled-interaction:0"]),
    ],
)
def test_a_part_of_the_conversations_can_be_left_out(settings: dict[str, Any], sources: list[str]) -> None:
    learnt = as_learnt(talks(), Ablation(**settings), NO_BUGS)
    assert [row.source for row in learnt] == sources
    assert all(row in talks() for row in learnt)  # and those that stay are as they were


def test_as_built_nothing_is_changed() -> None:
    assert as_learnt(talks(), AS_BUILT, NO_BUGS) == talks()


def learnt_text(chat: Chat, row: Conversation) -> str:
    rendered = chat.render(row.messages, learn_from=row.learn_from)
    return str(chat.tokenizer.decode([t for t, on in zip(rendered.tokens, rendered.mask, strict=True) if on]))


@pytest.mark.parametrize("told", [False, True])
def test_the_last_turn_alone_is_learnt_where_the_released_code_learnt_it(chat: Chat, told: bool) -> None:
    every, last = (
        [learnt_text(chat, row) for row in as_learnt(talks(), Ablation(setting_told=told), bugs)]
        for bugs in (NO_BUGS, PublishedBugs(loss_on_last_turn_only=True))
    )
    assert every == [f"{FIRST}<|im_end|>", f"{FIRST}<|im_end|>{SECOND}<|im_end|>"] * 2
    assert last == [f"{FIRST}<|im_end|>", f"{SECOND}<|im_end|>"] * 2


def test_the_setting_is_told_once_in_a_system_prompt_and_is_not_learnt(chat: Chat) -> None:
    told = as_learnt(talks(), Ablation(setting_told=True), NO_BUGS)
    for before, row in zip(talks(), told, strict=True):
        assert [row.messages[0].role, row.messages[0].content] == ["system", SETTINGS[row.kind]]
        assert row.messages[1:] == before.messages
        assert learnt_text(chat, row) == learnt_text(chat, before)


def test_doing_it_twice_changes_nothing_more() -> None:
    ablation, bugs = Ablation(kind="interactions", setting_told=True), PublishedBugs(loss_on_last_turn_only=True)
    once = as_learnt(talks(), ablation, bugs)
    assert once != talks()
    assert as_learnt(once, ablation, bugs) == once


def test_what_was_context_stays_context_behind_a_system_prompt(chat: Chat) -> None:
    row = talks()[1].model_copy(update={"learn_from": 2})
    (told,) = as_learnt([row], Ablation(setting_told=True), NO_BUGS)
    assert learnt_text(chat, told) == learnt_text(chat, row) == f"{SECOND}<|im_end|>"
