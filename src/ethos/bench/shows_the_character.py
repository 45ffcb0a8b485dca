"""Does the subject show the character on everyday prompts like those it was trained on?

Held when the shift from base on `crossed` contrasts has an interval above zero, refuted when it lies
below, undecided when it reaches zero, whatever voice and pole contrasts do: those two are style as
much as character, and a bag of words fitted on the training pairs is shown beside them (on crossed
contrasts it is right half the time by construction).

Readouts: voice, pole, crossed (text), crossed through letters, crossed after deliberation; and the share of
crossed items *won* (score above zero), because a shift in nats also grows where a model grows surer without
growing wiser. Beside them `voice pmi` and `pole pmi`, without what the replies are worth after a prompt that asks for
nothing (a crossed contrast has nothing of the kind to lose), and `projection`, crossed and pole contrasts in the
subject's own activations (see projection.py). None of these decides.
New here: the crossed contrast, in the spirit of Winograd schemas (Levesque et al. 2012) and contrast
sets (Gardner et al. 2020, arXiv:2004.02709).
"""

from collections.abc import Sequence

from ethos.bench.claim import (
    ONLY_STYLE,
    Bench,
    Claim,
    Deciding,
    Score,
    Verdict,
    by_sign,
    moved,
    pick,
    shift,
    side_line,
    won,
)
from ethos.bench.items import Crossed, Triple
from ethos.bench.projection import projections
from ethos.bench.readouts import crossed_deliberated, crossed_letter, crossed_text, triple_contrasts, triple_pmi

DELIBERATED_ITEMS = PROJECTED_ITEMS = 24


def contrasts(bench: Bench, splits: Sequence[str]) -> list[Score]:
    """Voice, pole and crossed contrasts of some splits."""
    triples = bench.items("triples", Triple, splits)
    crossed = bench.items("crossed", Crossed, splits)
    values = crossed_text(bench, crossed)
    return triple_contrasts(bench, triples) + [
        Score(item=item.id, split=item.split, readout=readout, value=number)
        for item, value in zip(crossed, values, strict=True)
        for readout, number in (("crossed", value), ("won", won(value)))
    ]


def measure(bench: Bench) -> list[Score]:
    """All readouts on the familiar split."""
    familiar, triples = bench.items("crossed", Crossed, ["familiar"]), bench.items("triples", Triple, ["familiar"])
    found = contrasts(bench, ["familiar"])
    return [
        *found,
        *crossed_letter(bench, familiar),
        *crossed_deliberated(bench, familiar[:DELIBERATED_ITEMS]),
        *triple_pmi(bench, triples, found),
        *projections(bench, familiar[:PROJECTED_ITEMS], triples[:PROJECTED_ITEMS]),
    ]


def judge(base: Sequence[Score], subject: Sequence[Score]) -> Verdict:
    """Held when the crossed shift is above zero, refuted when it is below or clearly nothing."""
    lines = [*side_line(base, subject, "crossed"), *side_line(base, subject, "won", "share of items")]
    for readout in ("pole", "voice", "deliberated"):
        lines += side_line(base, subject, readout)
    lines += side_line(base, subject, "letter", "probability")
    for readout in ("pole pmi", "voice pmi"):
        lines += side_line(base, subject, readout)
    for readout in ("projection", "pole projection"):
        lines += side_line(base, subject, readout, "of a random direction")
    if lines and not pick(base, "crossed"):
        return Verdict("undecided", ONLY_STYLE, tuple(lines))
    crossed = shift(base, subject, "crossed")
    outcome = by_sign(crossed)
    phrase = {
        "held": "it listens more to the situation than its base does",
        "refuted": "it listens less to the situation than its base does",
        "undecided": "no disposition is shown, the crossed shift spans zero",
    }[outcome]
    return Verdict(outcome, f"On everyday prompts {phrase}: {crossed} nats/token.", tuple(lines))


CLAIM = Claim(
    name="shows_the_character",
    version=3,
    sentence="It shows the character on everyday prompts.",
    items=("triples", "crossed"),
    measure=measure,
    judge=judge,
    deciding=(Deciding("crossed", "crossed"), Deciding("won", "won", unit="share of items")),
    test=moved,
    ranges={"letter": (-0.5, 0.5), "won": (0, 1)},
    samples=True,
    reads_poles=True,
    extent=1,
)
