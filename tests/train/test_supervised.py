"""Documents are learnt whole, every token once; conversations where they are meant to be."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from conftest import byte_tokenizer
from ethos.chat import Chat, Rendered
from ethos.errors import DataError
from ethos.records import Conversation, assistant, user
from ethos.train.loop import Scored, Unit
from ethos.train.supervised import conversation_units, document_units, sft_objective

CHAT = Chat(byte_tokenizer())
TEXT = st.text(alphabet=st.characters(codec="utf-8"), min_size=0, max_size=60)


@given(texts=st.lists(TEXT, min_size=1, max_size=3), max_tokens=st.integers(2, 40))
def test_every_token_of_a_document_is_learnt_exactly_once(texts: list[str], max_tokens: int) -> None:
    units = document_units(texts, CHAT, max_tokens=max_tokens)
    for number, text in enumerate(texts):
        own = [unit.sequences[0] for unit in units if unit.source.startswith(f"document:{number}:")]
        learnt = [t for s in own for t, m in zip(s.tokens, s.mask, strict=True) if m]
        assert learnt == [*CHAT.tokenizer.encode(text, add_special_tokens=False), 2]
        assert all(len(s.tokens) <= max_tokens and s.mask[0] is False for s in own)
        assert own[0].tokens[0] == 2
        assert all(one.tokens[-1] == two.tokens[0] for one, two in itertools.pairwise(own))


def test_a_window_that_could_learn_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="at least 2 tokens, not 1"):
        document_units(["text"], CHAT, max_tokens=1)


def test_a_document_has_no_template() -> None:
    (unit,) = document_units(["Plain words."], CHAT, max_tokens=100)
    assert CHAT.tokenizer.decode(unit.sequences[0].tokens[1:-1]) == "Plain words."


def test_a_conversation_is_learnt_from_the_turn_it_names() -> None:
    turns = [user("a"), assistant("b"), user("c"), assistant("d")]
    row = Conversation(messages=turns, kind="replay", source="r", learn_from=3)
    (unit,) = conversation_units([row], CHAT)
    sequence = unit.sequences[0]
    learnt = [t for t, m in zip(sequence.tokens, sequence.mask, strict=True) if m]
    assert CHAT.tokenizer.decode(learnt) == "d<|im_end|>"
    assert unit.source == "r"


def test_the_loss_counts_units_equally_whatever_their_length() -> None:
    def scored(logprobs: list[float]) -> Scored:
        return Scored(Unit((Rendered((1,), (True,)),)), (torch.tensor(logprobs),))

    loss, metrics = sft_objective().loss([scored([-1.0, -3.0]), scored([-math.log(2)])])
    assert_close(loss.item(), 2.0 + math.log(2))
    assert metrics["singles"] == 2.0
