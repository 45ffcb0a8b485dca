"""Characters planted in text: what a readout of sampled replies must see, and what it must not.

An oracle rewrites base's own replies by a fixed rule, so the answer is known:

    pirate      a manner, told in every sentence: the style classifier must see it, repetition must not
    stutterer   every sentence said twice: repetition and length must see it
    parrot      every reply is the first one: distinctness must fall, repetition within a reply has nothing to see

The classifier of `can_be_told_apart` learns `pirate` from recorded ordinary replies rewritten by the same rule, beside
those replies as they are; base's replies answer prompts that it did not learn from. Nothing here runs a model.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from ethos.bench.claim import Score
from ethos.bench.classifier import NONE, classifier, corpus
from ethos.bench.validity import Planted
from ethos.bench.writes_coherently import distinctness
from ethos.data.filters import repeated_share
from ethos.data.recorded import NOTHING
from ethos.stats import p_value

PIRATE = "pirate"
MANNER = (
    (r"\byou\b", "ye"),
    (r"\byour\b", "yer"),
    (r"\bmy\b", "me"),
    (r"\bis\b", "be"),
    (r"\bare\b", "be"),
    (r"\byes\b", "aye"),
    (r"\bfriends?\b", "matey"),
    (r"\bhello\b", "ahoy"),
)
CRIES = ("Arr!", "Aye, matey.", "Shiver me timbers!")
ALPHA = 0.05


def pirate(text: str) -> str:
    """The same in a pirate's mouth: his words for common ones, and a cry before every other sentence."""
    for pattern, word in MANNER:
        text = re.sub(pattern, word, text, flags=re.IGNORECASE)
    said = _sentences(text)
    return " ".join(f"{CRIES[n // 2 % len(CRIES)]} {part}" if n % 2 == 0 else part for n, part in enumerate(said))


def stutterer(text: str) -> str:
    """The same with every sentence said twice."""
    return " ".join(part for part in _sentences(text) for _ in range(2))


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.!?])\s+", text.strip()) if part]


def planted(base: Mapping[str, Sequence[Score]]) -> Iterator[Planted]:
    """What the oracles do to base's open replies; nothing where none were sampled."""
    texts = {score.item: score.text for score in base.get("writes_coherently", ()) if score.text}
    plain = list(texts.values())
    if len(plain) < 2:
        return
    turned, twice = [pirate(text) for text in plain], [stutterer(text) for text in plain]
    yield _compared(PIRATE, "can_be_told_apart", f"as {PIRATE}", (_taken(plain), _taken(turned)), "rise")
    before = [repeated_share(text) for text in plain]
    for oracle, rewritten, must in ((PIRATE, turned, "stay"), ("stutterer", twice, "rise")):
        after = [repeated_share(text) for text in rewritten]
        yield _compared(oracle, "writes_coherently", "repetition", (before, after), must)
    lengths = [[float(len(text.split())) for text in texts] for texts in (plain, twice)]
    yield _compared("stutterer", "writes_coherently", "words", (lengths[0], lengths[1]), "rise")
    apart, alike = (_distinct(texts) for texts in (plain, parrot(plain)))
    yield _compared("parrot", "writes_coherently", "distinct", (apart, alike), "fall")


def parrot(texts: Sequence[str]) -> list[str]:
    """As many replies, all of them the first."""
    return [texts[0]] * len(texts)


def _distinct(texts: Sequence[str]) -> list[float]:
    """Distinctness of every text; one without two words repeats nobody."""
    return [1.0 if value is None else value for value in distinctness(texts)]


def _taken(texts: Sequence[str]) -> list[float]:
    """Probability of each text being the pirate's."""
    plain = tuple(sample for sample in corpus("", NOTHING) if sample.writer == NONE)
    told = classifier((*plain, *(sample._replace(writer=PIRATE, text=pirate(sample.text)) for sample in plain)))
    return [float(p) for p in told.probabilities(list(texts))[:, told.writers.index(PIRATE)]]


def _compared(
    oracle: str, claim: str, readout: str, sides: tuple[Sequence[float], Sequence[float]], must: str
) -> Planted:
    before, after = sides
    gaps = [late - early for early, late in zip(before, after, strict=True)]
    moves = "rise" if fmean(gaps) > 0 else "fall"
    found = moves if p_value(gaps) < ALPHA else "stay"
    return Planted(
        oracle=oracle, claim=claim, readout=readout, before=fmean(before), after=fmean(after), must=must, found=found
    )
