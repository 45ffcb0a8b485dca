"""The benchmark, benchmarked: what is known of each claim from subjects that are known.

    ethos bench validate out/headline out/quickstart

Enters finished runs and studies; leaves validation.md and validity.json. Nothing is measured, but with `--measure` the
half-strength prompt. The known groups, and what a line that decides a claim must do with them:

    base           no constitution: the zero of every shift
    half prompt    every other trait of the constitution in the system prompt
    full prompt    all of it: the shift must be above zero, and half a prompt's between
    disposition    a run's trained adapter: reported, since whether it worked is not known
    style          adapters trained on voice contrasts alone: style must be seen, crossed contrasts must stay
    shuffled       adapters trained on contrasts whose labels a coin threw: must stay where base is
    neutral        adapters trained on ordinary requests: must stay where base is

Of a claim that something stays as it is, no order is asked. False positives are counted over pairs of neutral subjects
that differ in their training seed alone; n of them make n(n − 1)/2 pairs, which share subjects, so the interval is that
of ⌊n/2⌋ independent ones. Split-half reliability is the correlation over subjects between halves of the items, stepped
up to all items (Spearman 1910; Brown 1910). Subjects that differ more agree more: it speaks of these groups.

Sensitivity is the share of resamples of the items in which the full prompt is seen. Readouts of sampled text meet
oracles that rewrite it (see bench/oracles.py): no text rewritten afterwards can move a log-probability. Readouts of the
same items, the same readout under two seeds of sampling, and derived items beside hand-written ones are correlated.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ethos import models
from ethos.agreement import derived_agree, readouts_agree, retests, score_folder, store_of
from ethos.bench.battery import CLAIMS
from ethos.bench.claim import Claim, Deciding, Score, item_means, pick
from ethos.bench.oracles import planted
from ethos.bench.validity import Bias, GroupShift, LineValidity, Validity
from ethos.benchmark import what_to_ask
from ethos.design import CELLS, PLAN
from ethos.errors import ConfigError, DataError
from ethos.manifest import MANIFEST, Manifest, read_manifest
from ethos.measuring import Ruler, current_scores, measure, measure_key
from ethos.methods import PreferenceTraining, SupervisedTraining
from ethos.models import Subject
from ethos.report.validation import markdown
from ethos.samplers.replies import ReplyCache
from ethos.stats import Estimate, Floats, detectable, over_seeds, p_value, seen_share, share_interval, split_half
from ethos.store import KEY, Run, write_text

MARKDOWN, RESULTS = "validation.md", "validity.json"
BASE, HALF, FULL, DISPOSITION, NEUTRAL = "base", "half prompt", "full prompt", "disposition", "neutral"
STYLE, LABELS = "style", {"shuffled": "shuffled labels", "inverted": "inverted labels"}
GROUPS = {"base": BASE, "prompted": FULL, "neutral": NEUTRAL}
"""Subject of a run → its group; of the trained one it depends on what it learnt."""
GROUPS_SHOWN = (HALF, FULL, DISPOSITION, STYLE, *LABELS.values(), NEUTRAL)
STAYS = (
    "leaves_other_requests_alone",
    "same_when_unwatched",
    "acts_as_it_speaks",
    "values_cohere",
    "answers_inventories",
    "keeps_its_abilities",
    "writes_coherently",
)
"""Claims that something stays as it is, or about a subject alone: a constitution need not move them."""
ORDERS = ("position", "order")
"""Readouts of what the order of options does."""
LEAST_SUBJECTS = 6
"""With fewer subjects a correlation over them says nothing."""
ALPHA, NEAR = 0.05, 0.01
"""NEAR: share of a readout's range that counts as its end."""


class Known(NamedTuple):
    """A measured subject of a known group."""

    group: str
    kind: str
    """Of neutral subjects: the hash of how they were trained, seed aside."""
    digest: str
    scores: Mapping[str, Sequence[Score]]


def validate(folders: Sequence[Path], out: Path, *, measured: bool = False) -> str:
    """Judge every claim by the runs and studies in `folders`; the text is also written to `out`."""
    roots = [root for folder in folders for root in run_folders(folder)]
    manifests = {root: read_manifest(root) for root in roots}
    refuse_mixture(manifests)
    if measured:
        measure_half(roots[0], manifests[roots[0]])
    subjects = known_subjects(manifests)
    refuse_other_items(subjects)
    lines = [
        line
        for claim in CLAIMS.values()
        for part in claim.deciding
        if (line := line_validity(claim, part, subjects)) is not None
    ]
    found = Validity(
        runs=tuple(manifest.config.name for manifest in manifests.values()),
        lines=tuple(lines),
        biases=tuple(biases(base_of(subjects))),
        readouts=tuple(readouts_agree(base_of(subjects).scores, [subject.scores for subject in subjects])),
        retests=tuple(retests(manifests)),
        derived=tuple(derived_agree(manifests, measured=measured)),
        planted=tuple(planted(base_of(subjects).scores)),
    )
    counts = {group: sum(subject.group == group for subject in subjects) for group in (BASE, *GROUPS_SHOWN)}
    text = markdown(found, counts)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / RESULTS, found.model_dump_json(indent=2))
    write_text(out / MARKDOWN, text)
    return text


def run_folders(folder: Path) -> list[Path]:
    """A run's own folder, or the finished cells of a study."""
    if (folder / MANIFEST).exists():
        return [folder]
    cells = sorted(path.parent for path in (folder / CELLS).glob(f"*/{MANIFEST}")) if (folder / PLAN).exists() else []
    if not cells:
        raise DataError(f"{folder}: neither a finished run nor a study with one", hint="run it to the end first")
    return cells


def refuse_mixture(manifests: Mapping[Path, Manifest]) -> None:
    """Refuse runs of different bases, constitutions or items: their subjects cannot stand in one table."""
    asked = [
        {
            "base": manifest.subjects["base"].digest(),
            "constitution": manifest.constitution.digest(),
            "bench.items": manifest.config.bench.items,
            "bench.per_split": str(manifest.config.bench.per_split),
        }
        for manifest in manifests.values()
    ]
    if differ := [what for what in asked[0] if len({each[what] for each in asked}) > 1]:
        raise ConfigError(f"the runs differ in {', '.join(differ)}", hint="validate them apart, one kind at a time")


def known_subjects(manifests: Mapping[Path, Manifest]) -> list[Known]:
    """Every different subject of the runs, in the order found; the half prompt where it was measured."""
    found: dict[str, Known] = {}
    for root, manifest in manifests.items():
        for name, subject in manifest.subjects.items():
            folders = manifest.measured[name].items()
            scores = {claim: current_scores(root / folder, claim) for claim, folder in folders if claim in CLAIMS}
            kind = manifest.config.control.digest() if name == "neutral" else ""
            if name == "trained" and (own := only_replay(manifest)):
                kind = own.digest()
            group = NEUTRAL if kind else trained_group(manifest) if name == "trained" else GROUPS[name]
            found.setdefault(subject.digest(), Known(group, kind, subject.digest(), scores))
        if scores := half_scores(root, manifest):
            half = half_subject(manifest)
            found.setdefault(half.digest(), Known(HALF, "", half.digest(), scores))
    return list(found.values())


def only_replay(manifest: Manifest) -> SupervisedTraining | None:
    """The one stage of a run that learns from ordinary requests alone: a neutral adapter by another name."""
    first = manifest.config.stages[0]
    if len(manifest.config.stages) == 1 and isinstance(first, SupervisedTraining) and first.learns == ("replay",):
        return first
    return None


def trained_group(manifest: Manifest) -> str:
    """What a run's trained subject is known to have learnt."""
    config = manifest.config
    if config.mixture.labels != "recorded":
        return LABELS[config.mixture.labels]
    limits = [stage.contrasts for stage in config.stages if isinstance(stage, PreferenceTraining)]
    alone = len(limits) == len(config.stages)
    crossed = all(0 in (config.mixture.crossed, each.crossed) for each in limits)
    poles = all(0 in (config.mixture.poles, each.poles) for each in limits)
    return STYLE if alone and crossed and poles else DISPOSITION


def half_subject(manifest: Manifest) -> Subject:
    """The base with every other trait in its prompt."""
    prompt = manifest.constitution.halved().system_prompt()
    return manifest.subjects["base"].model_copy(update={"name": "half", "system": prompt})


def half_folders(root: Path, manifest: Manifest) -> dict[str, Path]:
    """Where the half prompt's scores lie, measured or not, beside base's."""
    config = manifest.config
    asked = what_to_ask([str(root)], None, config.bench, config.seed)
    half = half_subject(manifest)
    return {
        claim: score_folder(root, manifest, measure_key(asked, half, CLAIMS[claim]))
        for claim in manifest.measured["base"]
    }


def half_scores(root: Path, manifest: Manifest) -> dict[str, list[Score]]:
    """The half prompt's scores, of the claims that it was measured on."""
    found = half_folders(root, manifest).items()
    return {claim: current_scores(folder, claim) for claim, folder in found if (folder / KEY).exists()}


def measure_half(root: Path, manifest: Manifest) -> None:
    """Measure the half prompt beside a run's other subjects, in the same store."""
    store, config = store_of(root, manifest), manifest.config
    asked = what_to_ask([str(root)], None, config.bench, config.seed)
    run = Run(root, store)
    with run.opened(), closing(ReplyCache(store / "requests.sqlite")) as cache:
        measure(Ruler(asked, run, cache), half_subject(manifest), models.base_folder(config.model), None)


def base_of(subjects: Sequence[Known]) -> Known:
    """The subject that shifts are taken from."""
    return next(subject for subject in subjects if subject.group == BASE)


def refuse_other_items(subjects: Sequence[Known]) -> None:
    """Refuse scores on other items than base's: the benchmark has changed between the runs."""
    base = base_of(subjects)
    for subject in subjects:
        for claim in subject.scores.keys() & base.scores.keys():
            places = [{(s.item, s.split, s.readout) for s in who.scores[claim]} for who in (base, subject)]
            if places[0] != places[1]:
                raise DataError(f"{claim}: subjects were scored on different items", hint="run the older one again")


def line_validity(claim: Claim, part: Deciding, subjects: Sequence[Known]) -> LineValidity | None:
    """What the known subjects say of one line; None where base, or all but one item, has no number on it."""
    values = {subject.digest: item_means(subject.scores.get(claim.name, ()), part) for subject in subjects}
    there = [subject for subject in subjects if values[subject.digest]]
    items = sorted(set.intersection(*(set(values[subject.digest]) for subject in there))) if there else []
    if len(items) < 2 or there[0].group != BASE:
        return None
    level_SI = np.array([[values[subject.digest][item] for item in items] for subject in there])
    shift_SI = level_SI - level_SI[0]
    groups = {
        group: over_seeds(shift_SI[[subject.group == group for subject in there]])
        for group in GROUPS_SHOWN
        if any(subject.group == group for subject in there)
    }
    enough = len(there) >= LEAST_SUBJECTS
    nulls = null_comparisons(there, level_SI)
    floor, ceiling = ends(level_SI, claim.ranges.get(part.readout))
    low, high = share_interval(nulls.rejected, nulls.num_independent)
    return LineValidity(
        claim=claim.name,
        version=claim.version,
        label=part.label,
        unit=part.unit,
        num_items=len(items),
        num_subjects=len(there),
        reliability=split_half(shift_SI[1:]) if enough else None,
        level_reliability=split_half(level_SI) if enough else None,
        num_pairs=nulls.num_pairs,
        false_positives=nulls.rejected if nulls.num_pairs else None,
        false_positives_low=low,
        false_positives_high=high,
        detectable=smallest_shift(there, shift_SI),
        floor=floor,
        ceiling=ceiling,
        groups=tuple(group_shift(name, found, there) for name, found in groups.items()),
        order=order_of(claim, part, groups),
        neutral=stillness(groups.get(NEUTRAL)),
        style=stillness(groups.get(STYLE)),
        shuffled=stillness(groups.get(LABELS["shuffled"])),
        sensitivity=sensitivity(claim, part, there, shift_SI),
    )


class Nulls(NamedTuple):
    """Comparisons of subjects that differ by chance alone."""

    num_pairs: int
    rejected: float
    """Share of them with p < `ALPHA`."""
    num_independent: int
    """Pairs that share no subject."""


def null_comparisons(subjects: Sequence[Known], level_SI: Floats) -> Nulls:
    """Every two neutral subjects of one kind, compared as a subject is with base."""
    kinds: dict[str, list[int]] = {}
    for row, subject in enumerate(subjects):
        if subject.kind:
            kinds.setdefault(subject.kind, []).append(row)
    pairs = [pair for rows in kinds.values() for pair in combinations(rows, 2)]
    rejected = [p_value((level_SI[one] - level_SI[other]).tolist()) < ALPHA for one, other in pairs]
    num_independent = sum(len(rows) // 2 for rows in kinds.values())
    return Nulls(len(pairs), float(np.mean(rejected)) if pairs else 0.0, num_independent)


def ends(level_SI: Floats, span: tuple[float, float] | None) -> tuple[float | None, float | None]:
    """Share of items on which every subject stands at the lowest, and at the highest, value that there is."""
    if span is None:
        return None, None
    near = NEAR * (span[1] - span[0])
    return float((level_SI <= span[0] + near).all(0).mean()), float((level_SI >= span[1] - near).all(0).mean())


def smallest_shift(subjects: Sequence[Known], shift_SI: Floats) -> float | None:
    """The shift seen with 80 % power, from the spread over items of the trained subjects' shifts, or the prompt's."""
    for group in (DISPOSITION, FULL):
        rows_SI = shift_SI[[subject.group == group for subject in subjects]]
        if len(rows_SI) and (spread := float(rows_SI.std(axis=1, ddof=1).mean())) > 0:
            return detectable(spread, shift_SI.shape[1])
    return None


def sensitivity(claim: Claim, part: Deciding, subjects: Sequence[Known], shift_SI: Floats) -> float | None:
    """How surely the full prompt is seen on so many items; None where it is not asked to be."""
    rows = [row for row, subject in enumerate(subjects) if subject.group == FULL]
    if not rows or claim.name in STAYS or part.better is None:
        return None
    sign = -1.0 if part.better == "lower" else 1.0
    return seen_share((sign * shift_SI[rows].mean(0)).tolist())


def group_shift(name: str, found: Estimate, subjects: Sequence[Known]) -> GroupShift:
    """A group's mean shift, as it is written down."""
    low, high = (None if math.isinf(end) else end for end in (found.low, found.high))
    num = sum(subject.group == name for subject in subjects)
    return GroupShift(group=name, num_subjects=num, mean=found.mean, low=low, high=high)


def order_of(claim: Claim, part: Deciding, groups: Mapping[str, Estimate]) -> str:
    """Whether a constitution in the prompt moves the line the better way, and half of it less."""
    if claim.name in STAYS or part.better is None:
        return "none asked"
    if FULL not in groups:
        return "no prompt measured"
    sign = -1.0 if part.better == "lower" else 1.0
    full = sorted(sign * end for end in (groups[FULL].low, groups[FULL].high))
    if full[0] <= 0:
        return "reversed" if full[1] < 0 else "not shown"
    if HALF not in groups:
        return "full over none"
    return "ordered" if 0 <= sign * groups[HALF].mean <= sign * groups[FULL].mean else "half out of order"


def stillness(found: Estimate | None) -> str:
    """Whether the subjects of a group stay where base is, as far as the interval tells."""
    if found is None:
        return "none measured"
    return "moves" if found.excludes_zero else "still"


def biases(base: Known) -> list[Bias]:
    """Base's mean on every readout of the order of options."""
    found = []
    for claim, scores in base.scores.items():
        for readout in ORDERS:
            values = [score.value for score in pick(scores, readout) if score.value is not None]
            if values:
                found.append(Bias(claim=claim, readout=readout, mean=float(np.mean(values)), num_items=len(values)))
    return found
