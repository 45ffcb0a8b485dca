"""A study as text and tables: what was decided before, what came out, refuted hypotheses first.

Enters a study's folder with its plan and finished cells. Every shift is paired with the cell's own base on the same
items; intervals resample training seeds and items together. A winner is named only where it beats every other arm
after Holm's correction; else the report says how many items would have settled the closest comparison.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ethos.bench.battery import CLAIMS
from ethos.bench.claim import Deciding, item_means, pick
from ethos.bench.validity import legend, marked
from ethos.errors import DataError
from ethos.manifest import Manifest, read_manifest, read_scores
from ethos.pages import bullets, plain, table
from ethos.records import read_jsonl, read_text
from ethos.report.summary import BASE, NEUTRAL, TRAINED
from ethos.stats import Floats, holm, items_needed, over_seeds, over_seeds_p
from ethos.store import TIMING, write_text
from ethos.study import CELLS, Cell, Hypothesis, Plan, cells, finished, read_plan
from ethos.train.fit import LOG
from ethos.train.loop import Step

MARKDOWN, RESULTS = "study.md", "results.csv"
CONTROL = "neutral control"
ALPHA = 0.05


class Done(NamedTuple):
    """A finished cell."""

    cell: Cell
    root: Path
    manifest: Manifest


Shifts = Mapping[tuple[str, int], Mapping[str, float]]
"""(arm, seed) → item → shift from base on one deciding line."""


def write_study(root: Path) -> Path:
    """`study.md` and `results.csv` from what is finished; the path of the first."""
    plan = read_plan(root)
    done = [
        Done(cell, folder, read_manifest(folder))
        for cell in cells(plan.study)
        if finished(root, cell)
        for folder in [root / CELLS / cell.name]
    ]
    if not done:
        raise DataError(f"{root}: no cell is finished yet", hint="run the study first: ethos study run FILE")
    write_text(root / RESULTS, results_csv(done))
    write_text(root / MARKDOWN, markdown(plan, done))
    return root / MARKDOWN


def markdown(plan: Plan, done: Sequence[Done]) -> str:
    """The whole report."""
    study = plan.study
    parts = [
        f"# Study {study.name}",
        f"{len(done)} of {len(cells(study))} cells finished: {len(study.arms)} arms ×"
        f" {len(study.constitutions)} constitutions"
        f" × {len(study.seeds)} seeds. Primary claim: `{study.primary}`; differences below {study.smallest_effect:g}"
        f" would not matter. Plan {plan.digest()}.",
    ]
    if plan.amendments:
        parts += ["## Amended after the plan was written", bullets(map(plain, plan.amendments))]
    for constitution, group in groupby(sorted(done, key=lambda d: d.cell.constitution), lambda d: d.cell.constitution):
        own = list(group)
        part = CLAIMS[study.primary].deciding[0]
        gains = better_up(line_shifts(own, study.primary, part), part)
        names = [arm.name for arm in study.arms]
        parts += [f"## {plain(Path(constitution).stem)}", winner(gains, names)]
        parts += ["### Expected", bullets(judged(plan, gains))]
        parts += ["### Shift from base", table(*shift_table(own, plan)), "### Cost", table(*cost_table(own))]
    parts.append(
        "Cells: mean shift from base over seeds and items, with a 95 % interval over both (with one seed, over items"
        " alone), and how many items every seed scored. Control: the neutral adapter."
    )
    parts += legend(study.common.bench.claims)
    return "\n\n".join(parts) + "\n"


def line_shifts(done: Sequence[Done], claim: str, part: Deciding) -> dict[tuple[str, int], dict[str, float]]:
    """The shifts of every arm, and of the neutral control, on one deciding line."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for each in done:
        base = _values(each, BASE, claim, part)
        for arm, subject in ((each.cell.arm, TRAINED), (CONTROL, NEUTRAL)):
            after = _values(each, subject, claim, part)
            found[arm, each.cell.seed] = {item: after[item] - base[item] for item in base if item in after}
    return found


def _values(done: Done, subject: str, claim: str, part: Deciding) -> dict[str, float]:
    """Item → its mean value, of the items that have one."""
    return item_means(read_scores(done.root, done.manifest, subject, claim), part)


def better_up(shifts: Shifts, part: Deciding) -> Shifts:
    """The shifts with the better direction upwards."""
    sign = -1.0 if part.better == "lower" else 1.0
    return {key: {item: sign * value for item, value in found.items()} for key, found in shifts.items()}


def grid(shifts: Shifts, arms: Sequence[str]) -> list[Floats]:
    """(seeds, items) of each arm, over the seeds and items that all of them have."""
    seeds = sorted(set.intersection(*({seed for arm, seed in shifts if arm == name} for name in arms)))
    items = sorted(set.intersection(*(set(shifts[arm, seed]) for arm in arms for seed in seeds))) if seeds else []
    return [np.array([[shifts[arm, seed][item] for item in items] for seed in seeds]) for arm in arms]


def difference(shifts: Shifts, one: str, other: str) -> Floats | None:
    """(seeds, items) of one arm minus another, or of its shift where the other is the base; None: no common cell."""
    if other == BASE:
        (shift,) = grid(shifts, [one])
        return shift if shift.size else None
    first, second = grid(shifts, [one, other])
    return first - second if first.size else None


def winner(gains: Shifts, arms: Sequence[str]) -> str:
    """The arm that beats every other on the seeds and items that all have, or why there is none."""
    if len(arms) < 2:
        return "One arm: nothing is compared."
    missing = [arm for arm in arms if not any(name == arm for name, _ in gains)]
    grids = {} if missing else dict(zip(arms, grid(gains, arms), strict=True))
    if missing or not next(iter(grids.values())).size:
        return f"No winner is named yet: {', '.join(missing) or 'the arms'} lack finished cells in common."
    best = max(arms, key=lambda arm: float(grids[arm].mean()))
    gaps = {arm: grids[best] - grids[arm] for arm in arms if arm != best}
    if len(grids[best]) < 2:
        return f"No winner is named: one training seed says nothing of others ({best} is ahead on it)."
    adjusted = dict(zip(gaps, holm([over_seeds_p(gap) for gap in gaps.values()]), strict=True))
    close = [arm for arm, p in adjusted.items() if p >= ALPHA]
    if not close:
        return f"**{best}** is ahead of every other arm (Holm-corrected p at most {max(adjusted.values()):.3f})."
    nearest = min(close, key=lambda arm: abs(float(gaps[arm].mean())))
    return f"No winner is named: {best} is not clearly ahead of {', '.join(close)}.{_settling(gaps[nearest], nearest)}"


def _settling(gap_SI: Floats, arm: str) -> str:
    """What would settle a comparison, were the difference what it seems: more seeds, or so many items."""
    mean, num_seeds, num_items = float(gap_SI.mean()), *gap_SI.shape
    if not mean or num_items < 2:
        return ""
    by_item = gap_SI.mean(0)
    needed = items_needed(float(by_item.std(ddof=1)), abs(mean))
    if needed <= num_items:
        return f" Against {arm}, more training seeds would settle it: the {num_seeds} differ too much."
    return f" Against {arm}, {needed:,} items would settle it, if the difference is as it seems and seeds agree."


def judged(plan: Plan, shifts: Shifts) -> Iterator[str]:
    """Every hypothesis with its outcome, the refuted ones first."""
    order = ("refuted", "undecided", "held", "for the reader")
    verdicts = [(h, *_verdict(h, shifts, plan.study.smallest_effect)) for h in plan.study.hypotheses]
    for hypothesis, outcome, detail in sorted(verdicts, key=lambda row: order.index(row[1])):
        yield f"**{outcome}**: {plain(hypothesis.text)}{f' ({detail})' if detail else ''}"


def _verdict(hypothesis: Hypothesis, shifts: Shifts, smallest: float) -> tuple[str, str]:
    """Held above zero, though perhaps by less than would matter; refuted where even the upper end would not matter."""
    if hypothesis.better is None or hypothesis.than is None:
        return "for the reader", ""
    gap = difference(shifts, hypothesis.better, hypothesis.than)
    if gap is None:
        return "undecided", "no common cells yet"
    found = over_seeds(gap)
    small = ", less than would matter" if found.low > 0 and found.high < smallest else ""
    outcome = "held" if found.low > 0 else "refuted" if found.high < smallest else "undecided"
    return outcome, f"{hypothesis.better} − {hypothesis.than}: {found}{small}"


def shift_table(done: Sequence[Done], plan: Plan) -> tuple[list[str], list[list[str]]]:
    """A row an arm, a column for the first deciding line of each claim."""
    claims = plan.study.common.bench.claims
    columns = {claim: line_shifts(done, claim, part) for claim in claims for part in _first_scored(done, claim)}
    arms = list(dict.fromkeys([each.cell.arm for each in done] + [CONTROL]))
    rows = [[arm, *(_cell(columns[claim], arm) for claim in columns)] for arm in arms]
    return ["arm", *map(marked, columns)], rows


def _first_scored(done: Sequence[Done], claim: str) -> list[Deciding]:
    """The first deciding line that is made of scores of its own (a slope or a correlation is not)."""
    parts = [part for part in CLAIMS[claim].deciding if _values(done[0], BASE, claim, part)]
    return parts[:1]


def _cell(shifts: Shifts, arm: str) -> str:
    (values,) = grid(shifts, [arm])
    return str(over_seeds(values)) if values.size else "–"


def cost_table(done: Sequence[Done]) -> tuple[list[str], list[list[str]]]:
    """Means over seeds: trie positions trained on, seconds, and KL to base on neutral prose where it was measured."""
    rows = []
    for arm in dict.fromkeys(each.cell.arm for each in done):
        own = [each for each in done if each.cell.arm == arm]
        kls = [kl for each in own if (kl := _kl(each)) is not None]
        told = f"{np.mean(kls):.3f}" if kls else "–"
        tokens, seconds = (np.mean([measure(each) for each in own]) for measure in (_tokens, _seconds))
        rows.append([arm, str(len(own)), f"{tokens:,.0f}", f"{seconds:,.0f}", told])
    return ["arm", "seeds", "training positions", "training seconds", "KL to base, nats/token"], rows


def _stage_folders(done: Done) -> list[Path]:
    return [done.root / done.manifest.stages[name] for name in done.manifest.config.named_stages]


def _tokens(done: Done) -> int:
    return sum(step.tokens for folder in _stage_folders(done) for step in read_jsonl(folder / LOG, Step))


def _seconds(done: Done) -> float:
    return sum(float(json.loads(read_text(folder / TIMING))["seconds"]) for folder in _stage_folders(done))


def _kl(done: Done) -> float | None:
    claim = "keeps_its_abilities"
    if claim not in done.manifest.measured[TRAINED]:
        return None
    return float(np.mean([s.value for s in pick(read_scores(done.root, done.manifest, TRAINED, claim), "kl")]))


def results_csv(done: Sequence[Done]) -> str:
    """Every score of every finished cell, a row a score: for whoever wants to compute otherwise."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["constitution", "arm", "seed", "subject", "claim", "readout", "split", "item", "value", "reason"])
    for each in done:
        for subject, claims in each.manifest.measured.items():
            for claim in claims:
                for s in read_scores(each.root, each.manifest, subject, claim):
                    where = [each.cell.constitution, each.cell.arm, each.cell.seed, subject, claim]
                    writer.writerow([*where, s.readout, s.split, s.item, "" if s.value is None else s.value, s.reason])
    return out.getvalue()
