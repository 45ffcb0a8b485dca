"""Every training row on one page: a finished run's folder enters, `data.html` leaves.

The page is one file that loads nothing. Its only script is ours, named by its hash in the policy of the page's head:
a row that holds a script is text, and would not run if it were not.
"""

import base64
import hashlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from ethos.pages import environment
from ethos.records import read_text
from ethos.rows.provenance import DATA, KINDS
from ethos.rows.tally import SeenRun, abouts, read_seen, refusals, tally
from ethos.store import explained, write_text

HTML = "data.html"
HERE = Path(__file__).parent


class Option(NamedTuple):
    """One choice of a filter."""

    value: str
    told: str
    num_rows: int


def write_page(root: Path) -> Path:
    """Write the page of a finished run into its folder; return its path."""
    run = read_seen(root)
    with explained(root):
        write_text(root / HTML, page(run))
    return root / HTML


def page(run: SeenRun) -> str:
    """The page as HTML. Everything but our own script is escaped."""
    script = read_text(HERE / "page.js")
    template = environment(HERE).get_template("page.html.jinja")
    return template.render(
        run=run,
        constitution=run.manifest.constitution,
        config=run.manifest.config,
        recorded=DATA,
        kinds=KINDS,
        lines=tally(run.rows),
        refusals=refusals(run.trained),
        sample=run.sample,
        options=options(run),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def options(run: SeenRun) -> dict[str, list[Option]]:
    """What each filter offers."""
    kinds, stages = (Counter(names) for names in zip(*((row.kind, row.stage) for row, _ in run.rows), strict=True))
    return {
        "kind": [Option(name, name, count) for name, count in kinds.items()],
        "about": [Option(name, name, counts.total()) for name, counts in abouts(run.trained).items()],
        "stage": [Option(name, "recorded" if name == DATA else name, count) for name, count in stages.items()],
    }
