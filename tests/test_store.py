"""The run folder: an artefact is there whole or not at all, and one process owns it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ethos.errors import StoreError
from ethos.records import Drop
from ethos.store import KEY, TIMING, Run, read_seconds, seconds_kept, write_bytes, write_text

KEY_A, KEY_B = Drop(source="a", reason=""), Drop(source="b", reason="")


def writes(text: str, calls: list[Path] | None = None) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        if calls is not None:
            calls.append(folder)
        write_text(folder / "rows.jsonl", text)

    return make


def test_an_artefact_is_made_once_and_found_afterwards(tmp_path: Path) -> None:
    calls: list[Path] = []
    first = Run(tmp_path).stage("data", KEY_A, writes("one", calls))
    run = Run(tmp_path)
    again = run.stage("data", KEY_A, writes("two", calls))
    assert again == first
    assert (again / "rows.jsonl").read_text() == "one"
    assert len(calls) == 1
    assert run.made == []


def test_another_key_is_another_artefact(tmp_path: Path) -> None:
    run = Run(tmp_path)
    one, other = run.stage("data", KEY_A, writes("one")), run.stage("data", KEY_B, writes("two"))
    assert one != other
    assert [(folder / "rows.jsonl").read_text() for folder in (one, other)] == ["one", "two"]
    assert run.made == ["data", "data"]


def test_an_artefact_lies_under_the_digest_of_its_key_and_holds_the_key(tmp_path: Path) -> None:
    folder = Run(tmp_path).stage("data", KEY_A, writes("one"))
    assert folder == tmp_path / "data" / KEY_A.digest()
    assert json.loads((folder / KEY).read_text()) == {"source": "a", "reason": ""}
    assert json.loads((folder / TIMING).read_text())["seconds"] >= 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(["rows.jsonl", KEY, TIMING])


def test_equal_makes_differ_in_their_timing_alone(tmp_path: Path) -> None:
    one, other = (Run(tmp_path / name).stage("data", KEY_A, writes("same")) for name in ("one", "other"))
    for name in ("rows.jsonl", KEY):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_a_failed_stage_leaves_its_partial_folder_and_goes_on_from_it(tmp_path: Path) -> None:
    run = Run(tmp_path)

    def fails_halfway(folder: Path) -> None:
        write_text(folder / "half.txt", "half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run.stage("data", KEY_A, fails_halfway)
    partial = tmp_path / "data" / f"{KEY_A.digest()}.partial"
    assert (partial / "half.txt").read_text() == "half"
    assert not run.has("data", KEY_A)
    assert run.made == []

    def goes_on(folder: Path) -> None:
        write_text(folder / "rows.jsonl", (folder / "half.txt").read_text() + " and half")

    folder = run.stage("data", KEY_A, goes_on)
    assert (folder / "rows.jsonl").read_text() == "half and half"
    assert run.has("data", KEY_A)
    assert not partial.exists()


def test_the_seconds_of_a_resumed_stage_add_up_to_what_its_parts_kept(tmp_path: Path) -> None:
    run = Run(tmp_path)

    def half(folder: Path) -> None:
        write_text(folder / "checkpoint.txt", "half")
        os.utime(folder / "checkpoint.txt", ns=(0, (folder / TIMING).stat().st_mtime_ns + 40_000_000_000))
        raise RuntimeError("power cut")

    for parts in (1, 2):
        with pytest.raises(RuntimeError, match="power cut"):
            run.stage("data", KEY_A, half)
        assert round(seconds_kept(tmp_path / "data" / f"{KEY_A.digest()}.partial")) == 40 * parts
    folder = run.stage("data", KEY_A, writes("whole"))
    assert 80 <= (read_seconds(folder) or 0) < 90


def test_an_artefact_killed_just_before_its_renaming_is_not_made_again(tmp_path: Path) -> None:
    run, calls = Run(tmp_path), list[Path]()
    folder = run.stage("data", KEY_A, writes("one", calls))
    folder.rename(folder.with_name(f"{folder.name}.partial"))
    assert Run(tmp_path).stage("data", KEY_A, writes("two", calls)) == folder
    assert (folder / "rows.jsonl").read_text() == "one"
    assert len(calls) == 1


def test_a_folder_without_its_key_does_not_count_as_made(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.folder("data", KEY_A).mkdir(parents=True)
    (run.folder("data", KEY_A) / "rows.jsonl").write_text("torso")
    folder = run.stage("data", KEY_A, writes("whole"))
    assert (folder / "rows.jsonl").read_text() == "whole"


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    write_text(tmp_path / "file.txt", "old")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(OSError, match=r"folder\.txt"):
        write_bytes(tmp_path / "folder.txt", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.txt", "folder.txt"]
    write_text(tmp_path / "file.txt", "new")
    assert (tmp_path / "file.txt").read_text() == "new"


HOLDER = """
import sys
from pathlib import Path
from ethos.store import Run
with Run(Path(sys.argv[1])).opened():
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run folder until it reads a line."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_until_the_first_is_done(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(StoreError, match="in use by another ethos process") as caught, Run(tmp_path / "run").opened():
        pass
    assert "hint: wait for it, or choose another folder" in str(caught.value)
    holder.communicate("\n")
    with Run(tmp_path / "run").opened() as run:
        assert run.root == tmp_path / "run"


def test_a_killed_process_leaves_the_folder_free(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    with Run(tmp_path / "run").opened() as run:
        run.stage("data", KEY_A, writes("one"))


def test_other_folders_are_free_while_one_is_held(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert holder.poll() is None
    with Run(tmp_path / "other").opened() as run:
        assert run.root.is_dir()


def mount(place: Path, options: str) -> bool:
    """Whether a tmpfs could be mounted, or remounted, there."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or not mount(place, "size=1m"):
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_is_said_and_earlier_artefacts_survive(small_disk: Path) -> None:
    run = Run(small_disk / "run")
    earlier = run.stage("data", KEY_A, writes("x" * 100_000))
    with pytest.raises(StoreError, match="no space left") as caught:
        run.stage("data", KEY_B, writes("y" * 2_000_000))
    assert "finished stages are kept" in str(caught.value)
    assert (earlier / "rows.jsonl").read_text() == "x" * 100_000
    assert run.has("data", KEY_A)
    assert not run.has("data", KEY_B)
    assert not list((small_disk / "run").rglob(".rows.jsonl*"))

    assert mount(small_disk, "remount,size=8m")  # the user frees some space and runs the same command again
    again = Run(small_disk / "run")
    again.stage("data", KEY_A, writes("never made"))
    later = again.stage("data", KEY_B, writes("y" * 2_000_000))
    assert again.made == ["data"]
    assert (later / "rows.jsonl").stat().st_size == 2_000_000


def test_a_disk_that_turns_read_only_is_said(small_disk: Path) -> None:
    run = Run(small_disk / "run")
    earlier = run.stage("data", KEY_A, writes("one"))
    assert mount(small_disk, "remount,ro")
    with pytest.raises(StoreError, match="Read-only") as caught:
        run.stage("data", KEY_B, writes("two"))
    assert "--out" in str(caught.value)
    assert (earlier / "rows.jsonl").read_text() == "one"


@pytest.mark.skipif(os.geteuid() == 0, reason="root is not refused by permissions")
def test_a_folder_without_permission_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="cannot write"), Run(tmp_path / "run").opened():
        pass


def test_a_file_where_the_run_folder_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(StoreError, match="--out"), Run(tmp_path / "run").opened():
        pass


def test_a_file_above_the_run_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(StoreError, match="--out"), Run(tmp_path / "file" / "run").opened():
        pass


def test_a_link_to_an_artefact_moves_with_the_run_folder(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.link("adapter", run.stage("data", KEY_A, writes("one")))
    run.link("adapter", run.stage("data", KEY_B, writes("two")))
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert (moved / "adapter" / "rows.jsonl").read_text() == "two"


def test_a_link_to_something_outside_is_absolute(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "run").mkdir()
    Run(tmp_path / "run").link("base", tmp_path / "base")
    assert (tmp_path / "run" / "base").readlink() == (tmp_path / "base").resolve()
