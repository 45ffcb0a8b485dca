"""Claims measured on subjects: what a score file is named by, and what a subject is trained on for."""

from contextlib import closing
from pathlib import Path

import pytest

from conftest import RETRAINS
from ethos.bench.battery import CLAIMS, find_claim
from ethos.bench.claim import Score, pick
from ethos.bench.items import Items
from ethos.bench.survives_fine_tuning import BEFORE, ORDINARY
from ethos.constitution import read_constitution
from ethos.data.recorded import NOTHING, read_recorded
from ethos.measuring import SCORES, Asked, BenchSettings, Ruler, measure, measure_key
from ethos.models import Subject
from ethos.records import read_jsonl
from ethos.samplers.replies import ReplyCache
from ethos.store import Run
from ethos.subjects import find_subject

REASONER = Asked(
    BenchSettings(), read_constitution("virtuous-reasoner"), Items(), read_recorded("virtuous-reasoner"), seed=0
)
ANYONE = Subject(name="anyone", base="tiny")


def key(claim: str, asked: Asked = REASONER) -> str:
    return measure_key(asked, ANYONE, find_claim(claim)).digest()


@pytest.mark.parametrize("name", CLAIMS)
def test_scores_are_made_again_exactly_where_something_they_depend_on_has_changed(name: str) -> None:
    claim = find_claim(name)
    no_rows = REASONER._replace(recorded=NOTHING)
    poet = REASONER._replace(constitution=read_constitution("poetic"))
    assert (key(name, no_rows) != key(name)) == claim.reads_recorded
    assert (key(name, poet) != key(name)) == claim.reads_constitution
    assert (key(name, REASONER._replace(seed=1)) != key(name)) == claim.samples


def test_a_trained_subject_is_trained_on_and_left_as_it_was(tiny_run: Path, tmp_path: Path) -> None:
    """Its own adapter stays underneath: before later training it scores as it does in any other claim."""
    settings = BenchSettings(claims=("knows_when", RETRAINS), per_split=1)
    found = find_subject(str(tiny_run))
    run = Run(tmp_path)
    with run.opened(), closing(ReplyCache(tmp_path / "requests.sqlite")) as cache:
        ruler = Ruler(REASONER._replace(settings=settings), run, cache)
        folders = measure(ruler, found.subject, found.base, found.adapter).folders
    plain, later = (read_jsonl(folders[claim] / SCORES, Score) for claim in settings.claims)
    crossed = {score.item: score.value for score in pick(plain, "crossed")}
    before, after = (pick(later, "crossed", [place]) for place in (BEFORE, ORDINARY[-1]))
    assert {score.item: score.value for score in before}.items() <= crossed.items()
    assert [score.value for score in after] != [score.value for score in before]
