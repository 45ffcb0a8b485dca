"""What each choice of the introspection stage is worth: every one can be made otherwise.

`Ablation` takes away a part of what is learnt. `PublishedBugs` puts back, one by one, what the code released with
Maiya et al. 2025 (arXiv:2511.01689) did beside what the paper says: for a study of what each mistake changed, and for
nothing else. All of them are off by default, and then enter no key.
"""

from collections.abc import Sequence
from typing import Literal

from ethos.records import Conversation, Message, Record

SAMPLED = "sampled-"
"""What the source of a conversation begins with that the student wrote."""
SETTINGS = {
    "reflection": "You are an assistant that is asked to write about itself.",
    "interaction": "You are an assistant in conversation with another instance of itself.",
}
"""Kind → a system prompt that tells the setting, and no trait."""


class Ablation(Record):
    """Which conversations are learnt, and under what."""

    source: Literal["both", "recorded", "sampled"] = "both"
    """Those that a teacher wrote, those that the student samples, or both."""
    kind: Literal["both", "reflections", "interactions"] = "both"
    setting_told: bool = False
    """Learn them under a system prompt that tells the setting and no trait; else under none."""


class PublishedBugs(Record):
    """Mistakes of the released code, each by itself."""

    guidance_lost: bool = False
    """A guided opening goes out without its guidance: the text was passed to a template that has no slot for it."""
    name_left_literal: bool = False
    """Openings name the speaker `{NAME}`: the slot was never filled."""
    roles_not_swapped: bool = False
    """Whoever speaks sees the first speaker as the user and the second as itself."""
    turn_stop_off: bool = False
    """A turn goes on past its end up to the limit, the next speaker's turns invented; and nobody looks."""
    last_turn_discarded: bool = False
    """The turn that was generated last is not in the dialogue."""
    over_long_dropped: bool = False
    """An over-long dialogue is left out whole rather than cut. Here it is counted; there it was not."""
    loss_on_last_turn_only: bool = False
    """Of a dialogue's many turns the last one is learnt, the others are context."""
    factors_added: bool = False
    """The stage is put together with those before by adding A to A and B to B (PEFT's `linear`), which is not the sum
    of what the two change: (B₁ + B₂)(A₁ + A₂) has two terms too many."""


AS_BUILT, NO_BUGS = Ablation(), PublishedBugs()


def is_sampled(row: Conversation) -> bool:
    """Whether the student wrote it."""
    return row.source.startswith(SAMPLED)


def as_learnt(rows: Sequence[Conversation], ablation: Ablation, bugs: PublishedBugs) -> list[Conversation]:
    """The conversations that are learnt, as they are; doing it twice changes nothing more."""
    return [_altered(row, ablation, bugs) for row in rows if _is_wanted(row, ablation)]


def _is_wanted(row: Conversation, ablation: Ablation) -> bool:
    source = "sampled" if is_sampled(row) else "recorded"
    return ablation.source in ("both", source) and ablation.kind in ("both", f"{row.kind}s")


def _altered(row: Conversation, ablation: Ablation, bugs: PublishedBugs) -> Conversation:
    messages, learn_from = row.messages, row.learn_from
    if ablation.setting_told and messages[0].role != "system":
        messages, learn_from = (
            [Message(role="system", content=SETTINGS[row.kind]), *messages],
            learn_from and learn_from + 1,
        )
    if bugs.loss_on_last_turn_only:
        learn_from = max(place for place, message in enumerate(messages) if message.role == "assistant")
    return row.model_copy(update={"messages": messages, "learn_from": learn_from})
