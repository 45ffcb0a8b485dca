"""Two ways to one number, and how far they agree.

    readouts    the same items by text, by PMI, by letter, after deliberation, in activations: over items of base, over
                subjects' mean shifts
    retest      the same items sampled with another seed: over items of one subject
    derived     derived items and hand-written ones: over subjects' mean shifts. Only runs on derived items count, since
                their held-out rows were kept from training; the hand-written ones are then measured on their subjects

A correlation of fewer than `LEAST` items or subjects is left out, and so is one where either side does not vary.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path
from statistics import fmean

import numpy as np

from ethos import models
from ethos.bench.battery import CLAIMS
from ethos.bench.claim import Deciding, Score, item_means
from ethos.bench.validity import Agreement
from ethos.benchmark import what_to_ask
from ethos.manifest import BASE, NEUTRAL, TRAINED, Manifest
from ethos.measuring import Asked, MeasureKey, Ruler, current_scores, measure, measure_key
from ethos.samplers.replies import ReplyCache
from ethos.store import KEY, Run

ALIKE = (
    ("shows_the_character", ("crossed", "letter", "deliberated", "projection")),
    ("shows_the_character", ("pole", "pole pmi", "pole projection")),
    ("shows_the_character", ("voice", "voice pmi")),
    ("decides_well", ("margin", "pmi", "letter")),
)
"""Readouts of one claim that answer the same question about the same items."""
BOTH = ("knows_when", "shows_the_character", "carries_over")
"""Claims whose items may be derived or hand-written."""
LEAST = 6
ITEMS_OF_BASE, SUBJECTS = "items of base", "subjects' shifts"

ByClaim = Mapping[str, Sequence[Score]]


def correlated(
    one: Mapping[str, float], other: Mapping[str, float], *, claim: str, names: tuple[str, str], over: str
) -> Iterator[Agreement]:
    """The correlation over what both sides have."""
    both = sorted(one.keys() & other.keys())
    x, y = (np.array([side[name] for name in both]) for side in (one, other))
    if len(both) >= LEAST and np.ptp(x) > 0 and np.ptp(y) > 0:
        r = float(np.corrcoef(x, y)[0, 1])
        yield Agreement(claim=claim, one=names[0], other=names[1], over=over, correlation=r, num=len(both))


def readouts_agree(base: ByClaim, subjects: Sequence[ByClaim]) -> Iterator[Agreement]:
    """Every two readouts of the same items."""
    for claim, readouts in ALIKE:
        for names in combinations(readouts, 2):
            parts = [Deciding(name, name) for name in names]
            one, other = (item_means(base.get(claim, ()), part) for part in parts)
            yield from correlated(one, other, claim=claim, names=names, over=ITEMS_OF_BASE)
            shifts = [_shifts(base, subjects, claim, part) for part in parts]
            yield from correlated(*shifts, claim=claim, names=names, over=SUBJECTS)


def _shifts(base: ByClaim, subjects: Sequence[ByClaim], claim: str, part: Deciding) -> dict[str, float]:
    """Mean shift of every subject but base, on the items that both have."""
    before = item_means(base.get(claim, ()), part)
    found = {}
    for place, subject in enumerate(subjects):
        after = item_means(subject.get(claim, ()), part)
        if subject is not base and (common := before.keys() & after.keys()):
            found[str(place)] = fmean(after[item] - before[item] for item in sorted(common))
    return found


def retests(manifests: Mapping[Path, Manifest]) -> Iterator[Agreement]:
    """What base's sampled readouts say of the items under two seeds, the first two that there are."""
    for claim in CLAIMS.values():
        folders = {
            (root / manifest.measured[BASE][claim.name]).resolve(): None
            for root, manifest in manifests.items()
            if claim.samples and claim.name in manifest.measured[BASE]
        }
        if len(folders) < 2:
            continue
        first, second = (current_scores(folder, claim.name) for folder in list(folders)[:2])
        for readout in dict.fromkeys(score.readout for score in first):
            one, other = (item_means(scores, Deciding(readout, readout)) for scores in (first, second))
            if one != other:  # what is not sampled comes out the same
                names = (readout, "again")
                yield from correlated(one, other, claim=claim.name, names=names, over=ITEMS_OF_BASE)


def derived_agree(manifests: Mapping[Path, Manifest], *, measured: bool) -> Iterator[Agreement]:
    """Derived items beside hand-written ones, on the subjects of runs on derived items; `measured` measures the latter
    where they are missing."""
    runs = {root: manifest for root, manifest in manifests.items() if manifest.config.bench.items == "derived"}
    tables: dict[str, dict[str, ByClaim]] = {"derived": {}, "written": {}}
    bases: set[str] = set()
    for root, manifest in runs.items():
        asked = _written(root, manifest)
        if measured and asked:
            _measure(root, manifest, asked)
        for name, subject in manifest.subjects.items():
            own = manifest.measured[name]
            derived = {claim: root / own[claim] for claim in BOTH if claim in own}
            tables["derived"][subject.digest()] = _read(derived)
            keys = {claim: measure_key(asked, subject, CLAIMS[claim]) for claim in derived} if asked else {}
            tables["written"][subject.digest()] = _read(
                {claim: score_folder(root, manifest, key) for claim, key in keys.items()}
            )
            bases |= {subject.digest()} if name == BASE else set()
    for base in bases:
        for claim in BOTH:
            part = CLAIMS[claim].deciding[0]
            shifts = [_shifts(table[base], list(table.values()), claim, part) for table in tables.values()]
            yield from correlated(*shifts, claim=claim, names=("derived", "written"), over=SUBJECTS)


def _written(root: Path, manifest: Manifest) -> Asked | None:
    """The hand-written items of a run's constitution, those to tune on first; None where nobody wrote any."""
    for kind in ("development", "sealed"):
        claims = tuple(claim for claim in BOTH if claim in manifest.config.bench.claims)
        settings = manifest.config.bench.model_copy(update={"items": kind, "claims": claims})
        asked = what_to_ask([str(root)], None, settings, manifest.config.seed)
        if not asked.items.derived and not asked.items.missing(("crossed", "triples")):
            return asked
    return None


def _measure(root: Path, manifest: Manifest, asked: Asked) -> None:
    """Measure every subject of a run on other items, in the same store."""
    store, base = store_of(root, manifest), models.base_folder(manifest.config.model)
    adapters = {TRAINED: root / "adapter", NEUTRAL: root / manifest.stages.get(NEUTRAL, "")}
    run = Run(root, store)
    with run.opened(), closing(ReplyCache(store / "requests.sqlite")) as cache:
        for name, subject in manifest.subjects.items():
            measure(Ruler(asked, run, cache), subject, base, adapters.get(name))


def _read(folders: Mapping[str, Path]) -> ByClaim:
    """Scores of the claims that were measured."""
    return {claim: current_scores(folder, claim) for claim, folder in folders.items() if (folder / KEY).exists()}


def store_of(root: Path, manifest: Manifest) -> Path:
    """Where a run keeps its artefacts: its own folder, or its study's store."""
    return (root / next(iter(manifest.measured[BASE].values()))).resolve().parents[2]


def score_folder(root: Path, manifest: Manifest, key: MeasureKey) -> Path:
    """Where the scores of a key lie, measured or not: beside base's on the same claim."""
    return (root / manifest.measured[BASE][key.claim]).resolve().parent / key.digest()
