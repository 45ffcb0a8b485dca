"""Likelihood of what is written: conversations (SFT), context distillation, documents.

loss = −mean log π(token | what comes before), over the tokens of a unit that are learnt.

Context distillation (Askell et al. 2021, arXiv:2112.00861) is this loss on replies that were written *with* the
constitution in the prompt and are learnt *without* it. Documents about the assistant and its constitution are learnt
as plain text, without a chat template.
"""

from collections.abc import Sequence

from torch import Tensor

from ethos.chat import Chat, Rendered
from ethos.errors import DataError
from ethos.records import Conversation
from ethos.train.loop import Objective, Scored, Unit
from ethos.train.losses import nll


def sft_objective() -> Objective:
    """Negative log-likelihood per token (nats), each unit counting equally."""

    def loss(units: Sequence[Scored]) -> tuple[Tensor, dict[str, float]]:
        total = nll([logprobs_T for unit in units for logprobs_T in unit.policy]) * len(units)
        return total, {"nll": total.item(), "singles": float(len(units))}

    return Objective(loss)


def conversation_units(rows: Sequence[Conversation], chat: Chat) -> list[Unit]:
    """One unit a conversation."""
    return [Unit((chat.render(row.messages, learn_from=row.learn_from),), source=row.source) for row in rows]


def document_units(texts: Sequence[str], chat: Chat, *, max_tokens: int) -> list[Unit]:
    """Plain text in windows of at most `max_tokens`, every token learnt once, given those before it in its window.

    A document begins and ends with the tokenizer's end-of-text token, so that none leans on another.
    """
    if max_tokens < 2:
        raise DataError(f"documents need windows of at least 2 tokens, not {max_tokens}")
    edge = [int(chat.tokenizer.eos_token_id or 0)]
    units = []
    for number, text in enumerate(texts):
        tokens = [*edge, *chat.tokenizer.encode(text, add_special_tokens=False), *edge]
        for start in range(0, len(tokens) - 1, max_tokens - 1):  # a window's last token is the next one's context
            window = tuple(tokens[start : start + max_tokens])
            mask = (False, *[True] * (len(window) - 1))
            units.append(Unit((Rendered(window, mask),), source=f"document:{number}:{start}"))
    return units
