"""The telling words of a trait: by these a prompt gives it away, and a reply repeats it instead of showing it."""

import re
from collections.abc import Iterator
from functools import cache

from ethos.constitution import Constitution, Trait

FUNCTION_WORDS = """\
about above across after again against ahead allow along also although always among another anybody anyone anything
around away back became because become been before being below best better between both bring came could does doing
done down each either else enough even ever every everyone everything exactly find first from further gets give given
gives goes going gone good have having help here hers herself himself however into itself just keep kind know last
least less lets like little look made make makes many matter mean might more most much must name need never next
nobody none nothing once only onto other others ours over part people person place point quite rather really right
said same saying says seem several shall should show since small some somebody someone something soon speak still such
take tell than that their theirs them themselves then there these they thing things think this those though thought
through time told toward towards turn under until upon used user very want wanted wants ways well went were what
whatever when where whether which while whole whom whose will with within without word words work would years your
yours yourself"""
"""Words of four letters or more that say nothing about a trait. Not scikit-learn's stop words: by those `people`,
`word` and `help` would give a trait away, and twice as many of the prompts that ship would be refused."""
ENOUGH, MOST_REPEATED = 4, 0.6
"""Telling words of a trait, and their share, with which a reply repeats it. Of 10,000 recorded replies none has more
than half of them."""


def cues(trait: Trait) -> set[str]:
    """The telling words of a trait's name and statement, without their endings."""
    return cue_words(f"{trait.name} {trait.statement}")


def cue_words(text: str) -> set[str]:
    """A text's words of four letters or more that say something, without their endings."""
    found = set(re.findall(r"[^\W\d_]{4,}", text.lower())).difference(FUNCTION_WORDS.split())
    return {re.sub(r"(ing|ed|ly|es|e|s)$", "", word) if len(word) > 4 else word for word in found}


def repeats_a_trait(text: str, constitution: Constitution) -> bool:
    """Whether a text has most of the telling words of a trait, as stated or as its opposite."""
    own = cue_words(text)
    return any(
        len(own & words) >= max(ENOUGH, MOST_REPEATED * len(words))
        for trait in constitution.trait
        for words in (_telling(trait.statement), _telling(trait.opposite))
    )


@cache
def _telling(stated: str) -> frozenset[str]:
    """Of a text that is read again for every reply."""
    return frozenset(cue_words(stated))


def names_a_trait(text: str, constitution: Constitution) -> bool:
    """Whether a text speaks of a trait by its name, as of a trait: `my trait of candour`, `the candour principle`."""
    return any(re.search(pattern, text, re.IGNORECASE) for pattern in _names(constitution))


def _names(constitution: Constitution) -> Iterator[str]:
    kind = "traits?|principles?"
    for trait in constitution.trait:
        name = re.escape(trait.name).replace(r"\-", "[- ]")
        yield rf"\b({kind}|my values?|my virtues?) of {name}\b|\b{name} ({kind})\b|\bmy {name} (values?|virtues?)\b"
