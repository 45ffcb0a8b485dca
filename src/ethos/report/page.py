"""The report's two files: a finished run folder enters, `report.html` and `report.md` leave.

The page is one file that loads nothing: style and figures are inline, there is no script, and a
policy in its head forbids both network and scripts, so a reply that holds markup stays text twice
over (Jinja2's autoescape is the first time).
"""

from pathlib import Path

from ethos.bench import validity
from ethos.bench.claim import Line
from ethos.manifest import BASE, TRAINED
from ethos.pages import environment
from ethos.report import figures
from ethos.report.findings import Finding
from ethos.report.markdown import markdown
from ethos.report.summary import Summary, summarise
from ethos.stats import signed
from ethos.store import explained, write_text

HTML, MARKDOWN = "report.html", "report.md"
SHOWN_TRANSCRIPTS = 6
"""Transcripts open on the page; the rest is one click away."""


def write_report(root: Path) -> Path:
    """Write both files of a finished run; return the page's path."""
    summary = summarise(root)
    with explained(root):
        write_text(root / MARKDOWN, markdown(summary))
        write_text(root / HTML, page(summary))
    return root / HTML


def page(summary: Summary) -> str:
    """The page as HTML. Everything but our own figures is escaped."""
    return render(
        "page.html.jinja",
        s=summary,
        config=summary.manifest.config,
        constitution=summary.manifest.constitution,
        experimental=validity.MARK,
        marks=validity.legend(summary.claims),
        base=BASE,
        trained=TRAINED,
        claims=summary.claims,
        found=by_claim(summary),
        rows=verdict_rows(summary),
        figures=figures,
        shown=SHOWN_TRANSCRIPTS,
    )


def render(template: str, **values: object) -> str:
    """A template of this folder, filled: every value that is not `Markup` is escaped."""
    templates = environment(Path(__file__).parent)
    templates.tests["experimental"] = validity.experimental
    templates.filters |= {
        "duration": duration,
        "words": words,
        "total": total,
        "signed": signed,
        "version": validity.version,
    }
    return templates.get_template(template).render(values)


def by_claim(summary: Summary) -> dict[str, dict[str, Finding]]:
    """Claim → subject → finding, as the table reads them."""
    return {
        claim: {name: next(f for f in summary.findings[name] if f.claim == claim) for name in summary.subjects}
        for claim in summary.claims
    }


def verdict_rows(summary: Summary) -> dict[str, dict[str, dict[str, Line]]]:
    """Claim → line's label → subject → line: what lies behind each verdict."""
    rows: dict[str, dict[str, dict[str, Line]]] = {}
    for claim, findings in by_claim(summary).items():
        rows[claim] = {}
        for subject, finding in findings.items():
            for line in finding.verdict.lines if finding.verdict else ():
                rows[claim].setdefault(line.label, {})[subject] = line
    return rows


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return "not recorded"
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def words(name: str) -> str:
    """A claim's or stage's name in words."""
    return name.replace("_", " ")


def total(seconds: list[tuple[str, float | None]]) -> float:
    """Seconds of all artefacts together, as far as they were recorded."""
    return sum(value for _, value in seconds if value is not None)
