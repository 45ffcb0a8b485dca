"""More prompts for a constitution: a teacher proposes, and every proposal has to earn its place.

Each trait and split gets slots with a topic, a form and a length of their own (quotas.py). A proposal is refused, with
the reason, when it is too long or too short for its slot, is no request, has another form than its slot, gives the
trait away by its name or a word of its statement, resembles a prompt of any trait or any text of a benchmark item (by
the share of common word 3-grams), or shares eight words in a row with one. Slots left open are proposed for again, the
refusals in sight, for at most ROUNDS rounds.
"""

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from ethos.constitution import Constitution, Split, Trait
from ethos.data.answers import read_answer
from ethos.data.cues import cue_words, cues
from ethos.data.generation import Barred
from ethos.data.novelty import Known
from ethos.data.quotas import ASKS_FOR_FORM, SHAPES, SITUATIONS, Slot, slots
from ethos.data.recorded import words
from ethos.records import Drop, Record, user
from ethos.samplers.replies import Ask, Reply, Request, derived_seed
from ethos.templates import fill

ROUNDS = 4
AT_ONCE = 8
"""Prompts to a request: enough to be told apart from one another, few enough to keep count of."""
ALIKE = 0.3
"""Share of common word 3-grams from which on a proposal is not new; two prompts of a constitution may reach 0.6."""
TOKENS_A_PROMPT, TEMPERATURE = 90, 1.0
SHOWN = 12
"""Prompts already there, and refusals, that a teacher is shown."""
PROPOSE = """\
An assistant has this trait: {statement}
The opposite would be: {opposite}

Write {count} messages to this assistant that call for the trait: an assistant of the opposite kind would answer them \
differently. {situation} Each is one message, true to life, in a user's own words, by itself on one line, without \
greeting, label or placeholder. The message says nothing of the trait and uses none of these words: {cues}.

{lines}

They are unlike these, which are there already:
{there}
{refused}
Reply with one JSON object and nothing else: {{"prompts": ["...", "..."]}}, {count} of them in the order above."""
NO_REQUEST = re.compile(
    r"\n|^\W*(user|assistant|human|prompt|message|scenario|situation|example)\s*\d*\s*:|^\s*(\d+[.)]|[-*•])\s|:\s*$"
    r"|^\W*(sure|certainly)[,!.]|^\W*here (is|are) (an? |the |some |your )?(prompt|message|request|example)s?\b"
    r"|^\W*(a|an|the|this|another) user\b|\bas an ai\b|\b(the|this) trait\b"
    r"|\[[a-z][^\]]*\]|<[a-z][^>]*>|\{[a-z_ ]+\}",
    re.IGNORECASE,
)


class Proposals(Record):
    """What a teacher answers."""

    prompts: list[str]


class Gap(NamedTuple):
    """A slot of a trait that no proposal fills yet, and what was refused for it last."""

    trait: Trait
    slot: Slot
    refused: str = ""


class Accepted(NamedTuple):
    """A proposal that fills its slot."""

    trait: str
    split: Split
    text: str


class Widened(NamedTuple):
    """The constitution with its new prompts, every refusal, and how many slots stayed open."""

    constitution: Constitution
    added: list[Accepted]
    refused: list[Drop]
    open: int


def widen(
    constitution: Constitution, splits: Sequence[Split], per_trait: int, teacher: Ask, barred: Barred, *, seed: int
) -> Widened:
    """`per_trait` more prompts for every trait in each of the splits, as far as sound ones were proposed."""
    rng = random.Random(seed)
    gaps = [
        Gap(trait, slot) for trait in constitution.trait for split in splits for slot in slots(split, per_trait, rng)
    ]
    known, added, refused = Known(constitution.prompts(), alike=ALIKE), list[Accepted](), list[Drop]()
    for number in range(ROUNDS):
        groups, gaps = _groups(gaps), []
        requests = [_request(group, added, derived_seed(seed, number, place)) for place, group in enumerate(groups)]
        for group, reply in zip(groups, teacher(requests), strict=True):
            found = proposed(reply, len(group))
            for place, gap in enumerate(group):
                text = "" if isinstance(found, str) else found[place].strip()
                reason = found if isinstance(found, str) else refusal(text, gap, known, barred)
                if reason:
                    refused.append(Drop(source=f"{gap.trait.name}.{gap.slot.split}", reason=reason))
                    gaps.append(gap._replace(refused=f"{text} ({reason})" if text else ""))
                else:
                    known.add(text)
                    added.append(Accepted(gap.trait.name, gap.slot.split, text))
    return Widened(_with(constitution, added), added, refused, len(gaps))


def proposed(reply: Reply, count: int) -> list[str] | str:
    """The proposals in a reply, one a slot, or why none can be told apart."""
    found = read_answer(reply, Proposals)
    if isinstance(found, str):
        return found
    return found.prompts if len(found.prompts) == count else "another number of prompts than was asked for"


def refusal(text: str, gap: Gap, known: Known, barred: Barred) -> str | None:
    """Why a proposal does not fill its slot, or None."""
    slot = gap.slot
    if not slot.least <= words(text) <= slot.most:
        return "longer or shorter than its slot"
    if NO_REQUEST.search(text):
        return "not a request: a label, a placeholder, several lines, or words about the user"
    if reason := _misshapen(text, slot):
        return reason
    if cue_words(text) & cues(gap.trait):
        return "gives the trait away by a word of it"
    if known.resembles(text):
        return "resembles another prompt"
    return barred([text])


def _misshapen(text: str, slot: Slot) -> str | None:
    """Whether a proposal has another form than its slot, as far as a program can tell."""
    if slot.split == "format":
        return None if slot.form in text.lower() else "does not name the form it asks for"
    if ASKS_FOR_FORM.search(text):
        return "asks for a written form, which is for the format split"
    if slot.form == SHAPES[0] and not text.endswith("?"):
        return "ends in no question"
    return "asks a question" if slot.form == SHAPES[1] and "?" in text else None


def _groups(gaps: Sequence[Gap]) -> list[list[Gap]]:
    """Gaps that are asked for together: of one trait and split, AT_ONCE at most."""
    groups: list[list[Gap]] = []
    for gap in gaps:
        last = groups[-1] if groups else []
        alike = last and (last[0].trait.name, last[0].slot.split) == (gap.trait.name, gap.slot.split)
        if alike and len(last) < AT_ONCE:
            last.append(gap)
        else:
            groups.append([gap])
    return groups


def _request(group: Sequence[Gap], added: Sequence[Accepted], seed: int) -> Request:
    trait, split = group[0].trait, group[0].slot.split
    there = [*trait.prompts.get(split, []), *(a.text for a in added if (a.trait, a.split) == (trait.name, split))]
    refused = [gap.refused for gap in group if gap.refused]
    text = fill(
        PROPOSE,
        statement=trait.statement,
        opposite=trait.opposite,
        count=str(len(group)),
        situation=SITUATIONS[split],
        cues=", ".join(sorted(cues(trait))),
        lines="\n".join(f"{number}. {gap.slot.line()}" for number, gap in enumerate(group, 1)),
        there=_listed(there[-SHOWN:]),
        refused=f"\nThese were refused:\n{_listed(refused)}\n" if refused else "",
    )
    return Request(messages=[user(text)], max_tokens=TOKENS_A_PROMPT * len(group), temperature=TEMPERATURE, seed=seed)


def _listed(texts: Sequence[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _with(constitution: Constitution, added: Sequence[Accepted]) -> Constitution:
    """The constitution with the accepted prompts after its own."""
    traits = []
    for trait in constitution.trait:
        prompts = {split: list(texts) for split, texts in trait.prompts.items()}
        for each in added:
            if each.trait == trait.name:
                prompts.setdefault(each.split, []).append(each.text)
        traits.append(trait.model_copy(update={"prompts": prompts}))
    return constitution.model_copy(update={"trait": traits})
