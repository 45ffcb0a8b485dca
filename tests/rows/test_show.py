"""What `ethos.rows.show` says of a control's labels."""

import shutil
from pathlib import Path

import pytest

from ethos.manifest import MANIFEST, read_manifest
from ethos.records import Preference, assistant, read_jsonl, to_jsonl, user
from ethos.rows.show import labels_told, show_run


def row(group: str, *, swapped: bool) -> Preference:
    return Preference(
        prompt=[user("?")],
        chosen=[assistant("a")],
        rejected=[assistant("b")],
        group=group,
        kind="crossed",
        source=group,
        swapped=swapped,
    )


def test_contrasts_are_counted_not_rows() -> None:
    rows = [row("x", swapped=True), row("x", swapped=True), row("y", swapped=False), row("z", swapped=False)]
    assert labels_told("shuffled", rows) == "labels shuffled: 1 of 3 contrasts have chosen and rejected swapped"


def test_swapped_rows_are_marked(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(shutil.copytree(tiny_run, tmp_path / "copy", symlinks=True))
    manifest = read_manifest(root)
    mixture = manifest.config.mixture.model_copy(update={"labels": "shuffled"})
    config = manifest.config.model_copy(update={"mixture": mixture})
    (root / MANIFEST).write_text(manifest.model_copy(update={"config": config}).model_dump_json())
    path = root / manifest.stages["data"] / "preferences.jsonl"
    rows = read_jsonl(path, Preference)
    path.write_text(to_jsonl([each.model_copy(update={"swapped": each.kind == "pole"}) for each in rows]))
    show_run(root, limit=1)
    shown = capsys.readouterr().out
    assert "labels shuffled: 2 of 10 contrasts" in shown
    assert shown.count("chosen and rejected swapped") == 1 + 1  # the head, and the one pole row that is shown
