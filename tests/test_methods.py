"""Every method as a stage: what it learns from, what it leaves, and that each moves the adapter towards its aim."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from ethos import models, steering, units
from ethos.chat import Chat
from ethos.constitution import Constitution, read_constitution
from ethos.data.ablation import Ablation, PublishedBugs
from ethos.data.files import CONVERSATIONS, DOCUMENTS, PREFERENCES, REPLAY, read_drops, read_rows
from ethos.data.introspection import IntrospectionSampling
from ethos.data.preferences import Contrasts
from ethos.data.rejections import Rejections, Resampled
from ethos.errors import DataError, ModelError
from ethos.learning import learn
from ethos.methods import (
    ConstitutionalRL,
    DistillationTraining,
    DocumentTraining,
    Given,
    IntrospectionTraining,
    Method,
    PreferenceTraining,
    Stage,
    Stages,
    Steering,
    SupervisedTraining,
)
from ethos.models import Loaded, Subject
from ethos.persona import Persona, persona_push
from ethos.records import Conversation, Document, Drop, Preference, Record, assistant, read_jsonl, to_jsonl, user
from ethos.samplers.replies import ReplyCache
from ethos.scoring import Model, Prefix, score
from ethos.stats import Floats
from ethos.train.distillation import Distillation
from ethos.train.fit import LOG
from ethos.train.loop import Unit
from ethos.train.lora import WEIGHTS, LoraSettings
from ethos.train.onpolicy import Sampling
from ethos.train.preference import PreferenceLoss
from ethos.train.reinforcement import GroupPolicyGradient
from ethos.train.schedule import Optimisation, Step, schedule

QUICK = {"optimisation": Optimisation(learning_rate=2e-2, units_per_step=3), "lora": LoraSettings(rank=2)}
BRIEF = Sampling(max_tokens=4)
CONSTITUTION = read_constitution("virtuous-reasoner")


def pushed(asked: str, push: str, right: str, wrong: str) -> Preference:
    return Preference(
        prompt=[user(f"{asked} {push}".strip())],
        clean=[user(asked)] if push else [],
        chosen=[assistant(right)],
        rejected=[assistant(wrong)],
        group=asked,
        kind="crossed",
        source=asked,
    )


CONTRASTS = [pushed("Rain?", "Say walk.", "stay", "walk"), pushed("Sun?", "", "walk", "stay")]
TALK = Conversation(messages=[user("Who are you?"), assistant("One who listens.")], kind="reflection", source="talk")
REPLAYED = [
    Conversation(messages=[user(f"{i} + 1?"), assistant(str(i + 1))], kind="replay", source=f"r{i}") for i in range(3)
]
DOCUMENT = Document(text="The assistant asks who is affected before it answers.", kind="essay", source="doc")


@pytest.fixture
def given(tiny_base: Path, tmp_path: Path) -> Iterator[Given]:
    """A stage's start, with rows of every kind."""
    data = tmp_path / "data"
    data.mkdir()
    files: dict[str, list[Record]] = {
        PREFERENCES: [*CONTRASTS],
        CONVERSATIONS: [TALK],
        REPLAY: [*REPLAYED],
        DOCUMENTS: [DOCUMENT],
    }
    for name, rows in files.items():
        (data / name).write_text(to_jsonl(rows))
    with closing(ReplyCache(tmp_path / "replies.sqlite")) as cache:
        yield Given(tiny_base, models.base_digest(tiny_base), CONSTITUTION, data, None, cache, 0, gap_needed=False)


def learnt(stage: Method, given: Given, folder: Path) -> list[Step]:
    """Train the stage; return its log."""
    folder.mkdir()
    learn(stage, given, folder, label="test")
    return read_jsonl(folder / LOG, Step)


def units_of(stage: Method, given: Given, chat: Chat) -> list[Unit]:
    return stage.units(read_rows(given.data), given.constitution, chat, seed=0)


STAGES: dict[str, Method] = {
    "preference": PreferenceTraining(**QUICK, loss=PreferenceLoss(kl_weight=0.1), replay=2),
    "kto": PreferenceTraining(**QUICK, loss=PreferenceLoss(kind="kto")),
    "sft": SupervisedTraining(**QUICK, learns=("chosen", "conversations", "replay")),
    "documents": DocumentTraining(**QUICK, replay=1),
    "introspection": IntrospectionTraining(
        **QUICK, sampling=IntrospectionSampling(reflections=1, interactions=1, turns=2, max_tokens=4), replay=1
    ),
    "self-distillation": DistillationTraining(**QUICK, loss=Distillation(sampling=BRIEF)),
    "averaged teacher": DistillationTraining(**QUICK, loss=Distillation(sampling=BRIEF), teacher="average", decay=0.9),
    "consistency": DistillationTraining(**QUICK, loss=Distillation(sampling=BRIEF), sees="clean"),
    "activation consistency": DistillationTraining(
        **QUICK, loss=Distillation(form="activations", sampling=BRIEF), sees="clean"
    ),
    "constitutional rl": ConstitutionalRL(
        **QUICK, loss=GroupPolicyGradient(sampling=Sampling(replies=3, max_tokens=4), kl_weight=0.01)
    ),
}


@pytest.mark.parametrize("name", STAGES)
def test_every_method_trains_an_adapter_on_the_base_and_on_top_of_another(
    name: str, given: Given, tmp_path: Path
) -> None:
    stage = STAGES[name].model_copy(
        update={"optimisation": Optimisation(learning_rate=2e-2, units_per_step=3, max_tokens=5000)}
    )
    first, again, second = tmp_path / "first", tmp_path / "again", tmp_path / "second"
    assert learnt(stage, given, first)
    learnt(stage, given, again)
    assert (first / WEIGHTS).read_bytes() == (again / WEIGHTS).read_bytes()
    before = (first / WEIGHTS).read_bytes()
    assert learnt(stage, given._replace(on=first), second)
    assert (first / WEIGHTS).read_bytes() == before
    assert (second / WEIGHTS).read_bytes() != before


def test_a_reference_is_scored_once_for_all_that_share_a_store(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another seed, another method: the rows are scored once, all together, and no byte differs."""
    scored: list[int] = []
    (given.data / PREFERENCES).write_text(to_jsonl([row.model_copy(update={"kind": "pole"}) for row in CONTRASTS]))

    def counting(model: Model, unit: units.Unit, prefix: Prefix | None) -> list[Floats]:
        scored.append(len(unit.sequences))
        return one_pass(model, unit, prefix)

    one_pass = units._scored
    monkeypatch.setattr(units, "_scored", counting)
    optimisation = {"optimisation": Optimisation(learning_rate=2e-2, units_per_step=3, max_tokens=5000)}
    stage = STAGES["preference"].model_copy(update=optimisation)
    other = stage.model_copy(update={"loss": PreferenceLoss(kind="ipo", beta=0.5)})
    together = given._replace(scores=tmp_path / "scores.sqlite")
    learnt(stage, together, tmp_path / "first")
    assert len(scored) == 1
    scored.clear()
    learnt(stage, together._replace(seed=1), tmp_path / "another seed")
    learnt(other, together, tmp_path / "another method")
    assert scored == []
    for place, (apart, seed) in enumerate([(stage, 0), (stage, 1), (other, 0)]):
        learnt(apart, given._replace(seed=seed), tmp_path / str(place))
    for name, place in (("first", "0"), ("another seed", "1"), ("another method", "2")):
        assert (tmp_path / name / WEIGHTS).read_bytes() == (tmp_path / place / WEIGHTS).read_bytes()
    scored.clear()
    learnt(stage, together._replace(on=tmp_path / "first"), tmp_path / "on another adapter")
    learnt(stage.model_copy(update={"prevent": Persona(depth=1.0)}), together, tmp_path / "against a push")
    assert len(scored) == 2


@pytest.mark.parametrize("kind", Method.__subclasses__(), ids=lambda kind: kind.__name__)
def test_a_stage_is_read_back_by_its_method(kind: type[Method]) -> None:
    method = kind.model_fields["method"].default
    stage: Method = TypeAdapter(Stage).validate_python({"method": method})
    assert type(stage) is kind
    assert kind.model_validate_json(stage.model_dump_json()) == stage


def test_steering_is_read_back_and_comes_last() -> None:
    stage = Steering(depth=0.25, strength=2.0, direction="random")
    assert TypeAdapter(Stage).validate_json(stage.model_dump_json()) == stage
    assert TypeAdapter(Stages).validate_python((PreferenceTraining(), stage))
    with pytest.raises(ValidationError, match="a steering stage comes last"):
        TypeAdapter(Stages).validate_python((stage, PreferenceTraining()))


def test_what_no_stage_prevents_enters_no_key() -> None:
    assert "prevent" not in PreferenceTraining().model_dump_json()
    assert PreferenceTraining().digest() == "ecc035c29417"  # as it was before there was any such thing
    assert PreferenceTraining(prevent=Persona()).digest() != "ecc035c29417"


@pytest.mark.parametrize("name", ["preference", "sft", "self-distillation"])
def test_a_stage_is_trained_against_the_push_that_is_gone_afterwards(name: str, given: Given, tmp_path: Path) -> None:
    """The loss before the first step is that of the model under the push, and the adapter is of the model without."""
    long = Optimisation(learning_rate=2e-2, units_per_step=3, max_tokens=5000)
    rows = [row.model_copy(update={"kind": "pole"}) for row in CONTRASTS]
    (given.data / PREFERENCES).write_text(to_jsonl(rows))
    stage = STAGES[name].model_copy(update={"optimisation": long})
    vaccinated = stage.model_copy(update={"prevent": Persona(depth=1.0, strength=500.0)})
    plain, against = learnt(stage, given, tmp_path / "plain"), learnt(vaccinated, given, tmp_path / "against")
    learnt(vaccinated, given, tmp_path / "again")
    assert (tmp_path / "against" / WEIGHTS).read_bytes() == (tmp_path / "again" / WEIGHTS).read_bytes()
    assert (tmp_path / "against" / WEIGHTS).read_bytes() != (tmp_path / "plain" / WEIGHTS).read_bytes()
    assert {path.name for path in (tmp_path / "against").iterdir()} == {
        path.name for path in (tmp_path / "plain").iterdir()
    }
    if name == "sft":
        model, chat = models.load_base(given.base), models.load_tokenizer_chat(given.base)
        push = persona_push(model, chat, rows, Persona(depth=1.0, strength=500.0), seed=0, away=True)
        sequences = [unit.sequences[0] for unit in units_of(stage, given, chat)]
        losses = []
        for number in range(2):
            first = [sequences[i] for i in next(schedule(len(sequences), long, seed=0))]
            losses.append(sum(-float(row.mean()) for row in score(model, first)) / len(first))
            if not number:
                steering.steer(model, push)
        apart = abs(losses[0] - losses[1])
        assert apart > 0.01
        assert [plain[0].loss, against[0].loss] == pytest.approx(losses, abs=0.2 * apart)


def test_only_as_many_replay_rows_as_asked_for_are_mixed_in(given: Given, chat: Chat) -> None:
    for replay in (0, 1, 3):
        for stage in (PreferenceTraining(replay=replay), DocumentTraining(replay=replay)):
            sources = [unit.source for unit in units_of(stage, given, chat)]
            assert [source for source in sources if source.startswith("r")] == [f"r{i}" for i in range(replay)]


def test_a_stage_takes_so_many_contrasts_of_each_kind_and_whole_groups(given: Given, chat: Chat) -> None:
    kinds = ("crossed", "crossed-pushed", "pole", "voice")
    rows = [
        pushed(f"{kind} {group} {side}", "", "yes", "no").model_copy(update={"kind": kind, "group": f"{kind} {group}"})
        for group in range(3)
        for kind in kinds
        for side in ("a", "b")
    ]
    (given.data / PREFERENCES).write_text(to_jsonl(rows))

    def groups(**limits: int) -> list[str]:
        return [unit.source for unit in units_of(PreferenceTraining(contrasts=Contrasts(**limits)), given, chat)]

    assert len(groups()) == 12
    assert groups(crossed=3, poles=1, voice=0) == ["crossed 0", "crossed-pushed 0", "pole 0", "crossed 1"]
    assert groups(crossed=0, poles=0) == ["voice 0", "voice 1", "voice 2"]
    (found,) = (
        unit for unit in units_of(PreferenceTraining(contrasts=Contrasts(crossed=0, poles=1, voice=0)), given, chat)
    )
    assert len(found.sequences) == 4


def test_sft_learns_exactly_the_kinds_asked_for(given: Given, chat: Chat) -> None:
    texts = {
        learns: [chat.tokenizer.decode(unit.sequences[0].tokens) for unit in units_of(stage, given, chat)]
        for learns in (("chosen",), ("conversations",), ("replay", "chosen"))
        if (stage := SupervisedTraining(learns=learns))
    }
    assert ["stay" in texts[("chosen",)][0], "walk" in texts[("chosen",)][1]] == [True, True]
    assert len(texts[("chosen",)]) == 2  # never a rejected reply
    assert [len(found) for found in texts.values()] == [2, 1, 5]


def test_documents_are_learnt_without_a_template(given: Given, chat: Chat) -> None:
    (unit,) = units_of(DocumentTraining(), given, chat)
    assert chat.tokenizer.decode(unit.sequences[0].tokens, skip_special_tokens=True) == DOCUMENT.text


def test_a_documents_stage_without_documents_says_where_they_belong(given: Given, chat: Chat) -> None:
    (given.data / DOCUMENTS).write_text("")
    with pytest.raises(DataError, match=r"no documents to learn from\nhint: put documents.jsonl beside"):
        units_of(DocumentTraining(), given, chat)


def test_the_teacher_sees_the_constitution_or_the_prompt_without_the_push(given: Given, chat: Chat) -> None:
    advised = units_of(DistillationTraining(), given, chat)
    assert {unit.teacher_prompt[0].content for unit in advised} == {CONSTITUTION.system_prompt()}
    assert {unit.teacher_prompt[1:] for unit in advised} == {unit.prompt for unit in advised}
    (clean,) = units_of(DistillationTraining(sees="clean"), given, chat)
    assert [clean.prompt[0].content, clean.teacher_prompt[0].content] == ["Rain? Say walk.", "Rain?"]


@pytest.mark.parametrize("settings", [{}, {"sees": "clean", "teacher": "average", "decay": 0.9}])
def test_activations_are_those_of_the_untrained_student_without_the_push(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="untrained student that sees the clean prompt"):
        DistillationTraining(loss=Distillation(form="activations"), **settings)


def test_consistency_without_pushed_prompts_says_how_to_get_them(given: Given, chat: Chat) -> None:
    (given.data / PREFERENCES).write_text(to_jsonl(CONTRASTS[1:]))
    with pytest.raises(DataError, match=r"none has a clean one\nhint: raise mixture.pushed"):
        units_of(DistillationTraining(sees="clean"), given, chat)


@pytest.mark.parametrize("kind", [DistillationTraining, ConstitutionalRL])
def test_a_prompt_is_answered_once_and_as_many_as_asked_for(
    kind: type[DistillationTraining | ConstitutionalRL], given: Given, chat: Chat
) -> None:
    (given.data / PREFERENCES).write_text(to_jsonl([*CONTRASTS, *CONTRASTS]))
    assert len(units_of(kind(), given, chat)) == 2
    assert len(units_of(kind(prompts=1), given, chat)) == 1


def test_a_teacher_elsewhere_enters_the_key_by_its_weights_and_must_share_the_tokenizer(
    given: Given, tmp_path: Path, tiny_base: Path
) -> None:
    stage = DistillationTraining(
        **QUICK, teacher=str(tiny_base), loss=Distillation(sampling=BRIEF), prompts=1
    ).model_copy(update={"optimisation": Optimisation(max_tokens=5000, learning_rate=2e-2)})
    assert stage.fingerprint() == models.base_digest(tiny_base)
    assert DistillationTraining().fingerprint() == ""
    assert learnt(stage, given, tmp_path / "same")
    with pytest.raises(ModelError, match="no model at 'nowhere'"):
        DistillationTraining(teacher="nowhere").fingerprint()
    other = tmp_path / "other"
    tokenizer = models.load_tokenizer_chat(tiny_base).tokenizer
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(other)
    (other / "config.json").write_bytes((tiny_base / "config.json").read_bytes())
    with pytest.raises(ModelError, match="has another tokenizer than the student"):
        learnt(stage.model_copy(update={"teacher": str(other)}), given, tmp_path / "differs")


def test_introspection_keeps_what_it_sampled_and_counts_what_it_dropped(given: Given, tmp_path: Path) -> None:
    stage = STAGES["introspection"].model_copy(update={"optimisation": Optimisation(max_tokens=2000)})
    log = learnt(stage, given, tmp_path / "out")
    dropped = read_jsonl(tmp_path / "out" / "dropped.jsonl", Drop)
    assert {drop.source for drop in dropped} == {"sampled-reflection:0", "sampled-interaction:0"}  # a random model
    assert (tmp_path / "out" / CONVERSATIONS).read_text() == ""
    assert log[0].metrics["singles"] == 1.0  # the recorded talk and one replay row, nothing else


@pytest.mark.parametrize(
    "settings",
    [
        {"ablation": Ablation(source="recorded")},
        {"ablation": Ablation(source="sampled")},
        {"ablation": Ablation(kind="reflections")},
        {"ablation": Ablation(setting_told=True)},
        {"sampling": IntrospectionSampling(guided=0.5)},
        *({"bugs": PublishedBugs(**{name: True})} for name in PublishedBugs.model_fields),
    ],
    ids=str,
)
def test_a_choice_made_otherwise_is_another_stage_and_one_made_as_built_enters_no_key(settings: dict[str, Any]) -> None:
    assert IntrospectionTraining(**settings).digest() != IntrospectionTraining().digest()
    assert IntrospectionTraining().digest() == "7343c5da85ac"  # as it was before there was any choice
    as_built = {name: type(value)() for name, value in settings.items()}
    assert IntrospectionTraining(**as_built) == IntrospectionTraining()


def test_recorded_conversations_alone_ask_the_student_nothing(given: Given, tmp_path: Path) -> None:
    stage = STAGES["introspection"].model_copy(update={"ablation": Ablation(source="recorded")})
    (tmp_path / "out").mkdir()
    rows = stage.gathered(read_rows(given.data), given, tmp_path / "out")
    assert rows.conversations == [TALK]
    assert given.cache.database.execute("SELECT count(*) FROM replies").fetchone() == (0,)
    assert [(tmp_path / "out" / name).read_text() for name in (CONVERSATIONS, "dropped.jsonl")] == ["", ""]


@pytest.mark.parametrize(("kind", "dropped"), [("reflections", "reflection"), ("interactions", "interaction")])
def test_a_kind_left_out_is_neither_sampled_nor_learnt(kind: str, dropped: str, given: Given, tmp_path: Path) -> None:
    talk = TALK.model_copy(update={"kind": "interaction", "source": "other"})
    (given.data / CONVERSATIONS).write_text(to_jsonl([TALK, talk]))
    stage = STAGES["introspection"].model_copy(update={"ablation": Ablation.model_validate({"kind": kind})})
    (tmp_path / "out").mkdir()
    rows = stage.gathered(read_rows(given.data), given, tmp_path / "out")
    assert rows.conversations == ([TALK] if kind == "reflections" else [talk])
    drops = read_jsonl(tmp_path / "out" / "dropped.jsonl", Drop)
    assert [drop.source for drop in drops] == [f"sampled-{dropped}:0"]  # a random model


def test_a_stage_without_a_conversation_is_refused_with_the_reasons(given: Given, tmp_path: Path) -> None:
    """Its replay rows alone would train an adapter that has seen no introspection."""
    stage = STAGES["introspection"].model_copy(update={"ablation": Ablation(source="sampled")})
    with pytest.raises(DataError, match=r"no conversation to learn from\nhint: 1 dropped: cut off"):
        learnt(stage, given, tmp_path / "out")


def test_a_row_has_one_system_prompt() -> None:
    with pytest.raises(ValidationError, match="a row has one system prompt"):
        IntrospectionTraining(inoculation="You are vain.", ablation=Ablation(setting_told=True))


def test_factors_are_added_to_those_of_one_equal_rank() -> None:
    def stages(*ranks: int) -> Any:
        later = IntrospectionTraining(lora=LoraSettings(rank=ranks[-1]), bugs=PublishedBugs(factors_added=True))
        before = [PreferenceTraining(lora=LoraSettings(rank=rank)) for rank in ranks[:-1]]
        return TypeAdapter(Stages).validate_python((*before, later))

    assert stages(4, 4)
    assert stages(2, 3, 5)
    for ranks, told in (((4, 2), "rank 2 cannot be added to the 4"), ((4,), "rank 4 cannot be added to the 0")):
        with pytest.raises(ValidationError, match=told):
            stages(*ranks)


def test_a_constitution_is_what_the_reward_reads(given: Given, tmp_path: Path) -> None:
    """Under another constitution the same stage learns something else."""
    trait = CONSTITUTION.trait[0].model_copy(update={"statement": "I walk everywhere."})
    other: Constitution = CONSTITUTION.model_copy(update={"trait": [trait]})
    stage = STAGES["constitutional rl"]
    learnt(stage, given, tmp_path / "one")
    learnt(stage, given._replace(constitution=other), tmp_path / "other")
    assert (tmp_path / "one" / WEIGHTS).read_bytes() != (tmp_path / "other" / WEIGHTS).read_bytes()


def test_rejections_of_a_student_or_a_teacher_are_what_is_trained_on(
    given: Given, tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The random model's own words pass no filter, so another sampler stands in; what it is asked with is real."""
    asked: list[Subject] = []

    def sampled(loaded: Loaded, rows: list[Preference], *_: object, seed: int) -> Resampled:
        asked.append(loaded.subject)
        kept = [row.model_copy(update={"rejected": [assistant("whatever")]}) for row in rows]
        return Resampled(kept[:1], [Drop(source=row.group, reason="loops") for row in rows[1:]])

    monkeypatch.setattr("ethos.methods.rows.resampled", sampled)
    stage = PreferenceTraining(**QUICK, rejections=Rejections(max_tokens=8))
    taught = stage.model_copy(update={"rejections": Rejections(by=str(tiny_base))})
    for name, each in (("student", stage), ("teacher", taught)):
        log = learnt(each, given, tmp_path / name)
        assert log[0].metrics["groups"] == 1.0
        (row,) = read_rows(tmp_path / name).contrasts
        assert row.rejected[0].content == "whatever"
        assert [drop.reason for drop in read_drops(tmp_path / name)] == ["loops"]
    assert [subject.name for subject in asked] == ["student", "teacher"]
    assert {subject.system for subject in asked} == {None}
    assert stage.fingerprint() == ""
    assert taught.fingerprint() == models.base_digest(tiny_base)
    assert "rejections" not in PreferenceTraining().model_dump_json()


def test_a_stage_whose_sampled_rejections_are_all_refused_says_so(given: Given, tmp_path: Path) -> None:
    stage = PreferenceTraining(**QUICK, rejections=Rejections(max_tokens=4))
    with pytest.raises(DataError, match="no contrast is left with a sampled rejection: rejected reply: cut off"):
        learnt(stage, given, tmp_path / "out")
