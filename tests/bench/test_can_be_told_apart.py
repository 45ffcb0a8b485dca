"""Whose writing the subject's replies are taken for."""

import pytest
from hand import around, lines, moved, scores
from test_classifier import written

from conftest import BENCH_SEED
from ethos.bench import can_be_told_apart, writes_coherently
from ethos.bench.can_be_told_apart import CLAIM, _read
from ethos.bench.claim import Bench, Score, pick
from ethos.bench.classifier import LEAST_REPLIES, NONE, classifier
from ethos.constitution import read_constitution
from ethos.data.recorded import read_recorded
from ethos.errors import NothingScored

REASONER = "virtuous-reasoner"


@pytest.fixture(scope="module")
def few(bench: Bench) -> Bench:
    return bench._replace(per_split=3, recorded=read_recorded(REASONER))


def test_every_reply_is_read_once_and_taken_for_one_writer(few: Bench) -> None:
    found = CLAIM.measure(few)
    read = [score for score in found if score.split == "unrelated" and score.value is not None]
    for item in {score.item for score in read}:
        own = [score for score in read if score.item == item]
        assert sum(score.value or 0 for score in own if score.readout != "own") == 1.0
        assert all(0 <= (score.value or 0) <= 1 for score in own)
    assert len(pick(found, "own")) == 3
    assert {score.item for score in pick(found, "recall")} >= {REASONER, NONE, "poetic"}


def test_it_reads_the_replies_that_writes_coherently_reads(few: Bench) -> None:
    assert few.seed == BENCH_SEED
    own, other = (
        pick(claim.measure(few), readout) for claim, readout in ((CLAIM, "own"), (writes_coherently.CLAIM, "words"))
    )
    assert [(score.item, score.text) for score in own] == [(score.item, score.text) for score in other]


def test_a_constitution_with_few_replies_is_unscored_with_the_number_it_needs(few: Bench) -> None:
    found = CLAIM.measure(few._replace(constitution=read_constitution("neutral"), recorded=read_recorded("neutral")))
    assert {score.reason for score in found} == {f"0 recorded replies of neutral, and {LEAST_REPLIES} are needed"}
    with pytest.raises(NothingScored):
        CLAIM.judge(found, found)


def test_an_empty_reply_is_unscored_for_every_writer() -> None:
    told = classifier((*written("pirate", ("arr",)), *written(NONE, ("and",))))
    empty, full = (list(_read(told, "pirate", "one", text)) for text in ("", "bread arr arr lamp"))
    assert [score.readout for score in empty] == [score.readout for score in full] == ["own", "none", "itself"]
    assert {(score.value, score.reason) for score in empty} == {(None, "empty reply")}
    assert {score.readout: score.value for score in full}["itself"] == 1.0


def judged(shift: float) -> can_be_told_apart.Verdict:
    before = [*scores("own", around(0.3)), *scores("none", [1.0] * 30), *scores("as poetic", [0.0] * 30)]
    before += [*scores("itself", [0.0] * 30), *scores("as loving", [0.0] * 30), *scores("recall", [0.5, 0.7])]
    after: list[Score] = moved(before, [*around(shift), *[0.0] * (len(before) - 30)])
    taken = {"as poetic": 3, "as loving": 1}
    after = [
        s.model_copy(update={"value": float(int(s.item.split("-")[1]) < taken[s.readout])}) if s.readout in taken else s
        for s in after
    ]
    return CLAIM.judge(before, after)


@pytest.mark.parametrize(("shift", "outcome"), [(0.2, "held"), (-0.2, "refuted"), (0.0, "undecided")])
def test_the_probability_of_its_own_character_decides(shift: float, outcome: str) -> None:
    verdict = judged(shift)
    assert verdict.outcome == outcome
    assert "style, not disposition" in verdict.sentence


def test_the_character_that_it_is_taken_for_most_is_named() -> None:
    found = lines(judged(0.2))
    assert found["taken for poetic"].estimate.mean == pytest.approx(0.1)
    assert "taken for loving" not in found
    assert found["taken for none"].estimate.mean == 1.0
    assert found["classifier, recall"].estimate.mean == pytest.approx(0.6)
