"""A manifest that cannot be read says what to do about it."""

from pathlib import Path

import pytest

from ethos.errors import DataError, StoreError
from ethos.manifest import MANIFEST, read_manifest, read_scores


def test_an_unfinished_run_says_how_to_finish_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no finished run here \(no manifest.json\)\nhint: run it to the end first"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"ethos": "9"}', '{"config": {"seed": "one"}}'])
def test_a_damaged_manifest_is_named_with_the_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(StoreError, match=r"manifest.json is damaged or of another version.*\nhint: run the same"):
        read_manifest(tmp_path)


def test_scores_that_were_not_measured_are_named(tiny_run: Path) -> None:
    with pytest.raises(DataError, match="no scores of 'trained' on 'is_kind'"):
        read_scores(tiny_run, read_manifest(tiny_run), "trained", "is_kind")
