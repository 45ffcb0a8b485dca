"""`study.md`: the page's tables for terminals and pull requests. A summary enters, text leaves."""

from collections.abc import Iterator

from ethos.bench.validity import legend, marked
from ethos.pages import bullets, plain, table
from ethos.report.page import duration
from ethos.report.study.comparing import SAME, SEEN, Judged, told
from ethos.report.study.costs import Cost, Unscored
from ethos.report.study.summary import Character, Row, StudySummary
from ethos.stats import signed


def markdown(summary: StudySummary) -> str:
    """The whole report."""
    study, plan = summary.plan.study, summary.plan
    parts = [
        f"# Study {study.name}",
        f"{summary.num_finished} of {len(summary.states)} cells finished: {len(study.arms)} arms ×"
        f" {len(study.constitutions)} constitutions × {len(study.seeds)} seeds. Primary claim:"
        f" `{study.primary.claim}` ({study.primary.line.label}); differences below {study.smallest_effect:g} would"
        f" not matter. Plan {plan.digest()}.",
    ]
    if plan.amendments:
        parts += ["## Amended after the plan was written", bullets(map(plain, plan.amendments))]
    for character in summary.characters:
        parts += _character(character)
    if summary.left_out:
        told = ", ".join(f"`{claim}` {label}" for claim, label in summary.left_out)
        parts.append(f"In no row, since they are no mean over items or were not measured: {told}.")
    if summary.unfinished:
        parts += ["## Cells that are not finished", bullets(f"{is_}: {which}" for is_, which in summary.unfinished)]
    parts.append(
        "Shifts: mean over seeds and items, with a 95 % interval over both (with one seed, over items alone); items:"
        " how many every seed scored. **Bold**: the interval spares zero. `prompted` has the constitution in its"
        " prompt, `neutral` is an equal adapter trained on ordinary requests. Figures: `study.html`."
    )
    return "\n\n".join([*parts, *legend(study.common.bench.claims)]) + "\n"


def _character(found: Character) -> list[str]:
    """One constitution, in the order of the page."""
    sentence = plain(found.winner.sentence)
    heads = ["line", *found.columns, "items"]
    return [
        f"## {plain(found.name)}",
        f"**{sentence}**" if found.winner.arm else sentence,
        *([plain(found.items_note)] if found.items_note else []),
        *[f"**{', '.join(map(plain, arms))}** {SAME}" for arms in found.alike],
        "### Expected",
        bullets(map(_expected, found.judged)) if found.judged else "Nothing but what others found.",
        *_reproduced(found.claimed),
        "### Shift from base",
        table(heads, [_row(row, found.columns) for row in (*found.rows, *found.beside)]),
        *_by_trait(found),
        *[
            f"Seeds of {name}, dealt at random to arms that do not exist, make a winner in {rate:.0%} of studies."
            for name, rate in found.by_luck
        ],
        "### Cost",
        table(
            ["arm", "stages", "rows", "seeds", "tokens spent", "generated", "positions", "training time", "FLOPs"],
            [_cost(cost) for cost in found.costs],
        ),
        "Cells ran on " + "; ".join(f"{plain(machine)}: {number}" for machine, number in found.machines) + ".",
        "### Dropped and unscored",
        bullets(_losses(found)),
    ]


def _expected(found: Judged) -> str:
    detail = f" ({told(found)})" if found.hypothesis.better else ""
    return f"**{found.outcome}**: {plain(found.hypothesis.text)}{detail}"


def _reproduced(found: list[Judged]) -> list[str]:
    """What others found, beside what was seen here."""
    if not found:
        return []
    rows = [
        [plain(each.hypothesis.text), plain(each.hypothesis.claimed_by or ""), SEEN[each.outcome], told(each)]
        for each in found
    ]
    return ["### Claimed elsewhere, seen here", table(["claimed", "by", "seen here", "how much"], rows)]


def _by_trait(found: Character) -> list[str]:
    if not found.traits:
        return []
    heads = ["line", *found.columns, "items"]
    return ["### Traits demonstrated and held out", table(heads, [_row(row, found.columns) for row in found.traits])]


def _row(row: Row, columns: list[str]) -> list[str]:
    """One line: its claim, label and unit first."""
    head = " ".join(filter(None, (marked(row.claim) if row.claim else "", f"{plain(row.label)}, {row.unit}")))
    return [head, *(_cell(row, name) for name in columns), row.num_items]


def _cell(row: Row, name: str) -> str:
    mean, interval = row.told(name)
    return f"**{mean}** {interval}" if row.shows(name) else f"{mean} {interval}".strip()


def _cost(cost: Cost) -> list[str]:
    flops = f"{cost.flops:.1e}" if cost.flops else "–"
    counts = [f"{count:,.0f}" for count in (cost.spent, cost.generated, cost.positions)]
    return [cost.arm, " → ".join(cost.stages), cost.rows, str(cost.num_seeds), *counts, duration(cost.seconds), flops]


def _losses(found: Character) -> Iterator[str]:
    """Rows dropped, then items without a score."""
    for lost in found.dropped:
        counts = ", ".join(map(str, lost.num_rows))
        yield f"{', '.join(lost.arms)}; {lost.stage}: {counts} rows (a number a seed) dropped, {plain(lost.reason)}"
    if not found.dropped:
        yield "no row was dropped"
    yield from map(_unscored, found.unscored)
    if not found.unscored:
        yield "no item was left unscored"


def _unscored(lost: Unscored) -> str:
    reasons = "; ".join(f"{plain(why)}: {count}" for why, count in lost.reasons)
    told = f"{lost.name}, `{lost.claim}` {lost.readout}: {lost.num_unscored} of {lost.num_values} unscored ({reasons})"
    if lost.bounds is None:
        return told
    low, high = map(signed, lost.bounds)
    return f"{told}; with them at either extreme the mean shift lies between {low} and {high}"
