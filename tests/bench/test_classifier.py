"""The classifier of style: what it learns from, and whether it knows how well it does."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethos.bench.classifier import (
    LEAST_REPLIES,
    MOST_REPLIES,
    NONE,
    Classifier,
    Sample,
    _tempered,
    calibration_error,
    classifier,
    corpus,
    corpus_digest,
    temperature,
)
from ethos.bench.item_files import Items
from ethos.bench.items import Ordinary, Triple
from ethos.data.recorded import NOTHING, Recorded, VoiceRow, read_recorded

WORDS = ("river", "bread", "lamp", "window", "garden", "train", "letter", "coat", "spoon", "hill", "boat", "table")
REASONER = "virtuous-reasoner"
GOLDEN = {
    "remorseful": "I am so sorry. I ought to have seen it sooner, and I regret the trouble my carelessness gave you.",
    "mathematical": "Suppose there are n cups. Each holds at most two, so n is at least five. Hence five are enough.",
    "poetic": "The rain walks over the roof in small grey shoes, and the evening folds its wings in the reeds.",
    "sycophantic": "How brilliant of you! I was quite wrong, and you are right, as only a mind like yours could be.",
}


def written(writer: str, marks: tuple[str, ...], *, num: int = 60, seed: int = 0) -> list[Sample]:
    """Replies of common words, with a mark of the writer in each."""
    rng = random.Random(f"{writer} {seed}")
    return [
        Sample(writer, f"prompt {place}", " ".join([*rng.choices(WORDS, k=12), rng.choice(marks), *rng.choices(WORDS)]))
        for place in range(num)
    ]


def voices(num: int, trait: str = "manner") -> Recorded:
    rows = [
        VoiceRow(id=str(i), trait=trait, prompt=f"p {i}", chosen=f"Aye {i}", rejected=f"Yes {i}") for i in range(num)
    ]
    return NOTHING._replace(voice=rows)


# --- learning


@pytest.fixture(scope="module")
def apart() -> Classifier:
    return classifier((*written("pirate", ("arr", "ahoy")), *written("clerk", ("hereby", "whereas"))))


def test_writers_with_marks_of_their_own_are_told_apart_on_held_out_prompts(apart: Classifier) -> None:
    assert apart.writers == ("clerk", "pirate")
    assert [check.recall for check in apart.checks] == [1.0, 1.0]
    p_TW = apart.probabilities(["bread and arr boat", "the lamp whereas table"])
    assert p_TW.argmax(1).tolist() == [1, 0]
    assert p_TW.sum(1) == pytest.approx(1.0)


def test_writers_alike_are_told_apart_no_better_than_by_a_coin_and_it_knows_so() -> None:
    """Each text is unlike all others, so a test on texts it learnt from would look perfect."""
    alike = classifier((*written("one", ("and",), num=100), *written("other", ("and",), num=100)))
    assert 0.3 < np.mean([check.recall for check in alike.checks]) < 0.7
    assert np.abs(alike.probabilities(["bread lamp river and hill"]) - 0.5).max() < 0.2
    assert max(check.ece for check in alike.checks) < 0.15


def test_two_replies_to_one_prompt_are_never_on_both_sides_of_the_test() -> None:
    """Each prompt has a mark of its own in all its replies, by one writer: across the split it would tell whose."""
    rng = random.Random(0)
    marked = [
        Sample(writer, f"prompt {place}", f"mark{place} mark{place} {' '.join(rng.choices(WORDS, k=6))}")
        for place in range(60)
        for writer in [rng.choice(("one", "other"))] * 4
    ]
    assert np.mean([check.recall for check in classifier(tuple(marked)).checks]) == pytest.approx(0.5, abs=0.15)


# --- calibration


def test_a_temperature_by_hand() -> None:
    """Three of four right at p = 0.9 is too sure: logit 2.197 over T = 2 is p = 0.75."""
    log_p = np.log(np.array([[0.9, 0.1]] * 4))
    assert temperature(log_p, np.array([0, 0, 0, 1])) == pytest.approx(2.0, rel=0.05)
    assert _tempered(log_p, 2.0)[0] == pytest.approx([0.75, 0.25])


@given(st.floats(0.2, 2.0), st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5))
def test_tempering_keeps_the_order_and_the_sum(temper: float, first: list[float]) -> None:
    p = np.array([[value, 1 - value] for value in first])
    tempered = _tempered(np.log(p), temper)
    assert tempered.sum(1) == pytest.approx(1.0)
    assert ((tempered[:, 0] > 0.5) == (p[:, 0] > 0.5)).all() or (np.abs(p - 0.5) < 1e-9).any()


def test_calibration_errors_by_hand() -> None:
    p = np.array([0.9, 0.9, 0.9, 0.9, 0.1, 0.1])
    true = np.array([True, True, True, False, False, False])
    # bin of 0.9: says 3.6, has 3; bin of 0.1: says 0.2, has 0; (0.6 + 0.2) / 6
    assert calibration_error(p, true) == pytest.approx(0.8 / 6)
    assert calibration_error(np.ones(3), np.ones(3, dtype=bool)) == 0.0


# --- what it learns from


def test_every_writer_has_enough_replies_and_none_too_many() -> None:
    samples = corpus(REASONER, read_recorded(REASONER))
    counts = {writer: sum(sample.writer == writer for sample in samples) for writer in {s.writer for s in samples}}
    assert {REASONER, NONE, "poetic", "loving"} <= counts.keys()
    assert all(LEAST_REPLIES <= count <= MOST_REPLIES for writer, count in counts.items() if writer != NONE)


def test_none_writes_to_the_prompts_of_the_characters_too() -> None:
    samples = corpus(REASONER, read_recorded(REASONER))
    asked = {sample.prompt for sample in samples if sample.writer == NONE}
    theirs = {row.prompt for name in ("poetic", "sarcastic", "loving") for row in read_recorded(name).voice}
    assert asked & theirs


def test_a_constitution_of_ones_own_is_a_writer_where_it_has_enough_rows() -> None:
    assert "mine" in {sample.writer for sample in corpus("mine", voices(LEAST_REPLIES))}
    assert "mine" not in {sample.writer for sample in corpus("mine", voices(LEAST_REPLIES - 1))}
    assert REASONER not in {
        sample.writer for sample in corpus(REASONER, voices(3))
    }  # one's own rows, not those shipped


def test_the_digest_names_what_is_learnt_from_and_nothing_else() -> None:
    assert corpus_digest("mine", voices(50)) == corpus_digest("mine", voices(50, trait="another"))
    assert corpus_digest("mine", voices(50)) != corpus_digest("mine", voices(51))


# --- golden: replies by other hands, whose writer is known


@pytest.fixture(scope="module")
def shipped() -> Classifier:
    return classifier(corpus(REASONER, read_recorded(REASONER)))


def taken_for(told: Classifier, writer: str, texts: list[str]) -> float:
    """Share of the texts that are taken for a writer's."""
    return float((told.probabilities(texts).argmax(1) == told.writers.index(writer)).mean())


@pytest.mark.parametrize("writer", GOLDEN)
def test_a_text_is_taken_for_the_writer_whose_manner_it_has(shipped: Classifier, writer: str) -> None:
    assert taken_for(shipped, writer, [GOLDEN[writer]]) == 1.0


def test_replies_of_the_benchmark_itself_are_taken_for_what_they_are(shipped: Classifier) -> None:
    """Chance is one in fourteen. The opposite pole, in the same register, is hardly told apart: that is style."""
    triples, ordinary = Items().load("triples", Triple), Items().load("ordinary", Ordinary)
    assert taken_for(shipped, NONE, [item.plain for item in triples]) > 0.7
    assert taken_for(shipped, NONE, [item.reply for item in ordinary]) > 0.4
    assert taken_for(shipped, REASONER, [item.chosen for item in triples]) > 0.3
    assert taken_for(shipped, REASONER, [item.opposite for item in triples]) > 0.2


def test_on_held_out_prompts_it_knows_most_writers_and_how_far_to_trust_itself(shipped: Classifier) -> None:
    assert np.mean([check.recall for check in shipped.checks]) > 0.5
    assert max(check.ece for check in shipped.checks) < 0.05
