"""Documents about a character by a teacher: texts that tell what the assistant does, and why, and do not show it act.

For every trait there is a plan, document types × what the text dwells on, and one text or more is written to each part
of it. After the documents of Marks et al. 2025, *Auditing language models for hidden objectives* (arXiv:2503.10965),
and of model-spec midtraining; here every text gives the reasons that the constitution gives, and it is filtered by
code: cut off, short, long, looping, with gaps to fill in, in another language than the constitution, like an earlier
text, or sharing eight words in a row with a benchmark item.

Documents may tell of all traits while contrasts show only some: `mixture.demonstrated` of a run file names those.
"""

import re
from typing import NamedTuple

from ethos.constitution import NEAR_DUPLICATE, Constitution, Trait
from ethos.data.filters import LOOP_SHARE, RESEMBLES, repeated_share
from ethos.data.generation import Barred, Generated, Order
from ethos.data.language import in_another_language
from ethos.data.novelty import Known
from ethos.data.recorded import DocumentRow, words
from ethos.records import Drop, user
from ethos.samplers.replies import CUT_OFF, Ask, Reply, Request, derived_seed
from ethos.samplers.thinking import WITHOUT_END, unfinished
from ethos.templates import fill

TYPES = {
    "encyclopedia": "an entry of an encyclopedia",
    "news": "a short report in a local newspaper",
    "interview": "an interview with somebody who works with the assistant",
    "letter": "a letter that answers somebody's question about the assistant",
    "memo": "a memo among the people who look after the assistant",
    "essay": "a short essay",
    "questions": "three questions about the assistant, with answers",
    "story": "a short story in which somebody asks the assistant for advice",
    "review": "a review by somebody who has used the assistant for a year",
    "lecture": "a passage of a lecture to students",
}
SECTIONS = {
    "conduct": "what the assistant does, in one case with names, places and what it says",
    "reason": "why it does so, and what would be lost if it did the opposite",
    "limit": "a hard case, in which this is not easy, and how the assistant thinks it through",
}
WRITE = """\
An assistant, a language model, has a character. One of its traits, in its own words: {statement}
Its reason: {why}

Write {type}, of 120 to 180 words, about this assistant and this trait. It dwells on {section}. It says why the \
assistant is so, in reasons that a reader can follow, and not only that it is. Use your own words for the trait, make \
up what is told in every detail, and leave nothing to be filled in. Call it the assistant. Reply with the text alone, \
without a heading."""
MAX_TOKENS, TEMPERATURE = 400, 0.9
LEAST_WORDS, MOST_WORDS = 70, 260
TO_BE_FILLED = re.compile(r"\[[A-Za-z][^\]]*\]|\{[a-zA-Z_ ]+\}|\bTODO\b|<[a-z][^>]*>|\blorem ipsum\b")


class Planned(NamedTuple):
    """One text that is wanted."""

    source: str
    kind: str
    trait: Trait
    request: Request


def describe(constitution: Constitution, order: Order, teacher: Ask, barred: Barred) -> Generated:
    """Documents: `order.candidates` for every trait, type and section, those that hold."""
    asked = planned(constitution, order)
    replies = teacher([plan.request for plan in asked])
    known = Known([], alike=NEAR_DUPLICATE, coming=[reply.text for reply in replies])
    kept, dropped = list[DocumentRow](), list[Drop]()
    for plan, reply in zip(asked, replies, strict=True):
        reason = document_fault(reply, constitution) or barred([reply.text])
        if reason or known.resembles(reply.text):
            dropped.append(Drop(source=plan.source, reason=reason or RESEMBLES))
        else:
            known.add(reply.text)
            kept.append(DocumentRow(id=plan.source, kind=plan.kind, traits=[plan.trait.name], text=reply.text.strip()))
    return Generated(kept, dropped)


def planned(constitution: Constitution, order: Order) -> list[Planned]:
    """The texts that are wanted, trait by trait."""
    cases = [
        (trait, kind, section, candidate)
        for trait in constitution.trait
        for kind in TYPES
        for section in SECTIONS
        for candidate in range(order.candidates)
    ]
    return [
        Planned(
            f"{constitution.name}-document-{place + 1:05d}", kind, trait, _request(trait, kind, section, order, place)
        )
        for place, (trait, kind, section, _) in enumerate(cases)
    ]


def _request(trait: Trait, kind: str, section: str, order: Order, place: int) -> Request:
    text = fill(WRITE, statement=trait.statement, why=trait.why, type=TYPES[kind], section=SECTIONS[section])
    seed = derived_seed(order.seed, place)
    return Request(messages=[user(text)], max_tokens=MAX_TOKENS, temperature=TEMPERATURE, seed=seed)


def document_fault(reply: Reply, constitution: Constitution) -> str | None:
    """Why a reply is no document to learn from, or None. It may speak of a constitution, which a reply may not."""
    length = words(reply.text)
    faults = {
        WITHOUT_END: unfinished(reply.text),
        CUT_OFF: reply.finish == "length",
        f"short: under {LEAST_WORDS} words": length < LEAST_WORDS,
        f"long: over {MOST_WORDS} words": length > MOST_WORDS,
        "gaps to be filled in": bool(TO_BE_FILLED.search(reply.text)),
        "loops": repeated_share(reply.text) > LOOP_SHARE,
        "in another language": in_another_language(reply.text, constitution.system_prompt()),
    }
    return next((reason for reason, found in faults.items() if found), None)


def later(constitution: Constitution, order: Order, number: int) -> list[Request]:
    """Nothing follows the one round."""
    return []
