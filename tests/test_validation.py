"""The benchmark's own benchmark: right about noise, right about groups that are known."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethos.bench.battery import CLAIMS
from ethos.bench.claim import Deciding, Score
from ethos.bench.validity import LineValidity, Validity, experimental
from ethos.config import RunConfig
from ethos.constitution import read_constitution
from ethos.data.preferences import Contrasts, Mixture
from ethos.errors import ConfigError, DataError
from ethos.manifest import MANIFEST, Manifest, read_manifest
from ethos.measuring import SCORES, BenchSettings
from ethos.methods import PreferenceTraining, SupervisedTraining
from ethos.models import Subject
from ethos.records import to_jsonl
from ethos.report.validation import amiss
from ethos.stats import Estimate
from ethos.store import KEY
from ethos.validation import (
    BASE,
    DISPOSITION,
    FULL,
    HALF,
    LABELS,
    MARKDOWN,
    NEUTRAL,
    RESULTS,
    STYLE,
    Known,
    ends,
    half_folders,
    half_subject,
    known_subjects,
    null_comparisons,
    order_of,
    validate,
)

REASONER = read_constitution("virtuous-reasoner")
ASKED = ("knows_when", "leaves_other_requests_alone")
NUM_ITEMS = 24
SHIFTS = {"base": 0.0, "prompted": 0.4, "neutral": 0.0, "trained": 0.6}


def scores(shift: float, *, seed: int, noise: float = 0.1) -> dict[str, list[Score]]:
    """Items that are as hard for everybody, moved by a shift, with noise of the subject's own."""
    rng = np.random.default_rng(seed)
    hard = np.random.default_rng(0).normal(0, 1, NUM_ITEMS)

    def rows(readout: str, split: str, values: np.ndarray) -> list[Score]:
        return [
            Score(item=f"{split}-{i}", split=split, readout=readout, value=float(value))
            for i, value in enumerate(values)
        ]

    crossed = hard + shift + rng.normal(0, noise, NUM_ITEMS)
    return {
        "knows_when": [*rows("crossed", "consent", crossed), *rows("won", "consent", (crossed > 0).astype(float))],
        "leaves_other_requests_alone": rows("intrusion", "unrelated", hard + rng.normal(0, noise, NUM_ITEMS)),
    }


def write(folder: Path, found: Mapping[str, list[Score]]) -> None:
    for claim, rows in found.items():
        (folder / claim).mkdir(parents=True, exist_ok=True)
        (folder / claim / SCORES).write_text(to_jsonl(rows))
        (folder / claim / KEY).write_text(json.dumps({"version": CLAIMS[claim].version}))


def finished(
    root: Path, seed: int, shifts: Mapping[str, float] = SHIFTS, *, noise: float = 0.1, config: RunConfig | None = None
) -> Path:
    """A finished run: base and prompted are those of every other seed."""
    subjects = {
        name: Subject(
            name=name,
            base="b",
            adapter=f"{name}-{seed}" if name in ("neutral", "trained") else None,
            system=REASONER.system_prompt() if name == "prompted" else None,
        )
        for name in shifts
    }
    for place, (name, shift) in enumerate(shifts.items()):
        own = 100 + place + 10 * seed if subjects[name].adapter else place
        write(root / name, scores(shift, seed=own, noise=noise))
    manifest = Manifest(
        config=config or RunConfig(name=f"run-{seed}", seed=seed, bench=BenchSettings(claims=ASKED)),
        constitution=REASONER,
        ethos="0",
        versions={},
        hardware={},
        stages={},
        subjects=subjects,
        measured={name: {claim: f"{name}/{claim}" for claim in ASKED} for name in shifts},
    )
    (root / MANIFEST).write_text(manifest.model_dump_json())
    return root


def written(out: Path, label: str = "crossed") -> LineValidity:
    found = Validity.model_validate_json((out / RESULTS).read_text())
    return next(line for line in found.lines if line.label == label)


# --- what must come out of noise


def nulls(num: int, *, effect: float, seed: int) -> float:
    """The false positives among adapters whose items are noise and whose means differ by `effect`, on the average."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 1, (1, 40)) + rng.normal(0, 0.1, (num, 40)) + rng.normal(0, effect, (num, 1))
    found = null_comparisons([Known(NEUTRAL, "alike", str(i), {}) for i in range(num)], level)
    assert (found.num_pairs, found.num_independent) == (num * (num - 1) // 2, num // 2)
    return found.rejected


def test_pure_noise_is_called_a_difference_in_one_of_twenty_comparisons() -> None:
    """21 adapters make 210 pairs; 20 such benchmarks, since the pairs of one share adapters."""
    assert np.mean([nulls(21, effect=0.0, seed=seed) for seed in range(20)]) == pytest.approx(0.05, abs=0.02)


def test_seeds_that_move_the_benchmark_are_found_out() -> None:
    assert nulls(21, effect=0.1, seed=0) > 0.5


def test_only_neutral_subjects_trained_alike_are_compared() -> None:
    level = np.zeros((5, 4))
    kinds = [("neutral", "a"), ("neutral", "b"), ("neutral", "a"), ("base", ""), ("disposition", "")]
    found = null_comparisons([Known(group, kind, str(i), {}) for i, (group, kind) in enumerate(kinds)], level)
    assert (found.num_pairs, found.rejected, found.num_independent) == (1, 0.0, 1)


# --- groups that are known


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("three")
    return [finished(folder / str(seed), seed) for seed in range(3)]


def test_subjects_of_several_runs_are_counted_once_and_pooled_by_group(three: list[Path], tmp_path: Path) -> None:
    told = validate(three, tmp_path)
    assert "Subjects: 1 base, 1 full prompt, 3 disposition, 3 neutral." in told
    assert (tmp_path / MARKDOWN).read_text() == told
    line = written(tmp_path)
    groups = {group.group: group for group in line.groups}
    assert {name: group.num_subjects for name, group in groups.items()} == {FULL: 1, DISPOSITION: 3, NEUTRAL: 3}
    assert groups[DISPOSITION].mean == pytest.approx(0.6, abs=0.1)
    assert (line.order, line.neutral) == ("full over none", "still")
    assert (line.num_subjects, line.num_items, line.num_pairs) == (8, NUM_ITEMS, 3)


def test_a_claim_that_tells_subjects_apart_is_reliable_and_one_that_hears_noise_is_not(
    three: list[Path], tmp_path: Path
) -> None:
    validate(three, tmp_path)
    found = Validity.model_validate_json((tmp_path / RESULTS).read_text())
    assert (written(tmp_path).reliability or 0) > 0.9
    assert (written(tmp_path, "intrusion").reliability or 0) < 0.7
    assert {claim: experimental(claim, found) for claim in ASKED} == {ASKED[0]: False, ASKED[1]: True}
    assert "`leaves_other_requests_alone` v1 (experimental)" in (tmp_path / MARKDOWN).read_text()


def test_one_run_has_too_few_subjects_for_a_reliability(three: list[Path], tmp_path: Path) -> None:
    validate(three[:1], tmp_path)
    line = written(tmp_path)
    assert (line.reliability, line.level_reliability, line.false_positives) == (None, None, None)
    assert (line.false_positives_low, line.false_positives_high) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("half", "full", "order"),
    [
        (0.2, 0.4, "ordered"),
        (0.6, 0.4, "half out of order"),
        (-0.2, 0.4, "half out of order"),
        (0.0, 0.0, "not shown"),
        (0.2, -0.4, "reversed"),
    ],
)
def test_half_a_constitution_must_lie_between_none_and_all_of_it(half: float, full: float, order: str) -> None:
    claim, part = CLAIMS["knows_when"], CLAIMS["knows_when"].deciding[0]
    groups = {HALF: Estimate(half, half - 0.1, half + 0.1, 9), FULL: Estimate(full, full - 0.1, full + 0.1, 9)}
    assert order_of(claim, part, groups) == order
    worse = Deciding("surprise", "surprise", better="lower")
    flipped = {name: Estimate(-e.mean, -e.high, -e.low, 9) for name, e in groups.items()}
    assert order_of(claim, worse, flipped) == order
    assert order_of(CLAIMS["writes_coherently"], part, groups) == "none asked"


def test_the_half_prompt_is_found_where_it_was_measured(three: list[Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(three[0], tmp_path / "copy"))
    manifest = read_manifest(root)
    write(tmp_path / "half", scores(0.2, seed=7))
    for claim, folder in half_folders(root, manifest).items():
        (tmp_path / "half" / claim).rename(folder)
    validate([root, *three[1:]], tmp_path / "out")
    assert written(tmp_path / "out").order == "ordered"
    assert half_subject(manifest).system == REASONER.halved().system_prompt() != REASONER.system_prompt()


def test_a_run_that_learnt_ordinary_requests_alone_is_one_more_neutral_subject(tmp_path: Path) -> None:
    asked, nothing = BenchSettings(claims=ASKED), SHIFTS | {"trained": 0.0}
    same = RunConfig(name="same", stages=(SupervisedTraining(learns=("replay",)),), bench=asked)
    mixed = RunConfig(name="mixed", stages=(SupervisedTraining(learns=("replay",)), PreferenceTraining()), bench=asked)
    runs = [finished(tmp_path / config.name, seed, nothing, config=config) for seed, config in enumerate((same, mixed))]
    groups = [subject.group for subject in known_subjects({root: read_manifest(root) for root in runs})]
    assert groups == [BASE, FULL, NEUTRAL, NEUTRAL, NEUTRAL, DISPOSITION]


def preference(**limits: int) -> PreferenceTraining:
    return PreferenceTraining(contrasts=Contrasts(**limits))


@pytest.mark.parametrize(
    ("mixture", "stages", "group"),
    [
        (Mixture(), (preference(),), DISPOSITION),
        (Mixture(), (preference(voice=0),), DISPOSITION),
        (Mixture(), (preference(crossed=0, poles=0),), STYLE),
        (Mixture(crossed=0, poles=0), (preference(),), STYLE),
        (Mixture(crossed=0), (preference(poles=0),), STYLE),
        (Mixture(), (preference(crossed=0, poles=0), preference(voice=0)), DISPOSITION),
        (Mixture(labels="shuffled"), (preference(),), LABELS["shuffled"]),
        (Mixture(labels="inverted"), (preference(),), LABELS["inverted"]),
    ],
)
def test_a_trained_subject_belongs_to_what_it_learnt(
    tmp_path: Path, mixture: Mixture, stages: tuple[PreferenceTraining, ...], group: str
) -> None:
    config = RunConfig(name="planted", mixture=mixture, stages=stages, bench=BenchSettings(claims=ASKED))
    root = finished(tmp_path, 0, config=config)
    assert [subject.group for subject in known_subjects({root: read_manifest(root)})][-1] == group


def test_style_that_moves_judgement_and_labels_that_teach_are_told(three: list[Path], tmp_path: Path) -> None:
    asked = BenchSettings(claims=ASKED)
    style = RunConfig(name="style", stages=(preference(crossed=0, poles=0),), bench=asked)
    coin = RunConfig(name="coin", mixture=Mixture(labels="shuffled"), bench=asked)
    moved = finished(tmp_path / "style", 7, config=style)
    still = finished(tmp_path / "coin", 8, SHIFTS | {"trained": 0.0}, config=coin)
    told = validate([*three, moved, still], tmp_path / "out")
    line = written(tmp_path / "out")
    assert (line.style, line.shuffled, line.neutral) == ("moves", "still", "still")
    assert "`knows_when`, crossed: style subjects move it" in told
    assert "shuffled subjects move it" not in told
    assert "| claim | line | full prompt | disposition | style | shuffled labels | neutral | order |" in told


def test_what_is_as_it_must_be_is_not_complained_of(three: list[Path], tmp_path: Path) -> None:
    assert "Otherwise than it must be" not in validate(three, tmp_path)
    line = written(tmp_path)
    assert list(amiss(line)) == []
    found = [*amiss(line.model_copy(update={"false_positives": 0.08, "order": "reversed"}))]
    assert found == [
        "`knows_when`, crossed: the constitution in the prompt is reversed",
        "`knows_when`, crossed: 8% false positives",
    ]


def test_the_full_prompt_is_seen_surely_where_it_moves_much_and_seldom_where_not(tmp_path: Path) -> None:
    sure = finished(tmp_path / "sure", 0)
    validate([sure], tmp_path / "one")
    assert (written(tmp_path / "one").sensitivity or 0) > 0.99
    assert written(tmp_path / "one", "intrusion").sensitivity is None  # it is asked to stay as it is
    weak = finished(tmp_path / "weak", 0, SHIFTS | {"prompted": 0.02}, noise=1.0)
    validate([weak], tmp_path / "other")
    assert (written(tmp_path / "other").sensitivity or 0) < 0.5


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=6))
def test_an_item_is_at_an_end_where_every_subject_is(values: list[float]) -> None:
    level = np.array([values, [1.0] * len(values)])
    assert ends(level, (0.0, 1.0)) == (0.0, values.count(1.0) / len(values))
    assert ends(level - 1.0, (0.0, 1.0))[0] == 1.0
    assert ends(level, None) == (None, None)


# --- what is refused


def test_runs_that_were_measured_otherwise_are_not_put_in_one_table(three: list[Path], tmp_path: Path) -> None:
    asked = RunConfig(name="other", bench=BenchSettings(claims=ASKED, per_split=5))
    other = finished(tmp_path / "other", 3, config=asked)
    with pytest.raises(ConfigError, match=r"the runs differ in bench\.per_split"):
        validate([*three, other], tmp_path / "out")


def test_scores_on_other_items_are_refused_by_the_claims_name(three: list[Path], tmp_path: Path) -> None:
    other = finished(tmp_path / "other", 4)
    path = other / "trained" / "knows_when" / SCORES
    path.write_text(path.read_text().replace("consent-3", "consent-99"))
    with pytest.raises(DataError, match="knows_when: subjects were scored on different items"):
        validate([*three, other], tmp_path / "out")


def test_scores_of_an_older_version_of_a_claim_are_refused(tmp_path: Path) -> None:
    root = finished(tmp_path / "old", 0)
    (root / "neutral" / "knows_when" / KEY).write_text('{"version": 0}')
    with pytest.raises(DataError, match="measured by version 0 of knows_when, which is at"):
        validate([root], tmp_path / "out")


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a finished run nor a study"):
        validate([tmp_path], tmp_path / "out")


def test_the_finished_cells_of_a_study_are_its_runs(three: list[Path], tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    for root in three:
        shutil.copytree(root, tmp_path / "cells" / root.name)
    (tmp_path / "cells" / "unfinished").mkdir()
    assert validate([tmp_path], tmp_path / "out") == validate(three, tmp_path / "again")


# --- really measured


def test_the_half_prompt_is_measured_on_demand_and_once(tiny_run: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tiny_run, tmp_path / "copy", symlinks=True))
    raw = json.loads((root / MANIFEST).read_text())
    raw["config"]["bench"]["claims"] = ["leaves_other_requests_alone"]
    raw["measured"] = {
        name: {claim: folder for claim, folder in own.items() if claim == "leaves_other_requests_alone"}
        for name, own in raw["measured"].items()
    }
    (root / MANIFEST).write_text(json.dumps(raw))
    assert "half prompt." not in validate([root], tmp_path / "out")
    told = validate([root], tmp_path / "out", measured=True)
    assert "1 base, 1 half prompt, 1 full prompt, 1 disposition, 1 neutral" in told
    (folder,) = half_folders(root, read_manifest(root)).values()
    made = (folder / SCORES).stat().st_mtime_ns
    assert validate([root], tmp_path / "out", measured=True) == told
    assert (folder / SCORES).stat().st_mtime_ns == made


def test_a_real_run_is_read_whole(tiny_run: Path, tmp_path: Path) -> None:
    validate([tiny_run], tmp_path)
    found = Validity.model_validate_json((tmp_path / RESULTS).read_text())
    read = {line.claim for line in found.lines}
    assert {"knows_when", "holds_under_pressure", "carries_over", "keeps_its_abilities"} <= read
    assert "acts_as_it_speaks" not in read  # a correlation, and no mean over items
    assert {(bias.claim, bias.readout) for bias in found.biases} >= {("prefers_its_own_traits", "position")}
