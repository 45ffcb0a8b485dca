"""One tiny experiment, really run: the same bytes twice, resumed wherever it is killed, and nothing stale reused."""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from conftest import PROCESSES, SOME_CLAIMS, few_rows, in_float32
from ethos import cli, pipeline
from ethos.bench.claim import ONLY_STYLE, Score
from ethos.bench.item_files import Items
from ethos.bench.items import Crossed, Triple
from ethos.config import RunConfig, read_config
from ethos.data.recorded import AnswerRow, CrossedRow, read_recorded
from ethos.errors import ConstitutionError, DataError, StoreError
from ethos.manifest import MANIFEST, read_manifest
from ethos.measuring import SCORES
from ethos.methods import Stage, Steering
from ethos.models import adapter_digest, load_subject, load_tokenizer_chat, steering_digest
from ethos.pipeline import (
    SUBJECTS,
    Keys,
    given,
    prepare_data,
    read_inputs,
    run_experiment,
    stage_keys,
)
from ethos.plan import Known, plan
from ethos.records import Conversation, Drop, Preference, Record, read_jsonl, to_jsonl, user
from ethos.report.page import HTML, MARKDOWN, write_report
from ethos.report.summary import summarise
from ethos.samplers.local import sample
from ethos.samplers.replies import ReplyCache, Request
from ethos.steering import PLACE, load
from ethos.steering import steered as temporarily_steered
from ethos.store import KEY, LOCKS, TIMING, Run
from ethos.subjects import find_subject
from ethos.train import loop
from ethos.train.lora import CONFIG, WEIGHTS, add_factors

ONE_CLAIM = 'bench.claims=["leaves_other_requests_alone"]'


def artefacts(root: Path) -> dict[str, str]:
    """Every file below a run folder → its hash; links, times, cache, lock and report left out."""
    caches = {f"{name}.sqlite{part}" for name in ("requests", "scores") for part in ("", "-wal", "-shm")}
    volatile = {TIMING, ".lock", HTML, MARKDOWN, *caches}
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in volatile and LOCKS not in path.parts
    }


def copied(run: Path, folder: Path) -> Path:
    """A finished run to change at will."""
    return Path(shutil.copytree(run, folder / "copy", symlinks=True))


def take_times_from(one: Path, other: Path) -> None:
    """Give a run the recorded seconds of another, so that their reports may be compared."""
    for timing in one.rglob(TIMING):
        shutil.copy(timing, other / timing.relative_to(one))


@pytest.fixture(scope="module")
def interrupted_run(tiny_toml: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run in another folder, by four processes, three of which died on the way."""
    root = tmp_path_factory.mktemp("interrupted") / "tiny"
    die_at(tiny_toml, root, "preference/*.partial/checkpoint.pt", signal.SIGKILL)
    (partial,) = root.glob("preference/*.partial")
    (partial / ".checkpoint.pt.4242").write_bytes(b"half a checkpoi")  # what a kill within a write leaves
    assert die_at(tiny_toml, root, "introspection/*.partial/checkpoint.pt", signal.SIGINT).strip().endswith("stopped")
    die_at(tiny_toml, root, f"measured/{SOME_CLAIMS[2]}/*", signal.SIGKILL)
    assert not (root / MANIFEST).exists()
    resumed = Run(root)
    run_experiment(read_config(tiny_toml), resumed)
    assert not {"data", "preference", "introspection"} & set(resumed.made)  # what was finished was kept
    return root


def command_line(said: Path, *arguments: str) -> None:
    """`ethos` with these arguments, a checkpoint after every step, its standard error in a file."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's & takes away
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    loop.SECONDS_BETWEEN_CHECKPOINTS = -1.0
    sys.argv = ["ethos", *arguments]
    cli.main()


def die_at(file: Path, root: Path, sign: str, how: signal.Signals) -> str:
    """Start the run in a process of its own and end it when a path like `sign` appears; return its standard error.

    While it lives, a second run in the same folder is refused.
    """
    said = root.with_suffix(".said")
    process = PROCESSES.Process(target=command_line, args=(said, "run", str(file), "--out", str(root)))
    process.start()
    assert process.pid
    began = time.monotonic()
    while not any(root.glob(sign)):
        assert process.is_alive(), said.read_text()
        assert time.monotonic() - began < 1200, f"no {sign} appeared"
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGSTOP)  # hold it right there
    with pytest.raises(StoreError, match="in use by another ethos process"):
        run_experiment(read_config(file), Run(root))
    os.kill(process.pid, how)
    os.kill(process.pid, signal.SIGCONT)
    process.join()
    error = said.read_text()
    assert process.exitcode == (130 if how is signal.SIGINT else -how), error
    assert "Traceback" not in error
    return error


def test_a_run_killed_anywhere_and_resumed_leaves_the_bytes_of_an_undisturbed_one(
    tiny_run: Path, interrupted_run: Path
) -> None:
    assert artefacts(interrupted_run) == artefacts(tiny_run)


def train_eagerly(file: Path, root: Path) -> None:
    """The run up to its adapter, a checkpoint after every step."""
    loop.SECONDS_BETWEEN_CHECKPOINTS = -1.0
    run_experiment(read_config(file, [ONE_CLAIM]), Run(root))


def killed_at(moments: Sequence[float], file: Path, root: Path) -> int:
    """Run in `root` by processes killed after so many seconds each, then by one that is left alone.

    Returns how many were killed before the run was finished.
    """
    killed = 0
    for moment in (*moments, None):
        process = PROCESSES.Process(target=train_eagerly, args=(file, root))
        process.start()
        process.join(moment)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    assert process.exitcode == 0
    return killed


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_leaves_the_same_adapter(
    tiny_toml: Path, tiny_run: Path, tmp_path: Path, kills: int
) -> None:
    rng, killed, rounds = random.Random(kills), 0, 0
    while killed < kills:
        root = tmp_path / str(rounds)
        killed += killed_at([rng.uniform(0.2, 3.0) for _ in range(3)], tiny_toml, root)
        rounds += 1
        for name in (WEIGHTS, CONFIG):
            assert (root / "adapter" / name).read_bytes() == (tiny_run / "adapter" / name).read_bytes()
    assert rounds <= kills


def test_equal_runs_have_equal_reports_but_for_the_seconds(tiny_run: Path, interrupted_run: Path) -> None:
    take_times_from(tiny_run, interrupted_run)
    write_report(interrupted_run)
    for name in (HTML, MARKDOWN):
        assert (interrupted_run / name).read_bytes() == (tiny_run / name).read_bytes()


def test_a_second_run_computes_nothing_and_writes_the_report_again(
    tiny_toml: Path, tiny_run: Path, tmp_path: Path
) -> None:
    root = copied(tiny_run, tmp_path)
    page = (root / HTML).read_bytes()
    (root / HTML).write_text("overwritten")
    (root / MARKDOWN).unlink()
    again = Run(root)
    assert run_experiment(read_config(tiny_toml), again) == root / HTML
    assert again.made == []
    assert (root / HTML).read_bytes() == page
    assert (root / MARKDOWN).read_bytes() == (tiny_run / MARKDOWN).read_bytes()
    assert artefacts(root) == artefacts(tiny_run)


def test_the_stable_names_lead_to_adapter_base_and_report(tiny_run: Path, worded_base: Path) -> None:
    assert (tiny_run / "adapter").resolve() == (tiny_run / read_manifest(tiny_run).stages["adapter"]).resolve()
    assert (tiny_run / "base").resolve() == worded_base.resolve()
    assert (tiny_run / HTML).stat().st_size > 10_000
    tokens = torch.arange(30)[None]
    bare = in_float32(tiny_run / "base")
    with torch.no_grad():
        before = bare(tokens).logits
        after = PeftModel.from_pretrained(bare, tiny_run / "adapter")(tokens).logits
    assert (after - before).abs().max() > 1e-4


def test_a_moved_run_folder_keeps_its_adapter(tiny_run: Path, tmp_path: Path) -> None:
    root = copied(tiny_run, tmp_path)
    assert (root / "adapter").resolve().is_relative_to(root)
    assert (root / "adapter" / "adapter_config.json").is_file()


def test_every_claim_is_measured_on_exactly_the_subjects_of_the_manifest(tiny_run: Path) -> None:
    manifest = read_manifest(tiny_run)
    assert tuple(manifest.subjects) == SUBJECTS
    assert len({subject.digest() for subject in manifest.subjects.values()}) == len(SUBJECTS)
    for name, folders in manifest.measured.items():
        assert list(folders) == list(manifest.config.bench.claims)
        keys = [json.loads((tiny_run / folder / KEY).read_text()) for folder in folders.values()]
        assert {key["subject"] for key in keys} == {manifest.subjects[name].digest()}
        assert all(read_jsonl(tiny_run / folder / SCORES, Score) for folder in folders.values())
    assert manifest.subjects["trained"].adapter == adapter_digest(tiny_run / "adapter")
    assert manifest.subjects["base"].adapter is manifest.subjects["prompted"].adapter is None


def test_every_artefact_is_named_by_its_key(tiny_run: Path) -> None:
    keys = list(tiny_run.rglob(KEY))
    assert len(keys) == 8 + len(SUBJECTS) * len(read_manifest(tiny_run).config.bench.claims)
    for key in keys:
        compact = json.dumps(json.loads(key.read_text()), separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(compact.encode()).hexdigest()[:12] == key.parent.name


EVERYTHING = {"data", "ordinary", "contamination", "preference", "introspection", "neutral", "baseline"}


@pytest.mark.parametrize(
    ("override", "renamed"),
    [
        ("seed=1", EVERYTHING),
        ("mixture.voice=1", EVERYTHING),
        ("mixture.labels=shuffled", EVERYTHING - {"neutral", "ordinary"}),  # it learns from no contrast
        ("stages.0.lora.rank=3", {"preference", "introspection"}),
        ("stages.1.sampling.turns=4", {"introspection"}),
        ("stages.1.bugs.guidance_lost=true", {"introspection"}),
        ("stages.1.bugs.guidance_lost=false", set()),
        ("stages.1.ablation.source=both", set()),
        ("neutral.lora.rank=5", {"neutral"}),
        ("neutral.optimisation.max_tokens=1999", EVERYTHING),  # no stage may meet a row that it would refuse
        ("bench.per_split=3", {"baseline"}),
        (ONE_CLAIM, set()),
        ("name=other", set()),
    ],
)
def test_a_change_renames_all_that_follows_from_it(tiny_toml: Path, override: str, renamed: set[str]) -> None:
    before, after = (
        stage_keys(config, read_inputs(config))
        for config in (read_config(tiny_toml), read_config(tiny_toml, [override]))
    )
    assert {name for name, key in flat(before).items() if flat(after)[name] != key} == renamed


@pytest.mark.parametrize(("name", "items", "crossed"), [("loving", "derived", True), ("poetic", "sealed", False)])
def test_a_character_can_be_measured_on_its_own_held_out_rows(
    name: str, items: str, crossed: bool, tiny_toml: Path, tmp_path: Path
) -> None:
    """One with crossed rows of its own, and one that is all tone."""
    claims = ["shows_the_character", "carries_over", "holds_under_pressure", "resolves_conflicts_as_ranked"]
    settings = [f"constitution={name}", f"bench.items={items}", f"bench.claims={claims}", "mixture.conversations=0"]
    config = read_config(tiny_toml, [*settings, "bench.per_split=3"])
    config = config.model_copy(update={"stages": config.stages[:1]})
    text = run_experiment(config, Run(tmp_path)).with_name(MARKDOWN).read_text()
    assert "items are derived from the constitution's own recorded rows" in text
    assert "nobody wrote dilemmas items" in text
    found = {finding.claim: finding for finding in summarise(tmp_path).trained}
    labels = [line.label for line in found["carries_over"].verdict.lines]
    assert {"pole, format", "voice, role"} <= set(labels)
    assert crossed or found["shows_the_character"].sentence == ONLY_STYLE
    assert (found["holds_under_pressure"].verdict is not None) is crossed


def flat(keys: Keys) -> dict[str, Record]:
    """Every key by name."""
    return {**keys.stages, **{name: key for name, key in keys._asdict().items() if name != "stages"}}


def made_with(tiny_toml: Path, root: Path, *overrides: str) -> list[str]:
    run = Run(root)
    run_experiment(read_config(tiny_toml, [ONE_CLAIM, *overrides]), run)
    return run.made


def test_a_change_recomputes_what_follows_from_it_and_nothing_else(
    tiny_toml: Path, tiny_run: Path, tmp_path: Path
) -> None:
    root, claim = copied(tiny_run, tmp_path), "measured/leaves_other_requests_alone"
    assert made_with(tiny_toml, root, "neutral.lora.rank=1") == ["neutral", claim]
    later = made_with(tiny_toml, root, "stages.1.lora.rank=1")
    assert later == ["introspection", "contamination", "combined", claim]
    assert made_with(tiny_toml, root, "bench.per_split=1") == ["baseline", *[claim] * len(SUBJECTS)]
    assert made_with(tiny_toml, root) == []


def test_factors_are_added_where_the_released_merge_is_asked_for(
    tiny_toml: Path, tiny_run: Path, tmp_path: Path
) -> None:
    root, expected = copied(tiny_run, tmp_path), tmp_path / "expected"
    expected.mkdir()
    assert "combined" in made_with(tiny_toml, root, "stages.1.lora.rank=2", "stages.1.bugs.factors_added=true")
    stages = read_manifest(root).stages
    add_factors(root / stages["preference"], root / stages["introspection"], expected)
    assert adapter_digest(root / "adapter") == adapter_digest(expected)


def test_a_run_without_introspection_ends_in_the_preference_adapter(
    tiny_toml: Path, tiny_run: Path, tmp_path: Path
) -> None:
    root, run = copied(tiny_run, tmp_path), Run(tmp_path / "copy")
    config = read_config(tiny_toml, [ONE_CLAIM])
    config = config.model_copy(update={"stages": config.stages[:1]})
    run_experiment(config, run)
    assert run.made == ["measured/leaves_other_requests_alone"]  # the trained subject is another now
    manifest = read_manifest(root)
    assert manifest.stages["adapter"] == manifest.stages["preference"]
    assert (root / "adapter").resolve() == (root / manifest.stages["preference"]).resolve()


def steered(tiny_toml: Path, root: Path, *before: Stage, **settings: Any) -> Path:
    """A run whose last stage steers."""
    config = read_config(tiny_toml, [ONE_CLAIM])
    stages = (*before, Steering(depth=1.0, strength=4.0, **settings))
    run_experiment(config.model_copy(update={"stages": stages}), Run(root))
    return root


def values(root: Path, subject: str) -> list[float | None]:
    folder = read_manifest(root).measured[subject]["leaves_other_requests_alone"]
    return [score.value for score in read_jsonl(root / folder / SCORES, Score)]


def test_a_run_may_steer_and_train_nothing(tiny_toml: Path, tmp_path: Path) -> None:
    root, again = steered(tiny_toml, tmp_path / "one"), steered(tiny_toml, tmp_path / "two")
    assert artefacts(root) == artefacts(again)
    subject = read_manifest(root).subjects["trained"]
    assert (subject.adapter, subject.steering) == (None, steering_digest(root / "adapter"))
    assert values(root, "trained") != values(root, "base")
    found = find_subject(str(root))
    assert found.subject.digest() == subject.digest()
    assert find_subject(str((root / "adapter").resolve())).subject.steering == subject.steering
    assert found.without_character().subject.digest() == read_manifest(root).subjects["base"].digest()
    loaded, push = load_subject(found.base, found.subject, found.adapter), load(root / "adapter")
    asked = [Request(messages=[user("Hi")], max_tokens=12, temperature=0)]
    with closing(ReplyCache(tmp_path / "replies.sqlite")) as cache:
        bare = load_subject(found.base, found.without_character().subject, None)
        own, plain = (sample(each, asked, cache) for each in (loaded, bare))
        with temporarily_steered(bare.model, push.vector_D, layer=push.layer, strength=push.strength):
            other = bare._replace(subject=bare.subject.model_copy(update={"steering": "by hand"}))
            assert sample(other, asked, cache) == own
    assert own != plain
    control = steered(tiny_toml, tmp_path / "control", direction="random")
    assert read_manifest(control).subjects["trained"].steering != subject.steering
    assert values(control, "trained") not in (values(root, "trained"), values(root, "base"))


def test_steering_stands_beside_the_exact_sum_of_the_stages_before(tiny_toml: Path, tmp_path: Path) -> None:
    first, second = read_config(tiny_toml).stages
    root = steered(tiny_toml, tmp_path / "three", first, second)
    manifest = read_manifest(root)
    trained = manifest.subjects["trained"]
    assert (trained.adapter, trained.steering) == (adapter_digest(root / "adapter"), steering_digest(root / "adapter"))
    before = [folder for folder in (root / "combined").iterdir() if not (folder / PLACE).exists()]
    assert [adapter_digest(folder) for folder in before] == [trained.adapter]
    alone = steered(tiny_toml, tmp_path / "alone")
    assert trained.steering != read_manifest(alone).subjects["trained"].steering  # found on the trained model
    assert PeftModel.from_pretrained(in_float32(root / "base"), root / "adapter")
    run = Run(root)
    assert all(row.done for row in plan(manifest.config, run, read_inputs(manifest.config), Known({}, {})))
    run_experiment(manifest.config, run)
    assert run.made == []


def test_changed_items_are_checked_against_the_same_training_data_again(
    tiny_toml: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = copied(tiny_run, tmp_path)
    monkeypatch.setattr(pipeline, "all_items_digest", lambda: "other items")
    assert made_with(tiny_toml, root) == ["contamination"] * 2  # of what was recorded, and of what was sampled


def prepared(config: RunConfig, folder: Path) -> Path:
    """The data stage alone."""
    folder.mkdir(exist_ok=True)
    prepare_data(config, read_inputs(config), folder)
    return folder


def test_over_long_contrasts_are_dropped_whole_and_counted(tiny_toml: Path, worded_base: Path, tmp_path: Path) -> None:
    config, chat = read_config(tiny_toml, ["mixture.crossed=20"]), load_tokenizer_chat(worded_base)
    everything = read_jsonl(prepared(config, tmp_path / "all") / "preferences.jsonl", Preference)
    ends = [[row.prompt + reply for reply in (row.chosen, row.rejected)] for row in everything]
    lengths = sorted(max(len(chat.render(end).tokens) for end in both) for both in ends)
    limit = lengths[len(lengths) * 3 // 4] + 40  # refuses some
    short = read_config(tiny_toml, ["mixture.crossed=20", f"stages.0.optimisation.max_tokens={limit}"])
    folder = prepared(short, tmp_path / "short")
    kept = {row.group for row in read_jsonl(folder / "preferences.jsonl", Preference)}
    dropped = read_jsonl(folder / "dropped.jsonl", Drop)
    talks = [
        row.source
        for place in (tmp_path / "all", folder)
        for name in ("conversations.jsonl", "replay.jsonl")
        for row in (read_jsonl(place / name, Conversation) if (place / name).stat().st_size else [])
    ]
    once = {source for source in talks if talks.count(source) == 1}  # in the whole data, not in the short
    assert {drop.reason for drop in dropped} == {f"longer than {limit} tokens"}
    assert kept
    assert kept.isdisjoint(drop.source for drop in dropped)
    assert {drop.source for drop in dropped} == ({row.group for row in everything} - kept) | once


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["stages.0.optimisation.max_tokens=40"], "no contrast is left to train on\nhint: .*max_tokens = 40"),
        (["mixture.crossed=0", "mixture.poles=0", "mixture.voice=0"], "no contrast is left"),
        (["mixture.replay=0"], "no replay row is left for the neutral control"),
    ],
)
def test_data_that_would_train_nothing_is_refused(
    tiny_toml: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        prepared(read_config(tiny_toml, overrides), tmp_path / "data")


def test_the_mixture_draws_conversations_and_replay_by_the_seed(tiny_toml: Path, tmp_path: Path) -> None:
    def drawn(*overrides: str) -> list[list[str]]:
        config = read_config(tiny_toml, ["mixture.conversations=3", "mixture.replay=4", *overrides])
        folder = prepared(config, tmp_path / "data")
        return [
            [row.source for row in read_jsonl(folder / f"{n}.jsonl", Conversation)] for n in ("conversations", "replay")
        ]

    assert [len(set(sources)) for sources in drawn()] == [3, 4]
    assert drawn() == drawn()
    assert drawn() != drawn("seed=1")


def test_traits_can_be_documented_without_being_shown(tiny_toml: Path, tmp_path: Path) -> None:
    counts = ["mixture.poles=6", "mixture.voice=4"]
    config = read_config(tiny_toml, [*counts, 'mixture.demonstrated=["candour"]'])
    folder = prepared(config, tmp_path / "some")
    rows = read_jsonl(folder / "preferences.jsonl", Preference)
    recorded = read_recorded(config.constitution)
    traits = {row.id: row.trait for row in [*recorded.poles, *recorded.voice]}
    assert {traits[row.source.partition(":")[2]] for row in rows} == {"candour"}
    assert (folder / "conversations.jsonl").read_text() == ""
    assert {drop.reason for drop in read_jsonl(folder / "dropped.jsonl", Drop)} == {
        "names no trait, and not all are demonstrated"
    }
    for name in ("documents.jsonl", "replay.jsonl"):
        whole = prepared(read_config(tiny_toml, counts), tmp_path / "whole") / name
        assert (folder / name).read_text() == whole.read_text()
    with closing(ReplyCache(tmp_path / "replies.sqlite")) as cache:
        shown = given(config, read_inputs(config), folder, cache).constitution
    assert [trait.name for trait in shown.trait] == ["candour"]
    with pytest.raises(ConstitutionError, match="has no trait 'candor'"):
        read_inputs(read_config(tiny_toml, ['mixture.demonstrated=["candor"]']))


def leak(folder: Path, kind: str) -> Path:
    """A constitution one of whose training rows holds a benchmark item."""
    item = Items().load("crossed", Crossed)[0]
    file = few_rows(folder)
    fine = "A plain answer of a few words."
    row: Record = (
        CrossedRow(id="leak", kind=item.kind, a=item.a, b=item.b, r1=item.r1, r2=item.r2, fact=item.fact)
        if kind == "crossed"
        else AnswerRow(id="leak", prompt=item.a, response=fine)
    )
    with (folder / "few" / f"{kind}.jsonl").open("a", encoding="utf-8") as rows:
        rows.write(to_jsonl([row]))
    return file


@pytest.mark.parametrize(
    ("kind", "source"),
    [("crossed", "crossed:leak"), ("reflections", "reflection:leak"), ("replay", "replay:leak")],
)
def test_training_data_that_holds_a_benchmark_item_is_refused(
    tiny_toml: Path, tmp_path: Path, kind: str, source: str
) -> None:
    config = read_config(tiny_toml, [f"constitution={leak(tmp_path, kind)}", "mixture.crossed=41"])
    with pytest.raises(DataError, match=rf"training rows share eight words in a row .*: {source}"):
        run_experiment(config, Run(tmp_path / "run"))
    assert not list((tmp_path / "run").glob("contamination/*/key.json"))
    assert not (tmp_path / "run" / "preference").exists()  # before anything is trained


def test_a_run_may_train_on_another_constitution_and_keep_its_own_control(tiny_toml: Path, tmp_path: Path) -> None:
    plain, other = read_config(tiny_toml), read_config(tiny_toml, ['trained_on="good"'])
    inputs = read_inputs(other)
    before, after = stage_keys(plain, read_inputs(plain)), stage_keys(other, inputs)
    assert (after.neutral, after.ordinary) == (before.neutral, before.ordinary)
    assert before.data == before.ordinary
    assert after.data.constitution != before.data.constitution
    assert (inputs.constitution.name, inputs.taught.constitution.name) == ("virtuous-reasoner", "good")
    prepare_data(other, inputs, tmp_path)
    theirs = {row.id for rows in inputs.taught.recorded[:3] for row in rows}
    assert {row.source.partition(":")[2] for row in read_jsonl(tmp_path / "preferences.jsonl", Preference)} <= theirs
    with closing(ReplyCache(tmp_path / "replies.sqlite")) as cache:
        assert given(other, inputs, tmp_path, cache).constitution.name == "good"


def test_the_neutral_control_is_the_same_whatever_is_demonstrated(tiny_toml: Path) -> None:
    plain, some = read_config(tiny_toml), read_config(tiny_toml, ['mixture.demonstrated=["care"]'])
    before, after = stage_keys(plain, read_inputs(plain)), stage_keys(some, read_inputs(some))
    assert before.neutral == after.neutral
    assert before.data != after.data


def test_the_manifest_names_the_traits_of_items(tiny_run: Path) -> None:
    traits = read_manifest(tiny_run).traits
    assert traits == {item.id: item.trait for item in Items().load("triples", Triple)}  # crossed ones name none
