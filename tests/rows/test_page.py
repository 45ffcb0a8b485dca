"""The page of training rows: text stays text, nothing is loaded, what is coloured is learnt, filters find rows."""

import base64
import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ethos.data.files import PREFERENCES
from ethos.errors import StoreError
from ethos.manifest import read_manifest
from ethos.records import Preference, assistant, read_jsonl, to_jsonl, user
from ethos.rows.page import HERE, HTML, write_page
from ethos.rows.provenance import read_trained

ATTACK = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
LONG = "verylongword" * 40
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a hostile row, its page written."""
    root = Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("page") / "run", symlinks=True))
    hostile = Preference(
        prompt=[user(f"Harbour? {ATTACK}")],
        chosen=[assistant(f"I ask. {ATTACK}")],
        rejected=[assistant(LONG)],
        group="pole:h1",
        kind="pole",
        source="pole:h1",
    )
    with (root / read_manifest(root).stages["data"] / PREFERENCES).open("a") as file:
        file.write(to_jsonl([hostile]))
    write_page(root)
    return root


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return (run / HTML).read_text()


class Reader(HTMLParser):
    """Every tag with its attributes, what is coloured, and the text of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.open = list[tuple[str, dict[str, str | None]]](), list[str]()
        self.texts: dict[str, list[str]] = {"learnt": [], "avoided": [], "script": [], "": []}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        kind = "script" if tag == "script" else str(found.get("class"))
        self.open.append(kind if kind in self.texts else "")
        if self.open[-1]:
            self.texts[kind].append("")
        if tag in ("meta", "input"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        self.open.pop()

    def handle_data(self, data: str) -> None:
        kind = next(filter(None, reversed(self.open)), "")
        if kind:
            self.texts[kind][-1] += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


def opened(page: Path, query: str = "") -> str:
    """The page's elements after Chromium has run it."""
    assert BROWSER
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    return subprocess.run(
        [*command, f"{page.as_uri()}{query}"], capture_output=True, text=True, timeout=120, check=True
    ).stdout


def shown(dom: str) -> list[str]:
    """The sources of the rows that are not hidden."""
    rows = re.findall(r"<article([^>]*)>\s*<p>.*?<code>([^<]*)</code>", dom, re.DOTALL)
    return [source for attributes, source in rows if "hidden" not in attributes]


def test_a_row_that_holds_a_script_is_text(html: str) -> None:
    assert ATTACK not in html
    reader = read(html)
    assert f"I ask. {ATTACK}⏎" in reader.texts["learnt"]
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert "img" not in {tag for tag, _ in reader.tags}


def test_the_policy_names_the_one_script_and_nothing_is_loaded(html: str) -> None:
    reader = read(html)
    (script,) = reader.texts["script"]
    assert script == (HERE / "page.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in html
    loaders = {"src", "href", "srcset", "action", "poster", "background"}
    assert not [(tag, attrs) for tag, attrs in reader.tags if loaders & attrs.keys() or tag in ("link", "iframe")]
    assert not re.search(r"url\(|@import", html)


def test_every_row_and_every_drop_is_there(run: Path, html: str) -> None:
    trained = read_trained(run)
    assert shown(html) == [row.row.source for rows in trained.by_kind for row in rows]
    for drops in trained.dropped.values():
        for drop in drops:
            assert drop.source in html
            assert drop.reason in html


def test_rows_of_a_control_whose_labels_are_swapped_are_marked_each(run: Path, html: str, tmp_path: Path) -> None:
    assert "swapped" not in html
    root = Path(shutil.copytree(run, tmp_path / "copy", symlinks=True))
    path = root / read_manifest(root).stages["data"] / PREFERENCES
    rows = read_jsonl(path, Preference)
    path.write_text(to_jsonl([row.model_copy(update={"swapped": row.kind == "voice"}) for row in rows]))
    marked = write_page(root).read_text()
    assert re.findall(r"<code>([^<]*)</code> · <b>chosen and rejected swapped</b>", marked) == [
        row.source for row in rows if row.kind == "voice"
    ]
    assert "Note: a control: 2 of 11 contrasts have chosen and rejected swapped." in marked


def test_what_is_coloured_is_what_is_learnt(run: Path, html: str) -> None:
    trained, texts = read_trained(run), read(html).texts
    chosen = [each.row.chosen[0].content for each in trained.preferences]
    replies = [
        message.content
        for each in (*trained.conversations, *trained.replay)
        for message in each.row.messages
        if message.role == "assistant"
    ]
    legend, sample = "Green", chosen[0] + "<|im_end|>"
    assert texts["learnt"] == [legend, sample, *(f"{text}⏎" for text in chosen + replies)]
    assert texts["avoided"] == ["purple", *(f"{each.row.rejected[0].content}⏎" for each in trained.preferences)]


def test_equal_files_give_equal_bytes(run: Path, html: str) -> None:
    assert write_page(run) == run / HTML
    assert (run / HTML).read_text() == html


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no finished run"):
        write_page(tmp_path)


@needs_browser
def test_search_and_filters_find_rows_and_no_row_runs(run: Path) -> None:
    rows = read_trained(run).preferences
    found = opened(run / HTML, "#q=HARBOUR%3F+%3Cscript&kind=pole")
    assert shown(found) == ["pole:h1"]
    assert "taken" not in re.findall(r"<title>(.*?)</title>", found)[0]
    assert re.search(r">1 of [\d,]+ rows</output>", found)
    about = next(row.about for row in rows if row.kind == "voice")
    expected = [row.row.source for row in rows if (row.kind, row.about) == ("voice", about)]
    assert shown(opened(run / HTML, f"#kind=voice&about={about}&stage=data")) == expected
    assert shown(opened(run / HTML, "#q=no+row+says+this")) == []


@needs_browser
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(html: str, tmp_path: Path, width: int) -> None:
    unguarded = re.sub(r"<meta http-equiv=[^>]*>", "", html).replace("<details>", "<details open>")
    unguarded = unguarded.replace("content-visibility: auto;", "")  # it would cut off what is too wide
    measure = "parent.postMessage(`${innerWidth}, over by ${root.scrollWidth - root.clientWidth}`, '*')"
    script = f"<script>const root = document.documentElement; {measure}</script>"
    (tmp_path / HTML).write_text(unguarded.replace("</body>", f"{script}</body>"))
    listen = "onmessage = (message) => { document.title = message.data }"
    frame = f"<script>{listen}</script><iframe src={HTML} style='border: 0; width: {width}px'></iframe>"
    (tmp_path / "frame.html").write_text(f"<!doctype html><title></title>{frame}")  # no window is as narrow as a phone
    assert f"<title>{width}, over by 0</title>" in opened(tmp_path / "frame.html")
