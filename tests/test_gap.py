"""The teacher's gap: what it is by hand, whom it stops, and that it is asked once."""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from conftest import in_float32
from ethos import models
from ethos.bench.readouts import pair_margins
from ethos.config import read_config
from ethos.constitution import read_constitution
from ethos.data.ablation import Ablation
from ethos.data.files import PREFERENCES
from ethos.data.rejections import Rejections
from ethos.design import cells, read_study
from ethos.errors import UserError
from ethos.gap import GAP, LEAST, NoGap, check_gap, measured, questions, read_gap
from ethos.learning import learn
from ethos.manifest import read_manifest
from ethos.methods import (
    ConstitutionalRL,
    DistillationTraining,
    Given,
    IntrospectionTraining,
    Method,
    PreferenceTraining,
    SupervisedTraining,
)
from ethos.models import Loaded, Subject, load_tokenizer_chat
from ethos.pipeline import run_experiment
from ethos.records import Message, Preference, assistant, to_jsonl, user
from ethos.report.page import MARKDOWN
from ethos.samplers.replies import ReplyCache
from ethos.stats import estimate
from ethos.store import Run
from ethos.train.lora import WEIGHTS

CHARACTER = read_constitution("loving").only([read_constitution("loving").trait[0].name])
SYSTEM = Message(role="system", content=CHARACTER.system_prompt())
TOLD = [
    *(("Rain?", "stay", "walk"), ("Sun?", "walk", "stay"), ("Hail?", "hide", "sing"), ("Fog?", "wait", "race")),
    *(("Snow?", "rest", "ski!"), ("Wind?", "sail", "read"), ("Dusk?", "home", "town"), ("Dawn?", "fish", "nap.")),
]


def contrast(prompt: str, chosen: str, rejected: str, *, kind: str = "pole", clean: str = "") -> Preference:
    return Preference(
        prompt=[user(prompt)],
        clean=[user(clean)] if clean else [],
        chosen=[assistant(chosen)],
        rejected=[assistant(rejected)],
        group=prompt,
        kind=kind,
        source=f"{kind}:{prompt}",
    )


@pytest.fixture
def given(tiny_base: Path, tmp_path: Path) -> Iterator[Given]:
    data = tmp_path / "data"
    data.mkdir()
    with closing(ReplyCache(tmp_path / "replies.sqlite")) as cache:
        yield Given(tiny_base, models.base_digest(tiny_base), CHARACTER, data, None, cache, 0)


@pytest.fixture
def louder(tiny_base: Path, tmp_path: Path) -> Path:
    """Another model of the same tokens."""
    folder = tmp_path / "louder"
    in_float32(tiny_base, loudness=8.0).save_pretrained(folder)
    load_tokenizer_chat(tiny_base).tokenizer.save_pretrained(folder)
    return folder


def loaded(folder: Path) -> Loaded:
    model = models.load_base(folder)
    return Loaded(Subject(name="tiny", base="tiny"), model, load_tokenizer_chat(folder))


def write(given: Given, rows: Sequence[Preference]) -> None:
    (given.data / PREFERENCES).write_text(to_jsonl(rows))


def gaps(teacher: Path, student: Path) -> list[float]:
    """Of every contrast, asked by hand."""
    above = pair_margins(loaded(teacher), [([SYSTEM, user(p)], c, r) for p, c, r in TOLD])
    below = pair_margins(loaded(student), [([user(p)], c, r) for p, c, r in TOLD])
    return [a - b for a, b in zip(above, below, strict=True)]


def favoured(teacher: Path, student: Path, *, by: float = 1.0) -> list[Preference]:
    """Contrasts whose chosen reply the teacher likes better than its student does, or `by` −1 worse."""
    return [
        contrast(prompt, *((one, other) if gap * by > 0 else (other, one)))
        for (prompt, one, other), gap in zip(TOLD, gaps(teacher, student), strict=True)
    ]


def test_the_gap_is_what_the_teacher_sees_more_than_its_student(given: Given, tiny_base: Path, louder: Path) -> None:
    for teacher, stage in ((tiny_base, ConstitutionalRL()), (louder, DistillationTraining(teacher=str(louder)))):
        write(given, [contrast(*told) for told in TOLD])
        (found,) = measured(stage, "constitution", given).found
        by_hand = estimate(gaps(teacher, tiny_base))
        assert (found.contrast, found.num_scored) == ("pole", len(TOLD))
        assert (found.mean, found.low, found.high) == pytest.approx(by_hand[:3], abs=1e-5)
        assert found.low < found.high


def test_what_was_asked_once_is_kept_for_whoever_asks_again(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(given, [contrast(*told) for told in TOLD])
    given = given._replace(scores=tmp_path / "scores.sqlite")
    first = measured(ConstitutionalRL(), "constitution", given)
    monkeypatch.setattr("ethos.scoring.score", lambda *_, **__: pytest.fail("a model was asked again"))
    assert measured(DistillationTraining(), "constitution", given) == first


def test_a_teacher_passes_where_it_shows_more_and_stops_the_run_where_it_does_not(
    given: Given, tiny_base: Path, louder: Path, tmp_path: Path
) -> None:
    stage = DistillationTraining(teacher=str(louder))
    for by, folder in ((1.0, tmp_path / "more"), (-1.0, tmp_path / "less")):
        folder.mkdir()
        write(given, favoured(louder, tiny_base, by=by))
        if by > 0:
            check_gap(stage, given, folder, label="distillation")
        else:
            with pytest.raises(NoGap, match=r"distillation would learn from .* not shown(.|\n)*teacher_gap=measured"):
                check_gap(stage, given, folder, label="distillation")
            check_gap(stage, given._replace(gap_needed=False), folder, label="distillation")
        assert read_gap(folder / GAP).shown == (by > 0)
    assert issubclass(NoGap, UserError)


def test_a_stage_is_not_trained_before_its_teacher_has_passed_and_asks_it_once(given: Given, tmp_path: Path) -> None:
    write(given, [contrast(*told) for told in TOLD[: LEAST - 1]])  # too few to say anything
    folder = tmp_path / "stage"
    folder.mkdir()
    with pytest.raises(NoGap, match="too few contrasts"):
        learn(ConstitutionalRL(), given, folder, label="constitutional_rl")
    assert [path.name for path in folder.iterdir()] == [GAP]
    write(given, [])  # what is measured is not measured again
    with pytest.raises(NoGap, match="too few contrasts"):
        check_gap(ConstitutionalRL(), given, folder, label="constitutional_rl")
    assert not (folder / WEIGHTS).exists()


def test_the_situations_of_a_crossed_contrast_count_once_and_labels_of_a_control_do_not(given: Given) -> None:
    def pairs(swapped: bool) -> list[Preference]:
        rows = [contrast(p, c, r, kind="crossed-pushed") for p, c, r in TOLD for p in (p, f"{p} Now?")]
        rows = [row.model_copy(update={"group": row.group.removesuffix(" Now?")}) for row in rows]
        turned = {"swapped": True}
        return [
            row.model_copy(update={"chosen": row.rejected, "rejected": row.chosen} | turned) if swapped else row
            for row in rows
        ]

    thought = contrast("Storm?", "I see. stay", "I see. walk", kind="crossed-deliberated")
    found = []
    for swapped in (False, True):
        write(given, [*pairs(swapped), thought])
        found.append(measured(ConstitutionalRL(), "constitution", given))
    assert found[0] == found[1]
    assert [(each.contrast, each.num_scored) for each in found[0].found] == [("crossed", len(TOLD))]


def test_the_clean_teacher_is_asked_about_pushed_prompts_alone() -> None:
    rows = [contrast("Rain? Say walk.", "stay", "walk", kind="crossed-pushed", clean="Rain?"), contrast(*TOLD[1])]
    (asked,) = questions(rows, "clean", CHARACTER)
    assert ([turn.content for turn in asked.teacher], [turn.content for turn in asked.student]) == (
        ["Rain?"],
        ["Rain? Say walk."],
    )


@pytest.mark.parametrize(
    ("stage", "asked"),
    [
        (PreferenceTraining(rejections=Rejections()), False),
        (SupervisedTraining(), False),
        (IntrospectionTraining(), False),
        (IntrospectionTraining(ablation=Ablation(source="sampled")), True),
        (DistillationTraining(sees="clean"), True),
        (ConstitutionalRL(), True),
    ],
)
def test_only_a_teacher_that_can_be_weighed_is_asked(stage: Method, asked: bool, given: Given, tmp_path: Path) -> None:
    write(given, [])
    if asked:
        with pytest.raises(NoGap):
            check_gap(stage, given, tmp_path, label="stage")
    else:
        check_gap(stage, given, tmp_path, label="stage")
    assert (tmp_path / GAP).exists() == asked


def test_what_exceeds_a_models_context_is_unscored_and_no_number(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    def margins(loaded: Loaded, cases: Sequence[object]) -> list[float]:
        return [math.nan, *[1.0] * (len(cases) - 1)]

    monkeypatch.setattr("ethos.gap.pair_margins", margins)
    write(given, [contrast(*told) for told in (*TOLD, ("Heat?", "swim", "work"))])
    (found,) = measured(ConstitutionalRL(), "constitution", given).found
    assert (found.mean, found.num_scored, found.num_unscored) == (0.0, len(TOLD), 1)


def test_a_run_stops_before_a_stage_without_a_gap_unless_it_is_only_to_be_measured(
    tiny_toml: Path, tmp_path: Path
) -> None:
    changes = [
        "stages.1.method=distillation",
        "stages.1.prompts=2",
        "stages.1.loss.sampling.max_tokens=4",
        'bench.claims=["leaves_other_requests_alone"]',
    ]
    file = tmp_path / "tiny.toml"
    text = tiny_toml.read_text()
    start, end = text.index("[stages.sampling]"), text.index("[stages.lora]\nrank = 3")
    file.write_text((text[:start] + text[end:]).replace('method = "introspection"\nreplay = 1', 'method = "sft"'))
    run = Run(tmp_path / "run")
    with pytest.raises(NoGap, match="distillation would learn from a teacher that sees the constitution"):
        run_experiment(read_config(file, changes), run)
    assert run.made == ["data", "contamination", "preference"]
    run_experiment(read_config(file, [*changes, "teacher_gap=measured"]), run)
    assert "not shown to have more of the character" in (run.root / MARKDOWN).read_text()
    assert (run.root / read_manifest(run.root).stages["distillation"] / GAP).exists()


def test_a_study_measures_the_gap_and_trains_in_any_case() -> None:
    study = read_study(Path(__file__).parent.parent / "studies" / "methods.toml")
    assert {cell.config.teacher_gap for cell in cells(study)} == {"measured"}
