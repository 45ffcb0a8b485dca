"""Subjects by name."""

from pathlib import Path

import pytest

from ethos import models
from ethos.constitution import read_constitution
from ethos.errors import ModelError
from ethos.manifest import read_manifest
from ethos.subjects import find_subject


def test_a_run_an_adapter_and_a_model_are_found_by_their_folders(tiny_run: Path, worded_base: Path) -> None:
    by_run, by_adapter = find_subject(str(tiny_run)), find_subject(str((tiny_run / "adapter").resolve()))
    trained = read_manifest(tiny_run).subjects["trained"]
    assert by_run.subject.digest() == trained.digest()
    assert by_adapter.subject.adapter == trained.adapter
    model = find_subject(str(worded_base))
    assert (model.subject.base, model.adapter, model.base) == (models.base_digest(worded_base), None, worded_base)
    assert by_run.without_character().subject.digest() == model.subject.digest()


def test_prompted_needs_a_constitution(monkeypatch: pytest.MonkeyPatch, tiny_base: Path) -> None:
    monkeypatch.setattr(models, "base_folder", lambda model: tiny_base)
    constitution = read_constitution("loving")
    prompted = find_subject("prompted", constitution)
    assert prompted.subject.system == constitution.system_prompt()
    assert prompted.without_character().subject.digest() == find_subject("base").subject.digest()
    with pytest.raises(ModelError, match="no subject at 'prompted'\nhint: give 'base'"):
        find_subject("prompted")


def test_an_unknown_subject_says_what_there_could_be(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a finished run's folder"):
        find_subject(str(tmp_path))
