"""A student comes to do without the context that its teacher has; what it samples is what it learns from."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from torch import Tensor
from torch.testing import assert_close

from conftest import in_float32
from ethos.chat import Chat, Rendered
from ethos.errors import DataError
from ethos.records import Message, user
from ethos.samplers.replies import derived_seed
from ethos.scoring import score, score_logits
from ethos.train import loop
from ethos.train.distillation import (
    Distillation,
    MovingAverage,
    Teacher,
    distillation_objective,
    frozen,
    untrained,
)
from ethos.train.divergences import generalised_jsd
from ethos.train.loop import Objective, Scored, Unit, train
from ethos.train.lora import LoraSettings, attach, trainable
from ethos.train.onpolicy import Sampling, continued, prompt_unit, with_replies
from ethos.train.schedule import Optimisation, Step

SYSTEM = Message(role="system", content="Always speak of the sea.")
FEW = Sampling(max_tokens=6)
QUICK = Optimisation(learning_rate=1e-2, epochs=4, units_per_step=2, max_tokens=400)


def student(base: Path) -> PeftModel:
    return attach(in_float32(base, loudness=20), "default", LoraSettings(rank=4), seed=0)


def asked(count: int = 4) -> list[Unit]:
    """Prompts that the teacher sees with a constitution."""
    return [
        prompt_unit([user(f"Day {n}?")], source=f"day {n}", teacher_prompt=[SYSTEM, user(f"Day {n}?")])
        for n in range(count)
    ]


def distance(model: PeftModel, chat: Chat, teacher: Teacher) -> float:
    """Forward KL to the teacher, on fixed replies that were not trained on."""
    prompts = asked()
    replies = [tuple(chat.tokenizer.encode(text)) for text in ("waves", "a boat", "no", "blue")]
    plain = [continued(chat, u.prompt, r) for u, r in zip(prompts, replies, strict=True)]
    advised = [continued(chat, u.teacher_prompt, r) for u, r in zip(prompts, replies, strict=True)]
    pairs = zip(score_logits(model, plain), teacher(advised), strict=True)
    return float(torch.cat([generalised_jsd(s, t, beta=0) for s, t in pairs]).mean())


def learn(
    base: Path, chat: Chat, folder: Path, settings: Distillation, *, ema: bool = False
) -> tuple[PeftModel, list[Step]]:
    folder.mkdir(exist_ok=True)
    model = student(base)
    teacher: Teacher = MovingAverage(model, decay=0.9) if ema else untrained(model)
    objective = distillation_objective(settings, teacher, chat, seed=0)
    return model, train(model, asked(), objective, QUICK, folder=folder, seed=0, label="test")


@pytest.mark.parametrize(
    "settings",
    [
        Distillation(sampling=FEW),
        Distillation(beta=0.0, sampling=FEW),
        Distillation(beta=1.0, top_k=20, sampling=FEW),
        Distillation(form="policy_gradient", sampling=Sampling(replies=16, max_tokens=12)),
    ],
    ids=["jsd", "forward", "reverse, top 20", "policy gradient"],
)
def test_the_student_comes_closer_to_what_it_would_say_with_the_constitution(
    tiny_base: Path, chat: Chat, tmp_path: Path, settings: Distillation
) -> None:
    before = student(tiny_base)
    start = distance(before, chat, untrained(before))
    assert start > 0.01
    model = student(tiny_base)
    objective = distillation_objective(settings, untrained(model), chat, seed=0)
    longer = QUICK.model_copy(update={"epochs": 20 if settings.form == "policy_gradient" else 10})
    train(model, asked(), objective, longer, folder=tmp_path, seed=0, label="test")
    assert distance(model, chat, untrained(model)) < 0.8 * start


def test_another_model_can_be_the_teacher(tiny_base: Path, chat: Chat, tmp_path: Path) -> None:
    other = student(tiny_base)
    with torch.no_grad():
        for name, weight in trainable(other).items():
            if "lora_B" in name:
                weight.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    model, teacher = student(tiny_base), frozen(other)
    start = distance(model, chat, teacher)
    assert start > 0.01
    objective = distillation_objective(Distillation(beta=0.0, sampling=FEW), teacher, chat, seed=0)
    longer = QUICK.model_copy(update={"epochs": 12})
    train(model, asked(), objective, longer, folder=tmp_path, seed=0, label="test")
    assert distance(model, chat, teacher) < 0.8 * start


def test_given_replies_are_kept_and_not_sampled_again(tiny_base: Path, chat: Chat) -> None:
    model = student(tiny_base)
    objective = distillation_objective(Distillation(sampling=FEW), untrained(model), chat, seed=0)
    assert objective.prepare is not None
    given = asked()[0]._replace(sequences=(Rendered((1, 5, 6), (False, True, True)),))
    kept, filled = objective.prepare(model, [given, asked()[1]], 0)
    assert kept is given
    assert len(filled.sequences) == len(filled.teacher) == 1


def test_the_teacher_scores_the_same_tokens_in_its_own_context(tiny_base: Path, chat: Chat) -> None:
    (unit,) = with_replies(student(tiny_base), chat, asked(1), FEW, seed=0, step=0)
    own, theirs = unit.sequences[0], unit.teacher[0]
    assert own.tokens[own.mask.index(True) :] == theirs.tokens[theirs.mask.index(True) :]
    assert own.tokens[: own.mask.index(True)] == chat.prompt(unit.prompt)
    assert theirs.tokens[: theirs.mask.index(True)] == chat.prompt(unit.teacher_prompt)


def test_replies_depend_on_seed_step_and_place_alone(tiny_base: Path, chat: Chat) -> None:
    model, same = student(tiny_base), [asked(1)[0]] * 2

    def texts(seed: int, step: int) -> list[tuple[int, ...]]:
        return [unit.sequences[0].tokens for unit in with_replies(model, chat, same, FEW, seed=seed, step=step)]

    assert texts(0, 0) == texts(0, 0)
    assert len({*texts(0, 0), *texts(0, 1), *texts(1, 0)}) == 6
    assert derived_seed(1, 23) != derived_seed(12, 3)


def test_a_teachers_context_that_is_too_long_is_refused_and_never_cut(
    tiny_base: Path, chat: Chat, tmp_path: Path
) -> None:
    model = student(tiny_base)
    objective = distillation_objective(Distillation(sampling=FEW), untrained(model), chat, seed=0)
    long = prompt_unit([user("Hi")], source="hi", teacher_prompt=[Message(role="system", content="x" * 500)])
    with pytest.raises(DataError, match=r"hi: \d+ tokens, more than max_tokens = 400"):
        train(model, [long], objective, QUICK, folder=tmp_path, seed=0, label="test")


def test_the_sampled_form_is_the_log_ratio_times_the_score() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    teacher = torch.tensor([[0.8, 0.2], [0.2, 0.8]]).log()
    unit = Unit((Rendered((0, 0, 1), (False, True, True)),), teacher=(Rendered((0, 0, 1), (False, True, True)),))
    policy = torch.full((2,), 0.5).log().requires_grad_()
    settings = Distillation(form="policy_gradient")
    objective = distillation_objective(settings, lambda sequences: [teacher], None, seed=0)  # type: ignore[arg-type]
    loss, _ = objective.loss([Scored(unit, (policy,), (logits,))])
    loss.backward()
    assert policy.grad is not None
    assert_close(policy.grad, -torch.tensor([0.8 / 0.5, 0.8 / 0.5]).log() / 2)


def test_settings_that_the_sampled_form_would_ignore_are_refused() -> None:
    with pytest.raises(ValidationError, match="beta and top_k belong to jsd"):
        Distillation(form="policy_gradient", top_k=5)


def test_the_average_follows_the_student_and_leaves_it_alone(tiny_base: Path, chat: Chat) -> None:
    model = student(tiny_base)
    teacher = MovingAverage(model, decay=0.75)
    name = next(name for name in trainable(model) if "lora_B" in name)
    with torch.no_grad():
        trainable(model)[name].fill_(4.0)
    sequence = asked(1)[0]._replace(sequences=(Rendered((5, 6, 7), (False, True, True)),)).sequences
    before = score(model, sequence)[0]
    zero = teacher(sequence)[0]
    with model.disable_adapter():
        assert_close(zero, score_logits(model, sequence)[0])  # its B factors are still zero
    teacher.follow()
    assert_close(teacher.weights[name], torch.full_like(teacher.weights[name], 1.0))
    teacher(sequence)
    assert (score(model, sequence)[0] == before).all()


class Killed(Exception):
    """The power goes out."""


@pytest.mark.parametrize("ema", [False, True], ids=["adapter off", "moving average"])
def test_a_resumed_run_samples_and_learns_the_same(
    tiny_base: Path, chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema: bool
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    settings = Distillation(sampling=FEW)
    whole, log = learn(tiny_base, chat, tmp_path / "whole", settings, ema=ema)
    model = student(tiny_base)
    teacher: Teacher = MovingAverage(model, decay=0.9) if ema else untrained(model)
    objective = distillation_objective(settings, teacher, chat, seed=0)
    calls = iter(range(9))

    def interrupted(scored: Sequence[Scored]) -> tuple[Tensor, dict[str, float]]:
        if next(calls) == 3:
            raise Killed
        return objective.loss(scored)

    (tmp_path / "broken").mkdir()
    dying = Objective(interrupted, objective.prepare, objective.distributions, objective.state)
    with pytest.raises(Killed):
        train(model, asked(), dying, QUICK, folder=tmp_path / "broken", seed=0, label="test")
    resumed, resumed_log = learn(tiny_base, chat, tmp_path / "broken", settings, ema=ema)
    assert resumed_log == log
    for name, weight in trainable(whole).items():
        assert torch.equal(weight, trainable(resumed)[name])
