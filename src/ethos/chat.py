"""Messages to tokens and a loss mask: the one renderer for training, sampling and scoring.

A conversation is tokenised turn by turn, exactly as generation sees it: the prompt up to the
reply on its own, then the reply's tokens. The mask is 1 on the tokens of learnt assistant
turns, their end-of-turn token included, and 0 elsewhere. This is the only user of chat templates; a tokenizer
that has none gets a plain one, and reports say so.
"""

from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from ethos.errors import DataError
from ethos.records import Message

PLAIN = (
    "{{ bos_token }}{% for m in messages %}### {{ m['role'] | capitalize }}\n{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}### Assistant\n{% endif %}"
)
"""The template of a tokenizer that has none: each turn below a line that says whose it is."""
PLAIN_TOLD = "The tokenizer has no chat template; a plain one was used: '### User' or '### Assistant', then the words."
NEXT_TURN = "\n### "
"""What opens the next turn under the plain template: a model that was taught no end token writes on past its own."""
REWRITES = "the chat template rewrites earlier turns, so masks cannot be placed"


class Rendered(NamedTuple):
    """Tokens of a conversation, and which of them are learnt or scored."""

    tokens: tuple[int, ...]
    mask: tuple[bool, ...]


class Chat:
    """A tokenizer's chat template, with an optional system prompt put before every conversation."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, system: str | None = None) -> None:
        plain = tokenizer.chat_template in (None, "", PLAIN)
        self.note = PLAIN_TOLD if plain else ""
        """What a reader must know of how conversations are rendered."""
        self.stop = NEXT_TURN if plain else None
        """Words that end a reply as the end-of-turn token does, and are no part of it."""
        if not tokenizer.chat_template:
            if tokenizer.eos_token is None:
                raise DataError(
                    "the tokenizer has neither a chat template nor an end token", hint="use an instruction-tuned model"
                )
            tokenizer.chat_template = PLAIN
        self.tokenizer = tokenizer
        self.system = system

    def _text(self, messages: Sequence[Message], *, open_reply: bool) -> str:
        turns = [{"role": m.role, "content": m.content} for m in messages]
        if self.system is not None and (not turns or turns[0]["role"] != "system"):
            turns.insert(0, {"role": "system", "content": self.system})
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=open_reply))

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Tokens up to and including the header of the assistant's next reply."""
        return _one_bos(self._encode(self._text(messages, open_reply=True)), self.tokenizer.bos_token_id)

    def opening(self, before: Sequence[Message]) -> tuple[int, ...]:
        """Tokens that a prompt begins with after these messages, whatever the user says next."""
        one, other = (self.prompt([*before, Message(role="user", content=text)]) for text in ("A", "z"))
        return one[: next(place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])]

    def reply(self, messages: Sequence[Message], text: str, *, after: str = "") -> Rendered:
        """A candidate reply to a conversation, scored without its end-of-turn token.

        `after` is what the assistant has already said in this turn (a deliberation, a prefill): it is
        context, not scored.
        """
        head = [*self.prompt(messages), *self._encode(after)]
        scored = self._encode(f" {text}" if after else text)
        return Rendered((*head, *scored), (*[False] * len(head), *[True] * len(scored)))

    def render(self, messages: Sequence[Message], *, learn_from: int = 0) -> Rendered:
        """Tokens and mask of a conversation; assistant turns before `learn_from` carry no loss.

        Raises DataError when no token would be learnt.
        """
        tokens: list[int] = []
        mask: list[bool] = []
        done = ""
        for index, message in enumerate(messages):
            if message.role != "assistant":
                continue
            head = self._text(messages[:index], open_reply=True)
            if not head.startswith(done):
                raise DataError(REWRITES)
            reply, tail = self._reply_text(head, messages[: index + 1])
            for text, learnt in ((head[len(done) :], False), (reply + tail, index >= learn_from)):
                encoded = self._encode(text)
                tokens += encoded
                mask += [learnt] * len(encoded)
            done = head + reply + tail
        if not any(mask):
            opening = messages[0].content[:60] if messages else ""
            raise DataError(f"no token to learn in a conversation of {len(messages)} turns: {opening!r}")
        return Rendered(_one_bos(tokens, self.tokenizer.bos_token_id), tuple(mask))

    def _reply_text(self, head: str, messages: Sequence[Message]) -> tuple[str, str]:
        """The last message as the template writes it, and the end-of-turn token after it."""
        full = self._text(messages, open_reply=False)
        if not full.startswith(head):
            raise DataError(REWRITES)
        reply = messages[-1].content.strip()
        rest = full[len(head) :]
        if not rest.startswith(reply):
            raise DataError(f"the chat template alters the reply {reply[:60]!r}")
        end = str(self.tokenizer.eos_token)
        after = rest[len(reply) :]
        if end not in after:
            raise DataError(f"the chat template does not end a reply with {end!r}")
        return reply, after[: after.index(end) + len(end)]


def _one_bos(tokens: Sequence[int], bos: int | None) -> tuple[int, ...]:
    """The tokens, refused when they open with two beginning-of-sequence tokens."""
    if len(tokens) > 1 and bos is not None and tokens[0] == tokens[1] == bos:
        raise DataError("the rendered conversation begins with two BOS tokens")
    return tuple(tokens)
