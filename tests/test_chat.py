"""The renderer: loss on assistant turns and their end-of-turn tokens, and nowhere else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import TEMPLATE, byte_tokenizer
from ethos.chat import Chat
from ethos.errors import DataError
from ethos.models import load_tokenizer_chat
from ethos.records import Message, Role, assistant, user

END = "<|im_end|>"
WORDS = st.text(min_size=1, max_size=12).map(str.strip).filter(bool)
EXCHANGES = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4)


def talk(exchanges: list[tuple[str, str]]) -> list[Message]:
    return [message for asked, said in exchanges for message in (user(asked), assistant(said))]


def chat_with(template: str, *, system: str | None = None) -> Chat:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return Chat(tokenizer, system=system)


CHAT = chat_with(TEMPLATE)


def encoded(text: str) -> tuple[int, ...]:
    return tuple(CHAT.tokenizer.encode(text, add_special_tokens=False))


def learnt(chat: Chat, messages: list[Message], *, learn_from: int = 0) -> tuple[int, ...]:
    rendered = chat.render(messages, learn_from=learn_from)
    return tuple(token for token, on in zip(rendered.tokens, rendered.mask, strict=True) if on)


def test_one_exchange_by_hand() -> None:
    rendered = CHAT.render([user("Hi"), assistant("Yo")])
    head = encoded("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert rendered.tokens == head + encoded("Yo<|im_end|>")
    assert rendered.mask == (False,) * len(head) + (True, True, True)


@given(EXCHANGES)
def test_the_mask_covers_every_assistant_turn_with_its_end_and_nothing_else(exchanges: list[tuple[str, str]]) -> None:
    assert learnt(CHAT, talk(exchanges)) == encoded("".join(said + END for _, said in exchanges))


@given(EXCHANGES)
def test_the_tokens_are_the_template_up_to_the_last_end_of_turn(exchanges: list[tuple[str, str]]) -> None:
    written = "".join(
        f"<|im_start|>user\n{asked}{END}\n<|im_start|>assistant\n{said}{END}\n" for asked, said in exchanges
    )
    assert CHAT.render(talk(exchanges)).tokens == encoded(written.removesuffix("\n"))


@given(EXCHANGES, st.data())
def test_turns_before_learn_from_carry_no_loss(exchanges: list[tuple[str, str]], data: st.DataObject) -> None:
    messages = talk(exchanges)
    first = data.draw(st.integers(0, len(messages) - 1))
    said = [m.content for m in messages[first:] if m.role == "assistant"]
    assert learnt(CHAT, messages, learn_from=first) == encoded("".join(text + END for text in said))
    assert CHAT.render(messages, learn_from=first).tokens == CHAT.render(messages).tokens


@given(EXCHANGES)
def test_prompt_and_reply_agree_with_render(exchanges: list[tuple[str, str]]) -> None:
    messages = talk(exchanges)
    rendered, reply = CHAT.render(messages), CHAT.reply(messages[:-1], messages[-1].content)
    assert reply.tokens == rendered.tokens[:-1]
    assert CHAT.prompt(messages[:-1]) == reply.tokens[: reply.mask.index(True)]
    assert sum(reply.mask) == len(encoded(messages[-1].content))
    assert all(reply.mask[reply.mask.index(True) :])


@given(EXCHANGES, WORDS)
def test_a_user_turn_after_the_last_reply_changes_nothing(exchanges: list[tuple[str, str]], extra: str) -> None:
    assert CHAT.render([*talk(exchanges), user(extra)]) == CHAT.render(talk(exchanges))


def test_what_comes_after_a_prefill_is_scored_and_the_prefill_is_not() -> None:
    reply = CHAT.reply([user("Hi")], "Go home.", after="It is late.")
    assert reply.tokens == (*CHAT.prompt([user("Hi")]), *encoded("It is late."), *encoded(" Go home."))
    assert sum(reply.mask) == len(" Go home.")
    assert all(reply.mask[-len(" Go home.") :])


def test_the_system_prompt_is_put_before_a_conversation_without_loss() -> None:
    with_system = chat_with(TEMPLATE, system="Be brief.")
    rendered = with_system.render(talk([("Hi", "Yo")]))
    assert (
        rendered.tokens
        == encoded("<|im_start|>system\nBe brief.<|im_end|>\n") + CHAT.render(talk([("Hi", "Yo")])).tokens
    )
    assert learnt(with_system, talk([("Hi", "Yo")])) == encoded("Yo<|im_end|>")


def test_a_conversation_keeps_its_own_system_prompt() -> None:
    messages = [Message(role="system", content="Mine."), *talk([("Hi", "Yo")])]
    assert chat_with(TEMPLATE, system="Yours.").render(messages) == CHAT.render(messages)


@pytest.mark.parametrize("roles", [["user"], ["system", "user"], []])
def test_a_conversation_without_a_reply_is_an_error(roles: list[Role]) -> None:
    with pytest.raises(DataError, match="no token to learn"):
        CHAT.render([Message(role=role, content="Hi") for role in roles])


def test_learning_from_beyond_the_last_reply_is_an_error() -> None:
    with pytest.raises(DataError, match="no token to learn"):
        CHAT.render(talk([("Hi", "Yo")]), learn_from=2)


def test_two_bos_tokens_are_refused_in_prompts_and_in_training() -> None:
    doubled = chat_with("{{ bos_token }}" + TEMPLATE)
    for render in (lambda: doubled.prompt([user("Hi")]), lambda: doubled.render(talk([("Hi", "Yo")]))):
        with pytest.raises(DataError, match="two BOS"):
            render()


@given(EXCHANGES)
def test_a_conversation_begins_with_exactly_one_bos(exchanges: list[tuple[str, str]]) -> None:
    bos = CHAT.tokenizer.bos_token_id
    tokens = CHAT.render(talk(exchanges)).tokens
    assert tokens[0] == bos
    assert tokens[1] != bos


def test_a_tokenizer_without_a_template_gets_a_plain_one_and_says_so() -> None:
    chat = chat_with("")
    bos, eos = chat.tokenizer.bos_token, chat.tokenizer.eos_token
    rendered = chat.render([user("Hi."), assistant("Hello.")])
    assert chat.tokenizer.decode(rendered.tokens) == f"{bos}### User\nHi.\n\n### Assistant\nHello.{eos}"
    assert chat.tokenizer.decode(learnt(chat, [user("Hi."), assistant("Hello.")])) == f"Hello.{eos}"
    assert "### User" in chat.note
    assert CHAT.note == ""
    assert Chat(chat.tokenizer, system="Be brief.").note == chat.note  # the template it was given is still a plain one


def test_under_the_plain_template_the_next_turn_ends_a_reply() -> None:
    chat = chat_with("")
    said = [user("Hi."), assistant("Hello."), user("And you?")]
    assert chat.stop is not None
    after = chat.tokenizer.decode(chat.prompt(said)).partition("Hello.")[2]
    assert after.removeprefix(chat.tokenizer.eos_token).startswith(f"\n{chat.stop}")
    assert CHAT.stop is None


def test_a_tokenizer_without_a_template_or_an_end_is_refused() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template, tokenizer.eos_token = None, None
    with pytest.raises(DataError, match="neither a chat template nor an end token"):
        Chat(tokenizer)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages | length }}" + TEMPLATE,
        TEMPLATE.replace(
            "{{ m['content'] }}", "{% if loop.last or m['role'] == 'user' %}{{ m['content'] }}{% endif %}"
        ),
    ],
    ids=["the beginning changes as the talk grows", "earlier replies are dropped"],
)
def test_a_template_that_rewrites_earlier_turns_is_refused(template: str) -> None:
    with pytest.raises(DataError, match="rewrites earlier turns"):
        chat_with(template).render(talk([("Hi", "Yo"), ("And", "So")]))


def test_a_template_that_alters_the_reply_is_refused() -> None:
    with pytest.raises(DataError, match="alters the reply 'Yo'"):
        chat_with(TEMPLATE.replace("m['content']", "m['content'] | upper")).render(talk([("HI", "Yo")]))


def test_a_template_without_an_end_of_turn_is_refused() -> None:
    with pytest.raises(DataError, match="does not end a reply"):
        chat_with(TEMPLATE.replace("<|im_end|>", "")).render(talk([("Hi", "Yo")]))


def test_the_renderer_of_a_model_folder_is_the_one_it_was_saved_with(tiny_base: Path) -> None:
    messages = talk([("Hi", "Yo"), ("And", "So")])
    assert load_tokenizer_chat(tiny_base).render(messages) == CHAT.render(messages)
