"""A study's two files: `study.html`, which loads nothing and is read from top to bottom, and `study.md`."""

from collections.abc import Sequence
from pathlib import Path

from ethos.bench.validity import legend
from ethos.design import Cell, Plan, State, slug
from ethos.report.page import render
from ethos.report.study.comparing import SAME, SEEN, told
from ethos.report.study.drawing import MOST_NAMED, frontier, ranking
from ethos.report.study.markdown import markdown
from ethos.report.study.summary import StudySummary, summarise_study
from ethos.store import explained, write_text

HTML, MARKDOWN = "study.html", "study.md"


def write_study(root: Path, plan: Plan, states: Sequence[tuple[Cell, State]]) -> Path:
    """Write both files from what is finished; return the page's path."""
    summary = summarise_study(root, plan, states)
    with explained(root):
        write_text(root / MARKDOWN, markdown(summary))
        write_text(root / HTML, page(summary))
    return root / HTML


def page(summary: StudySummary) -> str:
    """The page as HTML. Everything but our own figures is escaped."""
    study = summary.plan.study
    return render(
        "study.html.jinja",
        s=summary,
        study=study,
        primary=study.primary.line,
        frontier=frontier,
        ranking=ranking,
        most_named=MOST_NAMED,
        slug=slug,
        told=told,
        seen=SEEN,
        same=SAME,
        legend=legend(study.common.bench.claims),
    )
