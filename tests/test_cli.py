"""The command line: verbs answer at once, a user's mistake prints bare and exits 2."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from ethos.bench.battery import CLAIMS
from ethos.bench.claim import Claim
from ethos.cli import main
from ethos.store import Run

SOURCE = Path(__file__).parent.parent / "src"
VERBS = ("run", "report", "chat", "doctor", "constitution", "claim", "data")


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    error: str


@pytest.fixture
def ethos(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The console entry in this process: a bug would escape as its own exception and fail the test."""

    def call(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["ethos", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
        out, error = capfd.readouterr()
        return Said(code, out, error)

    return call


Ethos = Callable[..., Said]


def process(*command: str) -> subprocess.CompletedProcess[str]:
    """A command in a fresh interpreter, as a shell would start it."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300)


def refused(said: Said, *fragments: str) -> None:
    assert said.code == 2, said
    assert "Traceback" not in said.error
    assert said.error.count("error: ") == 1
    for fragment in fragments:
        assert fragment in said.error


@pytest.fixture
def run_file(tiny_toml: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run file, to break at will."""
    return Path(shutil.copy(tiny_toml, tmp_path / "run.toml"))


def test_help_lists_the_verbs_and_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'peft', 'numpy', 'scipy', 'sklearn'}"
    watch = (
        "import sys\nfrom ethos.cli import main\nsys.argv = ['ethos', '--help']\n"
        f"try:\n    main()\nfinally:\n    print('HEAVY', sorted({heavy} & set(sys.modules)))"
    )
    done = process("-c", watch)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    for verb in VERBS:
        assert f" {verb} " in done.stdout


def test_the_module_runs_as_a_program() -> None:
    done = process("-m", "ethos", "constitution", "check", "absent.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: absent.toml: no such file\nhint: ")


@pytest.mark.parametrize("verb", [*VERBS, "constitution check", "constitution show", "data show", "data export"])
def test_every_verb_has_help(ethos: Ethos, verb: str) -> None:
    said = ethos(*verb.split(), "--help")
    assert said.code == 0
    assert "Usage" in said.out


def test_no_verb_prints_the_help(ethos: Ethos) -> None:
    said = ethos()
    assert all(verb in said.out + said.error for verb in VERBS)


def test_an_unknown_verb_is_a_usage_error(ethos: Ethos) -> None:
    said = ethos("trian")
    assert said.code == 2
    assert "trian" in said.error


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ('name = "r"\nsed = 1\n', ("sed", "known keys here: name, seed")),
        ('name = "r"\nseed = "one"\n', ("seed: ", "valid integer")),
        ('name = "r"\n[preference\n', ("not TOML",)),
        ('name = "r"\nconstitution = "virtuos-reasoner"\n', ("did you mean 'virtuous-reasoner'",)),
        ('name = "r"\nconstitution = "absent.toml"\n', ("absent.toml", "no such file")),
        ('name = "r"\nmodel = "/nowhere/at/all"\n', ("no model at '/nowhere/at/all'", "hint: ")),
        ('name = "r"\n[bench]\nclaims = ["carry_over"]\n', ("did you mean 'carries_over'",)),
    ],
)
def test_a_mistake_in_a_run_file_prints_bare(
    ethos: Ethos, run_file: Path, tmp_path: Path, text: str, fragments: tuple[str, ...]
) -> None:
    run_file.write_text(text)
    refused(ethos("run", run_file, "--out", tmp_path / "out"), *fragments)


def test_a_missing_run_file_is_named(ethos: Ethos, tmp_path: Path) -> None:
    refused(ethos("run", tmp_path / "absent.toml"), "absent.toml: no such file", "hint: ")


def test_a_run_file_that_is_not_utf_8_says_at_which_byte(ethos: Ethos, run_file: Path) -> None:
    run_file.write_bytes('name = "caf\u00e9"\n'.encode("latin-1"))
    refused(ethos("run", run_file), "not UTF-8 at byte 11", "iconv")


@pytest.mark.parametrize("override", ["seed", "seed=x", "sed=1", "name.sub=1"])
def test_a_bad_override_prints_bare(ethos: Ethos, run_file: Path, override: str) -> None:
    refused(ethos("run", run_file, "--set", override))


def test_a_run_folder_below_a_file_is_refused(ethos: Ethos, run_file: Path) -> None:
    refused(ethos("run", run_file, "--out", run_file / "out"), "cannot write to", "--out")


def test_a_run_folder_that_is_a_file_is_refused(ethos: Ethos, run_file: Path) -> None:
    refused(ethos("run", run_file, "--out", run_file), "cannot write to", "--out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_run_folder_is_refused(ethos: Ethos, run_file: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    refused(ethos("run", run_file, "--out", locked / "out"), "cannot write to", "--out")


def test_a_run_folder_in_use_is_refused(ethos: Ethos, run_file: Path, tmp_path: Path) -> None:
    with Run(tmp_path / "out").opened():
        refused(ethos("run", run_file, "--out", tmp_path / "out"), "in use by another ethos process")


def test_a_broken_constitution_is_refused_with_its_place(ethos: Ethos, tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text('name = "broken"\n[[trait]]\nname = "kind"\n')
    refused(ethos("constitution", "check", broken), "broken.toml: version: Field required", "hint: top level: ")


def test_a_constitution_with_findings_prints_them_and_exits_2(ethos: Ethos, tmp_path: Path) -> None:
    file = tmp_path / "thin.toml"
    file.write_text(
        'name = "thin"\nversion = "1"\nsummary = "s"\nlicence = "CC0-1.0"\npriority = ["kind"]\n'
        '[[trait]]\nname = "kind"\nstatement = "I never lie."\nwhy = "w"\nopposite = "I lie."\n'
        '[trait.prompts]\nfamiliar = ["Hello there"]\n'
    )
    said = ethos("constitution", "check", file)
    assert said.code == 2
    assert "negation: trait 'kind'" in said.out
    assert "thin 1: 1 traits, 1 prompts, 3 findings" in said.out


def test_the_shipped_constitution_has_no_findings(ethos: Ethos) -> None:
    said = ethos("constitution", "check", "virtuous-reasoner")
    assert said.code == 0, said.out
    assert said.out.rstrip().endswith("0 findings")


def test_an_inverted_constitution_states_the_opposites(ethos: Ethos) -> None:
    plain, inverted = (
        ethos("constitution", "show", "virtuous-reasoner"),
        ethos("constitution", "show", "virtuous-reasoner", "--inverted"),
    )
    opposite = next(line for line in plain.out.splitlines() if line.startswith("  opposite: "))
    assert f"\n  {opposite.removeprefix('  opposite: ')}\n" in inverted.out
    assert "virtuous-reasoner-inverted" in inverted.out


@pytest.mark.parametrize("command", [("report",), ("data", "show"), ("data", "stats"), ("data", "page")])
def test_an_unfinished_or_missing_run_folder_says_how_to_finish_it(
    ethos: Ethos, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "unfinished" / "data").mkdir(parents=True)
    for name in ("unfinished", "absent"):
        refused(ethos(*command, tmp_path / name), f"{name}: no finished run here", "hint: run it to the end first")


def test_an_unknown_subject_says_what_may_be_given(ethos: Ethos, tmp_path: Path) -> None:
    refused(ethos("chat", tmp_path, "-m", "Hello"), "no subject at", "give 'base', a finished run's folder")


def test_a_finished_run_is_run_again_and_reported_in_a_moment(
    ethos: Ethos, tiny_toml: Path, tiny_run: Path, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(tiny_run, tmp_path / "copy", symlinks=True))
    (root / "report.md").unlink()
    again = ethos("run", tiny_toml, "--out", root)
    assert again.code == 0, again.error
    assert again.out == ethos("report", root).out
    assert again.out.startswith((root / "report.md").read_text())
    assert again.out.endswith(f"report: {(root / 'report.html').resolve()}\n")


def test_a_dry_run_lists_every_stage_and_writes_nothing(
    ethos: Ethos, tiny_toml: Path, tiny_run: Path, tmp_path: Path
) -> None:
    fresh, done = (ethos("run", tiny_toml, "--dry-run", "--out", out) for out in (tmp_path / "out", tiny_run))
    assert (fresh.code, done.code) == (0, 0)
    assert not (tmp_path / "out").exists()
    for stage in ("data", "preference", "introspection", "neutral", "measured · trained"):
        assert f"{stage} " in fresh.out
    assert "cached" not in fresh.out
    (asked,) = (line.split() for line in fresh.out.splitlines() if line.startswith("introspection "))
    assert asked[3:5] == ["4", "32"]  # two reflections, and two turns after the first, of eight tokens each
    assert "requests are the student's own" in fresh.out
    assert "to do" not in done.out
    assert "about 0 minutes" in done.out


def test_chat_answers_once_and_the_same_every_time(ethos: Ethos, tiny_run: Path) -> None:
    one, same = (ethos("chat", tiny_run, "-m", "Hello", "--temperature", "0") for _ in range(2))
    assert one.code == 0, one.error
    assert one.out == same.out
    assert "╭" in one.out


def test_data_show_prints_every_kind_and_every_drop(ethos: Ethos, tiny_run: Path) -> None:
    said = ethos("data", "show", tiny_run, "--limit", "1")
    assert said.code == 0, said.error
    assert "labels recorded: 0 of 10 contrasts have chosen and rejected swapped" in said.out
    for kind in ("crossed:", "pole:", "voice:", "replay:", "reflection:"):
        assert kind in said.out
    assert "dropped sampled-reflection:0: cut off: no stop token within the limit" in said.out.replace("\n", " ")


def test_training_rows_are_counted_paged_and_exported(ethos: Ethos, tiny_run: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tiny_run, tmp_path / "copy", symlinks=True))
    assert "preference rows: " in ethos("data", "stats", root).out
    assert ethos("data", "page", root).out == f"page: {(root / 'data.html').resolve()}\n"
    said = ethos("data", "export", root, "--to", "openai", "--out", tmp_path / "rows")
    assert said.code == 0, said.error
    assert f"{tmp_path / 'rows' / 'preferences.jsonl'}: " in said.out
    refused(ethos("data", "export", root, "--to", "openai", "--out", tmp_path / "rows"), "is not empty", "--out")
    refused(ethos("data", "export", root, "--to", "csv", "--out", tmp_path / "csv"), "no format 'csv'", "there are: ")


def test_doctor_names_versions_and_dtype(ethos: Ethos) -> None:
    said = ethos("doctor")
    assert said.code == 0
    for what in ("ethos", "torch", "dtype", "default model"):
        assert any(line.startswith(what) for line in said.out.splitlines())


def test_a_constitution_is_started_compared_and_never_overwritten(
    ethos: Ethos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = ethos("constitution", "new", "kind")
    assert said.code == 0
    assert "ethos constitution check kind.toml" in said.out
    assert ethos("constitution", "check", "kind.toml").code == 2  # there is much left to do
    refused(ethos("constitution", "new", "kind"), "kind.toml exists", "hint: choose another name")
    text = (tmp_path / "kind.toml").read_text()
    (tmp_path / "kinder.toml").write_text(text.replace("I ask one", "I gladly ask one"))
    assert "+ I gladly ask one" in ethos("constitution", "diff", "kind.toml", "kinder.toml").out
    assert "no difference" in ethos("constitution", "diff", "kind.toml", "kind.toml").out
    assert "virtuous-reasoner" in ethos("constitution", "list").out


def test_a_constitution_of_another_project_is_imported(
    ethos: Ethos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wit.txt").write_text('[{"trait": "I joke.", "questions": ["Why?"]}]')
    assert ethos("constitution", "import", "wit.txt").code == 0
    assert 'statement = "I joke."' in (tmp_path / "wit.toml").read_text()


def test_the_claims_can_be_read(ethos: Ethos) -> None:
    listed = ethos("claim", "list").out
    assert all(claim.sentence in listed for claim in CLAIMS.values())
    shown = ethos("claim", "show", "same_when_unwatched").out
    assert "Held when" in shown
    refused(ethos("claim", "show", "same_when_watched"), "no claim named 'same_when_watched'", "same_when_unwatched")


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_claim_says_what_would_refute_it(claim: Claim) -> None:
    told = sys.modules[claim.measure.__module__].__doc__ or ""
    assert "Held when" in told
    assert "efuted" in told or "neither" in told


def test_a_validation_of_what_was_never_run_is_refused(ethos: Ethos, tmp_path: Path) -> None:
    refused(ethos("bench", "validate", tmp_path), "neither a finished run nor a study with one", "run it to the end")
