"""Oracles: rewritten by a fixed rule, and seen by the readouts that must see them."""

from ethos.bench.claim import Score
from ethos.bench.oracles import parrot, pirate, planted, stutterer

REPLIES = (
    "You could call your sister and ask how she is. Then wait a day.",
    "Start with the hardest part. Write for ten minutes and stop.",
    "My advice is simple. Water the tomatoes in the morning. Yes, every day.",
    "Congratulations! Ask when you begin. Read what they send you.",
    "Walk to the river, then back. The lamps are lit by nine.",
    "Order something. Your guests are friends and will laugh.",
)


def test_a_pirate_by_hand() -> None:
    assert pirate("Is your friend here? Yes. You are late.") == "Arr! be yer matey here? aye. Aye, matey. ye be late."
    assert pirate("") == ""


def test_a_stutterer_by_hand() -> None:
    assert stutterer("Go home. Sleep well!") == "Go home. Go home. Sleep well! Sleep well!"


def test_every_oracle_is_seen_by_whom_it_must_be_and_by_nobody_else() -> None:
    scores = [
        Score(item=str(i), split="unrelated", readout=readout, value=0.0, text=text)
        for i, text in enumerate(REPLIES)
        for readout in ("relevance", "repetition")
    ]
    found = list(planted({"writes_coherently": scores}))
    assert [(p.oracle, p.readout, p.must) for p in found] == [
        ("pirate", "as pirate", "rise"),
        ("pirate", "repetition", "stay"),
        ("stutterer", "repetition", "rise"),
        ("stutterer", "words", "rise"),
        ("parrot", "distinct", "fall"),
    ]
    assert [p.found for p in found] == [p.must for p in found]
    assert found[0].before < 0.5 < found[0].after
    assert found[2].before == 0 < 0.1 < found[2].after
    assert found[3].after == 2 * found[3].before
    assert found[4].after < 1 / len(REPLIES) + 0.01 < 0.8 < found[4].before


def test_a_parrot_by_hand() -> None:
    assert parrot(["One.", "Two.", "Three."]) == ["One."] * 3


def test_without_sampled_replies_nothing_is_planted() -> None:
    assert list(planted({})) == []
