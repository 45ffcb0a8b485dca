"""`report.md`: the headline for terminals and pull requests. A summary enters, text leaves.

It holds the table, the verdict sentences, the controls, the counts and the paths; figures and
transcripts are on the page beside it.
"""

from collections.abc import Iterator, Sequence

from ethos.bench.battery import CLAIMS
from ethos.bench.claim import Line
from ethos.bench.validity import legend, marked
from ethos.data.preferences import Labels
from ethos.manifest import BASE, TRAINED
from ethos.pages import bullets, plain, table
from ethos.report.contrasts import Comparison
from ethos.report.findings import Finding
from ethos.report.summary import Summary


def markdown(summary: Summary) -> str:
    """The whole file."""
    config = summary.manifest.config
    parts = [
        f"# {plain(summary.manifest.constitution.name)} in {plain(config.model)}",
        summary.overall,
        *_control_told(config.mixture.labels),
        "## Claims",
        table(["claim", *_heads(summary)], [_row(summary, claim) for claim in summary.claims]),
        *_left_out(summary),
        *([summary.manifest.items_note] if summary.manifest.items_note else []),
        "Cells: outcome, then shifts from base with 95 % intervals on what decides the claim; base: its own level.",
        *legend(summary.claims),
        f"## Verdicts on the {TRAINED} model",
        bullets(f"**{f.outcome}** `{f.claim}`: {plain(f.sentence)}{_chance(f)}" for f in summary.trained),
        "## Against the controls",
        table(
            ["crossed contrast", "control", "trained − control, nats/token", "so"],
            [_compared(row) for row in summary.comparisons],
        ),
        *_teachers(summary),
        "## Dropped and unscored",
        bullets(_losses(summary)),
        "## Files",
        bullets(_files(summary)),
    ]
    return "\n\n".join(parts) + "\n"


def _control_told(labels: Labels) -> list[str]:
    return [f"**A control**: its contrasts have {labels} labels."] if labels != "recorded" else []


def _teachers(summary: Summary) -> list[str]:
    """What was known of the teachers before they taught, where it could be measured."""
    if not summary.gaps:
        return []
    return ["## Teachers before training", bullets(f"{stage}: {gap}" for stage, gap in summary.gaps)]


def _left_out(summary: Summary) -> list[str]:
    """The claims that the run did not ask for."""
    names = [f"`{claim}`" for claim in CLAIMS if claim not in summary.claims]
    return [f"Not asked for in this run: {', '.join(names)}."] if names else []


def _heads(summary: Summary) -> list[str]:
    return [*summary.subjects, BASE]


def _row(summary: Summary, claim: str) -> list[str]:
    """One claim over all subjects, the trained one first."""
    found = {name: next(f for f in summary.findings[name] if f.claim == claim) for name in summary.subjects}
    return [marked(claim), *(_cell(found[name]) for name in summary.subjects), _lines(summary.levels[claim])]


def _cell(finding: Finding) -> str:
    return f"**{finding.outcome}**<br>{_lines(finding.deciding) if finding.verdict else plain(finding.reason)}"


def _lines(lines: Sequence[Line]) -> str:
    return "<br>".join(f"{line.label} {line.estimate} {line.unit}" for line in lines)


def _chance(finding: Finding) -> str:
    return f" ({finding.chance})" if finding.chance else ""


def _compared(row: Comparison) -> list[str]:
    return [row.contrast, row.control, str(row.estimate or ""), row.word]


def _losses(summary: Summary) -> Iterator[str]:
    """Rows kept and dropped by stage, then unscored items of every subject."""
    yield from (f"{count.stage}: {count.num_rows} {count.what} kept" for count in summary.kept)
    yield from (f"{count.stage}: {count.num_rows} dropped, {plain(count.what)}" for count in summary.dropped)
    if not summary.dropped:
        yield "no row was dropped"
    yield from (f"{finding.subject}, `{finding.claim}`: {plain(str(part))}" for finding, part in summary.unscored)
    if not summary.unscored:
        yield "no item was left unscored"


def _files(summary: Summary) -> Iterator[str]:
    """Where everything lies, relative to the run folder."""
    yield "report: `report.html`"
    yield "configuration, versions, hardware: `manifest.json`"
    yield from (f"{name}: `{folder}/`" for name, folder in sorted(summary.manifest.stages.items()))
    yield "scores: `measured/<claim>/<digest>/scores.jsonl`, by subject in `manifest.json`"
