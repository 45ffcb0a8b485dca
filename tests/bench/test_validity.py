"""The mark of claims that are not known to be reliable."""

from pathlib import Path

import pytest

from ethos.bench import validity as module
from ethos.bench.battery import CLAIMS
from ethos.bench.validity import LEGEND, VALIDITY, LineValidity, Validity, experimental, legend, marked, validity

LINE = LineValidity(
    claim="knows_when",
    version=CLAIMS["knows_when"].version,
    label="crossed",
    unit="nats/token",
    num_items=30,
    num_subjects=9,
    reliability=0.9,
    level_reliability=0.9,
    num_pairs=3,
    false_positives=0.0,
    false_positives_low=0.0,
    false_positives_high=0.97,
    detectable=0.1,
    floor=None,
    ceiling=None,
    groups=(),
    order="ordered",
    neutral="still",
)


def known(**changes: object) -> Validity:
    return Validity(runs=("one",), lines=(LINE.model_copy(update=changes),), biases=())


@pytest.mark.parametrize(
    ("changes", "mark"),
    [
        ({}, False),
        ({"reliability": 0.7}, False),
        ({"reliability": 0.69}, True),
        ({"reliability": None}, True),
        ({"version": LINE.version - 1}, True),
        ({"claim": "carries_over"}, True),
    ],
)
def test_a_claim_is_experimental_until_its_present_version_was_shown_to_be_reliable(
    changes: dict[str, object], mark: bool
) -> None:
    assert experimental("knows_when", known(**changes)) == mark


def test_the_first_line_that_decides_stands_for_the_claim() -> None:
    poor = LINE.model_copy(update={"label": "won", "reliability": 0.1})
    both = Validity(runs=(), lines=(LINE, poor), biases=())
    assert not experimental("knows_when", both)
    assert experimental("knows_when", both.model_copy(update={"lines": (poor, LINE)}))


def test_names_carry_the_mark_and_the_legend_explains_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "validity", known)
    assert marked("knows_when") == "`knows_when` v1"
    assert marked("carries_over") == f"`carries_over` v{CLAIMS['carries_over'].version} (experimental)"
    assert legend(["knows_when"]) == []
    assert legend(["knows_when", "carries_over"]) == [LEGEND]


def test_a_missing_file_knows_nothing_and_a_written_one_is_read(tmp_path: Path) -> None:
    assert validity(tmp_path / "gone.json").lines == ()
    (tmp_path / "there.json").write_text(known().model_dump_json())
    assert validity(tmp_path / "there.json") == known()


def test_the_committed_results_load_and_speak_of_claims_that_there_are() -> None:
    assert {line.claim for line in validity(VALIDITY).lines} <= CLAIMS.keys()
