"""The study's page: whole, escaped, loading nothing, and readable on a phone."""

import functools
import html as escapes
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from made import WITH_ABILITIES, made_study

from ethos.design import Hypothesis
from ethos.report.study.page import write_study

ATTACK = "<script>alert(1)</script>"
SIX = {
    "sft": 0.03,
    "dpo": 0.12,
    "dpo-introspection": 0.11,
    "documents-dpo": 0.14,
    "self-distillation": 0.0,
    "shuffled-dpo": 0.0,
}
HYPOTHESES = (
    Hypothesis(text=f"Contrasts teach {ATTACK}", better="dpo", than="shuffled-dpo"),
    Hypothesis(text="Any labels do.", better="shuffled-dpo", than="dpo"),
    Hypothesis(text="See for yourself."),
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, plan, states = made_study(
        tmp_path_factory.mktemp("page"),
        SIX,
        claims=WITH_ABILITIES,
        hypotheses=HYPOTHESES,
        constitutions=("kind", "x/Loving One.toml"),
        unfinished=("kind-sft-2",),
        items=12,
    )
    return write_study(root, plan.model_copy(update={"amendments": (f"arm {ATTACK} added",)}), states)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one arm, without abilities."""
    return write_study(*made_study(tmp_path_factory.mktemp("alone"), {"pipeline": 0.2}))


class _Read(HTMLParser):
    """What a reader sees, and every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags = "", list[tuple[str, dict[str, str | None]]]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_order_is_that_of_a_reader(page: Path) -> None:
    text = _Read(page.read_text()).text
    heads = ["Study made", "Plan ", "amended", "kind", "No winner is named", "What was decided before", "✗ refuted"]
    heads += ["What the shift costs", "Every arm and control on every claim", "generalisation ratio"]
    heads += ["What each arm cost", "Dropped and unscored", "Cells that are not finished", "How to read this"]
    places = [text.index(head) for head in heads]
    assert places == sorted(places)
    assert text.index("✗ refuted") < text.index("✓ held") < text.index("– for the reader")
    assert "kind-sft-2" in text[places[-2] :]


def test_what_others_wrote_is_text(page: Path) -> None:
    read = _Read(page.read_text())
    assert ATTACK in read.text
    assert ATTACK not in page.read_text()
    assert "script" not in {tag for tag, _ in read.tags}
    assert "longer | than 512 tokens" in read.text


def test_nothing_is_loaded_from_anywhere(page: Path) -> None:
    loaders = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}
    read = _Read(page.read_text())
    assert not [tag for tag, attrs in read.tags if loaders & attrs.keys() or tag in ("link", "iframe", "object")]
    assert not re.search(r"url\(|@import", page.read_text())
    assert "default-src 'none'" in page.read_text()


def test_figures_say_in_words_what_they_draw_and_no_id_stands_twice(page: Path) -> None:
    tags = _Read(page.read_text()).tags
    images = [attrs for tag, attrs in tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(images) == 2 * 3  # a ranking and two frontiers a constitution
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert all(set((attrs["aria-labelledby"] or "").split()) <= set(ids) for attrs in images)


def test_both_files_hold_the_same_numbers(page: Path) -> None:
    text, markdown = _Read(page.read_text()).text, (page.parent / "study.md").read_text()
    rows = [row.split(" | ") for row in markdown.splitlines() if row.startswith("| `")]
    assert len(rows) == 2 * 18  # every line of six claims but the slope, two constitutions
    for row in rows:
        for cell in row[1:-1]:
            mean, interval = cell.replace("*", "").split(" ", 1)
            assert mean + interval in text


def test_a_study_of_one_arm_is_set_beside_base_and_controls(alone: Path) -> None:
    text = _Read(alone.read_text()).text
    assert "One arm, so no winner is sought. pipeline stands over base +0." in text
    assert "No frontier: keeps its abilities is not among the study's claims" in text
    assert "not amended since" in text
    assert "None: all 3 are." in text
    assert "Every item was scored." in text


def test_equal_files_give_equal_bytes(alone: Path, tmp_path: Path) -> None:
    other = write_study(*made_study(tmp_path, {"pipeline": 0.2}))
    assert other.read_bytes() == alone.read_bytes()
    assert (other.parent / "study.md").read_bytes() == (alone.parent / "study.md").read_bytes()


# --- in a browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FRAME = """<!doctype html><body style="margin:0">
<iframe id="f" src="study.html" style="border:0;width:{width}px;height:2000px"></iframe><pre id="said"></pre><script>
f.onload = () => {{
  const d = f.contentDocument, wide = d.documentElement.clientWidth;
  const out = [...d.querySelectorAll("body *")].filter(e => !e.closest(".scroll, svg, head") &&
    e.getBoundingClientRect().right > wide + 0.5).map(e => e.tagName);
  const labels = [...d.querySelectorAll("svg[role=img] text")].filter(e => {{
    const own = e.getBoundingClientRect(), frame = e.closest("svg").getBoundingClientRect();
    return own.right > frame.right + 1 || own.left < frame.left - 1;
  }}).map(e => e.textContent);
  const small = [...d.querySelectorAll("svg[role=img] text")].map(e =>
    parseFloat(getComputedStyle(e).fontSize) * e.closest("svg").getBoundingClientRect().width / 340);
  said.textContent = JSON.stringify({{page: d.documentElement.scrollWidth, wide, out, labels,
    smallest: Math.min(...small), scrolls: [...d.querySelectorAll(".scroll")].filter(
      e => e.scrollWidth > e.clientWidth).length}});
}};</script>"""


@pytest.fixture
def served(page: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The page behind a local server, beside frames that measure it."""
    shutil.copy(page, tmp_path / "study.html")
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", tmp_path
        server.shutdown()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_its_window_and_its_tables_scroll_in_their_own_box(
    served: tuple[str, Path], tmp_path: Path, width: int
) -> None:
    address, folder = served
    (folder / f"{width}.html").write_text(FRAME.format(width=width))
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--no-first-run", "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'p'}"]
    command += ["--virtual-time-budget=20000", "--window-size=1400,2000", "--dump-dom", f"{address}/{width}.html"]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=240).stdout
    found = re.search(r'<pre id="said">(.+?)</pre>', dumped)
    assert found, dumped[-500:]
    said = json.loads(escapes.unescape(found[1]))
    assert said["page"] == said["wide"] <= width
    assert said["out"] == []  # nothing outside a scrolling box is cut
    assert said["labels"] == []  # no label leaves its figure
    assert said["smallest"] >= 9.5  # pixels
    assert said["scrolls"] >= (4 if width == 360 else 1)
