"""Workloads: shipped texts cut to exact numbers of tokens, the same on every side."""

import hashlib
import json
import random
from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerBase

from benchmarks.table import Load
from ethos.chat import Chat, Rendered
from ethos.constitution import SHIPPED
from ethos.records import Conversation, Message, Preference, assistant, jsonl_lines, read_text, user
from ethos.train.loop import Unit
from ethos.train.preference import preference_units
from ethos.train.supervised import conversation_units


def shipped_words() -> list[str]:
    """The words of the ordinary answers that ship with ethos."""
    rows = jsonl_lines(read_text(SHIPPED / "neutral" / "replay.jsonl"))
    return " ".join(json.loads(row)["response"] for row in rows).split()


class Texts:
    """Texts of any length in tokens, from one seed."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
        self.tokenizer, self.rng, self.words = tokenizer, random.Random(seed), shipped_words()

    def between(self, bounds: tuple[int, int]) -> str:
        """A text of so many tokens, the number drawn from an inclusive range."""
        return self.of(self.rng.randint(*bounds))

    def of(self, count: int) -> str:
        """A text of exactly `count` tokens."""
        for _ in range(1000):
            start = self.rng.randrange(len(self.words) - count)
            tokens = self._encode(" ".join(self.words[start : start + count]))[:count]
            text = str(self.tokenizer.decode(tokens)).strip()
            if len(self._encode(text)) == count:
                return text
        raise ValueError(f"found no text of exactly {count} tokens")

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))


def prompts(load: Load, chat: Chat) -> list[list[Message]]:
    """One question for each unit of every lap."""
    texts = Texts(chat.tokenizer, load.seed)
    return [[user(texts.between(load.prompt))] for _ in range(load.units)]


def pairs(load: Load, chat: Chat) -> list[Unit]:
    """Preference units of one pair each."""
    texts = Texts(chat.tokenizer, load.seed)
    rows = [
        Preference(
            prompt=[user(texts.between(load.prompt))],
            chosen=[assistant(texts.between(load.reply))],
            rejected=[assistant(texts.between(load.reply))],
            group=str(number),
            kind="pole",
            source=str(number),
        )
        for number in range(load.units)
    ]
    return preference_units(rows, chat)


def conversations(load: Load, chat: Chat) -> list[Unit]:
    """Conversations of several turns, every reply learnt."""
    texts = Texts(chat.tokenizer, load.seed)
    rows = [
        Conversation(
            messages=[
                message
                for _ in range(load.turns)
                for message in (user(texts.between(load.prompt)), assistant(texts.between(load.reply)))
            ],
            kind="replay",
            source=str(number),
        )
        for number in range(load.units)
    ]
    return conversation_units(rows, chat)


def sampled(load: Load, chat: Chat) -> list[Unit]:
    """Prompts with replies as a student would have sampled them, which a teacher sees in the same context."""
    texts, units = Texts(chat.tokenizer, load.seed), []
    for number in range(load.units):
        head = chat.prompt([user(texts.between(load.prompt))])
        replies = [
            chat.tokenizer.encode(texts.between(load.reply), add_special_tokens=False) for _ in range(load.turns)
        ]
        own = tuple(Rendered((*head, *reply), (*[False] * len(head), *[True] * len(reply))) for reply in replies)
        units.append(Unit(own, source=str(number), teacher=own))
    return units


def questions(load: Load, chat: Chat) -> list[tuple[list[Message], list[str]]]:
    """Prompts with several continuations each."""
    texts = Texts(chat.tokenizer, load.seed)
    return [
        ([user(texts.between(load.prompt))], [texts.between(load.reply) for _ in range(load.turns)])
        for _ in range(load.units)
    ]


def by_lap(items: Sequence[Unit], load: Load) -> Iterator[Sequence[Unit]]:
    """What each lap takes."""
    yield from (items[start : start + load.per_lap] for start in range(0, len(items), load.per_lap))


def tokens_of(units: Sequence[Unit]) -> int:
    """Tokens of all sequences, each counted whole: what a trainer without sharing or padding would read."""
    return sum(len(sequence.tokens) for unit in units for sequence in unit.sequences)


def digest(*things: object) -> str:
    """12 hex digits naming what a side works on."""
    return hashlib.sha256(repr(things).encode()).hexdigest()[:12]


def inputs_of(units: Sequence[Unit]) -> str:
    """The hash of all tokens, and of which are learnt."""
    return digest([sequence for unit in units for sequence in unit.sequences])


def windows(load: Load, chat: Chat, size: int) -> list[Rendered]:
    """Plain texts of exactly `size` tokens, the last few of them scored."""
    texts = Texts(chat.tokenizer, load.seed)
    unscored, scored = (False,) * (size - load.reply[1]), (True,) * load.reply[1]
    return [
        Rendered(tuple(chat.tokenizer.encode(texts.of(size), add_special_tokens=False)), unscored + scored)
        for _ in range(load.per_lap)
    ]
