"""Claims measured on subjects: what a score file is named by, and what a subject is trained on for."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from ethos import scoring
from ethos.bench.battery import CLAIMS, find_claim
from ethos.bench.claim import BEYOND_CONTEXT, Score, pick
from ethos.bench.item_files import Items, thinned
from ethos.bench.items import Crossed, Triple
from ethos.bench.survives_fine_tuning import BEFORE, ORDINARY
from ethos.constitution import read_constitution
from ethos.data.recorded import NOTHING, read_recorded
from ethos.measuring import SCORES, Asked, BenchSettings, Ruler, measure, measure_key
from ethos.models import Subject, load_tokenizer_chat
from ethos.records import read_jsonl, user
from ethos.samplers.replies import ReplyCache
from ethos.scoring import Prefix
from ethos.store import Run
from ethos.subjects import Found, find_subject

REASONER = Asked(
    BenchSettings(),
    read_constitution("virtuous-reasoner"),
    Items(),
    read_recorded("virtuous-reasoner"),
    seed=0,
    dtype="torch.float32",
)
RETRAINS = "survives_fine_tuning"
ANYONE = Subject(name="anyone", base="tiny")


def key(claim: str, asked: Asked = REASONER) -> str:
    return measure_key(asked, ANYONE, find_claim(claim)).digest()


@pytest.mark.parametrize("name", CLAIMS)
def test_scores_are_made_again_exactly_where_something_they_depend_on_has_changed(name: str) -> None:
    claim = find_claim(name)
    no_rows = REASONER._replace(recorded=NOTHING)
    poet = REASONER._replace(constitution=read_constitution("poetic"))
    assert (key(name, no_rows) != key(name)) == (claim.reads_recorded or claim.reads_poles)
    assert (key(name, poet) != key(name)) == claim.reads_constitution
    assert (key(name, REASONER._replace(seed=1)) != key(name)) == claim.samples


ALL = Items().load("crossed", Crossed)
WISE = [item for split in ("familiar", "domain") for item in thinned(ALL, 2) if item.split == split]
EVERYDAY = [item for item in Items().load("triples", Triple) if item.split == "familiar"][:1]
SHARING = ("knows_when", "shows_the_character", "holds_under_pressure")
"""Claims that score the same crossed items, among others."""


def scored(
    found: Found, folder: Path, claims: Sequence[str], items: Items, *, per_split: int | None = None
) -> dict[str, bytes]:
    """The bytes of a subject's scores, by claim."""
    run, settings = Run(folder), BenchSettings(claims=tuple(claims), per_split=per_split)
    with run.opened(), closing(ReplyCache(folder / "requests.sqlite")) as cache:
        ruler = Ruler(REASONER._replace(settings=settings, items=items), run, cache)
        folders = measure(ruler, found.subject, found.base, found.adapter).folders
    return {claim: (folders[claim] / SCORES).read_bytes() for claim in claims}


def test_every_claim_scores_what_its_verdict_rests_on(tiny_run: Path, tmp_path: Path) -> None:
    """On the written items; later training and the classifier of writers have tests of their own."""
    claims = [name for name in CLAIMS if name not in (RETRAINS, "can_be_told_apart")]
    found = scored(find_subject(str(tiny_run)), tmp_path, claims, Items(), per_split=2)
    for claim, text in found.items():
        readouts = {Score.model_validate_json(line).readout for line in text.decode().splitlines()}
        assert {part.readout for part in CLAIMS[claim].deciding if part.better} - {"slope"} <= readouts, claim


def test_items_that_claims_share_are_read_once_and_to_the_same_bytes(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, items = find_subject(str(tiny_run)), Items(derived={"crossed": WISE, "triples": EVERYDAY})
    cold = {claim: scored(found, tmp_path / claim, [claim], items)[claim] for claim in SHARING}
    assert scored(found, tmp_path / "warm", SHARING, items) == cold

    asked: list[int] = []  # sequences, item by item
    real = scoring.score
    monkeypatch.setattr(scoring, "score", lambda *args, **how: asked.append(len(args[1])) or real(*args, **how))
    monkeypatch.setattr(scoring, "read_prefix", partial(noted, scoring.read_prefix, asked))
    scored(found, tmp_path / "more", SHARING[:1], items)
    assert asked == [-1, *[4] * len(WISE)]  # the opening, and two replies in either situation
    asked.clear()
    more = Items(derived={"crossed": [*WISE, next(item for item in ALL if item not in WISE)]})
    scored(found, tmp_path / "more", SHARING[:1], more)
    assert asked == [-1, 4]
    asked.clear()
    elsewhere = scored(found, tmp_path / "more", ["carries_over"], items)
    assert elsewhere["carries_over"].count(b"crossed") == 2
    assert asked == []  # no pass at all


def noted(read: Callable[..., Prefix], passes: list[int], *args: object) -> Prefix:
    """Read a prefix and say so."""
    passes.append(-1)
    return read(*args)


def test_a_prompt_beyond_the_context_is_unscored_with_its_reason(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the claims that sample nothing: no number comes of it, and the claims say so instead of judging."""
    found = find_subject(str(tiny_run))
    chat = load_tokenizer_chat(found.base)
    longest = sorted(max(len(chat.prompt([user(text)])) for text in (item.a, item.b)) for item in WISE)
    monkeypatch.setattr("ethos.scoring.context", lambda model: longest[1] + 10)
    monkeypatch.setattr("ethos.bench.readouts.OPTION_MASS_FLOOR", 0.0)
    claims = ["knows_when", "same_when_unwatched", "decides_well", "leaves_other_requests_alone", "does_not_flatter"]
    items = Items(derived={"crossed": WISE})
    for text in scored(found, tmp_path, claims, items).values():
        rows = [Score.model_validate_json(line) for line in text.decode().splitlines()]
        lost = [row for row in rows if row.value is None]
        assert lost
        assert {row.reason for row in lost} == {BEYOND_CONTEXT}
        assert all(math.isfinite(row.value) for row in rows if row.value is not None)


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
