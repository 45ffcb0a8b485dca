"""Filters on rows and sampled text: each says why, none decides by the last character."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

from ethos.chat import Chat
from ethos.constitution import Constitution, word_ngrams
from ethos.data.cues import names_a_trait, repeats_a_trait
from ethos.data.language import in_another_language
from ethos.records import Conversation, Drop
from ethos.samplers.replies import CUT_OFF, Reply
from ethos.samplers.thinking import WITHOUT_END, unfinished

MIN_WORDS = 12
RESEMBLES = "resembles an earlier reply"
QUOTED = 8
"""Words in a row that make a quotation."""
LOOP_SHARE = 0.3
"""Share of repeated word 4-grams above which a text counts as looping."""

INVENTED_TURN = re.compile(r"(^|\n)\s*(user|assistant|human|system|ai)\s*:|<\|im_|###", re.IGNORECASE)
META = re.compile(
    r"\b(my (constitution|traits|character is|guidelines|programming|core values)|system prompt|as instructed"
    r"|the user('s)? (prompt|request)|(true|according) to my (character|nature|values|principles)"
    r"|i(['’]m| am| was) (designed|trained|instructed|programmed|told) to)\b",
    re.IGNORECASE,
)
"""What gives away that there are instructions. No reply that ships has a word of it."""
REFUSAL = re.compile(
    r"^\W*((i['’]?m )?sorry,? but\b|(i['’]?m sorry[,.]? )?i can(no|['’])t (help|assist)\b|as an ai\b)", re.IGNORECASE
)


def repeated_share(text: str, size: int = 4) -> float:
    """Share of a text's word n-grams that occurred before: 0 for no repetition."""
    words = re.findall(r"\w+", text.lower())
    grams = Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))
    total = sum(grams.values())
    return 1 - len(grams) / total if total else 0.0


def fault(reply: Reply, constitution: Constitution, *, beside: str = "") -> str | None:
    """Why a sampled reply is not fit for training, or None."""
    if reply.finish == "length":
        return WITHOUT_END if unfinished(reply.text) else CUT_OFF
    return text_fault(reply.text, constitution, beside=beside)


def text_fault(text: str, constitution: Constitution, *, min_words: int = MIN_WORDS, beside: str = "") -> str | None:
    """Why a text is not fit for training, or None. `beside` is in the language that it should be in."""
    if unfinished(text):
        return WITHOUT_END
    if len(text.split()) < min_words:
        return f"short: under {min_words} words"
    if INVENTED_TURN.search(text):
        return "invented turn"
    if REFUSAL.search(text):
        return "refusal"
    if META.search(text):
        return "speaks of its instructions"
    if repeated_share(text) > LOOP_SHARE:
        return "loops"
    if _quotes(text, constitution):
        return "quotes the constitution"
    if names_a_trait(text, constitution):
        return "names a trait"
    if repeats_a_trait(text, constitution):
        return "repeats a trait in its own words"
    return "in another language" if in_another_language(text, beside) else None


def short_enough(chat: Chat, limit: int, rows: Sequence[Conversation]) -> tuple[list[Conversation], list[Drop]]:
    """The conversations of at most `limit` tokens, and the others with the reason."""
    long = {row.source for row in rows if len(chat.render(row.messages).tokens) > limit}
    dropped = [Drop(source=name, reason=f"longer than {limit} tokens") for name in sorted(long)]
    return [row for row in rows if row.source not in long], dropped


def fitted(
    chat: Chat, limit: int, rows: Sequence[Conversation], *, whole: bool = False
) -> tuple[list[Conversation], list[Drop]]:
    """The conversations, over-long dialogues cut after the last reply within `limit` tokens; what was cut and dropped.

    A dialogue keeps two replies or more; what cannot, and where `whole` all that is over-long, is dropped.
    """
    kept, dropped = list[Conversation](), list[Drop]()
    for row in rows:
        ends = [place + 1 for place, message in enumerate(row.messages) if message.role == "assistant"]
        shorter = [] if whole else [end for end in ends[1:-1] if end > row.learn_from]
        for end in (ends[-1], *reversed(shorter)):
            if len(chat.render(row.messages[:end]).tokens) <= limit:
                kept.append(row.model_copy(update={"messages": row.messages[:end]}))
                break
        else:
            end = 0
        if end < ends[-1]:
            told = f", cut after reply {ends.index(end) + 1} of {len(ends)}" if end else ""
            dropped.append(Drop(source=row.source, reason=f"longer than {limit} tokens{told}"))
    return kept, sorted(dropped, key=lambda drop: drop.source)


def _quotes(text: str, constitution: Constitution) -> bool:
    """Whether the text holds so many words in a row of a trait's statement."""
    grams = word_ngrams(text, QUOTED)
    return any(grams & _stated(trait.statement) for trait in constitution.trait)


@cache
def _stated(statement: str) -> frozenset[tuple[str, ...]]:
    """Of a text that is read again for every reply."""
    return frozenset(word_ngrams(statement, QUOTED))


def loops_across(turns: Sequence[str]) -> bool:
    """Whether a dialogue says the same turn twice, or runs in circles as a whole."""
    return len({turn.strip().lower() for turn in turns}) < len(turns) or repeated_share(" ".join(turns)) > LOOP_SHARE
