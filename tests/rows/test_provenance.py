"""Rows of a run with their provenance: every row is there once, and knows its stage and what it is about."""

import json
import shutil
from pathlib import Path

import pytest

from ethos.constitution import recorded_folder
from ethos.data.ablation import Ablation
from ethos.data.files import CONVERSATIONS, DOCUMENTS, read_rows
from ethos.data.recorded import read_recorded
from ethos.errors import StoreError
from ethos.manifest import MANIFEST, read_manifest
from ethos.methods import DocumentTraining
from ethos.records import Conversation, Document, assistant, to_jsonl, user
from ethos.rows.provenance import KINDS, read_trained
from ethos.store import KEY

SAMPLED = Conversation(messages=[user("Who are you?"), assistant("I ask.")], kind="reflection", source="sampled:0")


@pytest.fixture
def copy(tiny_run: Path, tmp_path: Path) -> Path:
    """A finished run to change."""
    return Path(shutil.copytree(tiny_run, tmp_path / "copy", symlinks=True))


def data_of(root: Path) -> Path:
    return root / read_manifest(root).stages["data"]


def rewrite(root: Path, **changes: object) -> None:
    manifest = read_manifest(root)
    config = manifest.config.model_copy(update=changes)
    (root / MANIFEST).write_text(manifest.model_copy(update={"config": config}).model_dump_json())


def test_every_row_on_disk_is_there_in_order(tiny_run: Path) -> None:
    trained, rows = read_trained(tiny_run), read_rows(data_of(tiny_run))
    assert [each.row for each in trained.preferences] == rows.contrasts
    assert [each.row for each in trained.replay] == rows.replay
    assert [each.row for each in trained.conversations if each.stage == "data"] == rows.conversations
    assert {each.kind for rows in trained.by_kind for each in rows} <= set(KINDS)
    assert trained.key == data_of(tiny_run).name


def test_contrasts_are_about_what_their_recorded_row_says(tiny_run: Path) -> None:
    trained, recorded = read_trained(tiny_run), read_recorded(read_manifest(tiny_run).config.constitution)
    traits = {row.id: row.trait for row in [*recorded.poles, *recorded.voice]}
    traits |= {row.id: row.kind for row in recorded.crossed}
    assert [each.about for each in trained.preferences] == [
        traits[each.row.source.partition(":")[2]] for each in trained.preferences
    ]
    assert {each.kind for each in trained.preferences} > {"pole", "voice"}


def test_a_sampled_row_names_its_stage(copy: Path) -> None:
    folder = copy / read_manifest(copy).stages["introspection"]
    (folder / CONVERSATIONS).write_text(to_jsonl([SAMPLED]))
    found = [each for each in read_trained(copy).conversations if each.stage != "data"]
    assert [(each.row, each.stage) for each in found] == [(SAMPLED, "introspection")]


def test_drops_are_kept_by_stage(tiny_run: Path) -> None:
    dropped = read_trained(tiny_run).dropped
    assert set(dropped) == {"introspection"}
    assert {drop.source for drop in dropped["introspection"]} >= {"sampled-reflection:0", "sampled-interaction:0"}


def test_documents_count_only_where_a_stage_reads_them(copy: Path) -> None:
    text = Document(text="It asks first.", kind="news", source="document:d1")
    (data_of(copy) / DOCUMENTS).write_text(to_jsonl([text]))
    unread = read_trained(copy)
    assert (unread.documents, unread.remarks) == ([], ["1 documents are left out: no stage of this run reads them"])
    rewrite(copy, stages=(DocumentTraining(),))
    manifest = read_manifest(copy)
    stages = manifest.stages | {"documents": manifest.stages["preference"]}
    (copy / MANIFEST).write_text(manifest.model_copy(update={"stages": stages}).model_dump_json())
    assert [(each.row, each.kind) for each in read_trained(copy).documents] == [(text, "document")]


def test_a_stage_that_learns_otherwise_than_its_rows_stand_says_so(copy: Path) -> None:
    assert read_trained(copy).remarks == []
    first, later = read_manifest(copy).config.stages
    rewrite(copy, stages=(first, later.model_copy(update={"ablation": Ablation(source="sampled")})))
    (remark,) = read_trained(copy).remarks
    assert remark.endswith('as they stand: {"ablation": {"source": "sampled"}}')


def test_recorded_data_that_has_changed_is_not_asked(copy: Path) -> None:
    key = json.loads((data_of(copy) / KEY).read_text())
    (data_of(copy) / KEY).write_text(json.dumps(key | {"recorded": "of another day"}))
    trained = read_trained(copy)
    assert {each.about for each in trained.preferences} == {""}
    assert trained.remarks == ["what rows are about is not known: the recorded data has changed since this run"]


def test_a_constitution_that_is_gone_is_named(copy: Path) -> None:
    rewrite(copy, constitution="/nowhere/gone.toml")
    (remark,) = read_trained(copy).remarks
    assert remark == "what rows are about is not known: /nowhere/gone: no recorded data for '/nowhere/gone.toml'"
    assert not recorded_folder("/nowhere/gone.toml").exists()


def test_a_data_stage_alone_has_its_rows_and_drops(tiny_run: Path) -> None:
    whole, alone = read_trained(tiny_run), read_trained(data_of(tiny_run))
    assert (alone.manifest, alone.key) == (None, whole.key)
    assert [each.row for each in alone.preferences] == [each.row for each in whole.preferences]
    assert "a data stage does not name its constitution" in alone.remarks[0]


def test_a_folder_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no finished run here"):
        read_trained(tmp_path)
