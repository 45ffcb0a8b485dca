"""What the pages and tables that ethos writes share: one HTML environment, one style, Markdown that stays as it is.

A page is one file that loads nothing. Jinja2's autoescape makes text of whatever it is given, and a policy in the
page's head forbids the network and every script but its own.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

STYLE = Path(__file__).parent
"""The folder of `style.css`: colours, type and tables of every page."""


def environment(templates: Path) -> Environment:
    """Templates of one folder, beside the shared style. Everything is escaped; an unknown name is an error."""
    return Environment(
        loader=FileSystemLoader([templates, STYLE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def plain(text: str) -> str:
    """Text that Markdown and HTML leave as it is: one line, no cell borders, no tags."""
    return re.sub(r"\s+", " ", text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def bullets(lines: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {line}" for line in lines)
