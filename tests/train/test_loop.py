"""The loop learns what is planted, refuses what would train nothing, and resumes to the same numbers."""

import random
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from pydantic import ValidationError
from sample_rows import contrast, crossed, talk
from torch import Tensor

from conftest import in_float32
from ethos import scoring
from ethos.chat import Chat, Rendered
from ethos.errors import ConfigError, DataError, ModelError
from ethos.models import Loaded, Subject
from ethos.records import Preference, user
from ethos.samplers.local import sample
from ethos.samplers.replies import ReplyCache, Request
from ethos.scoring import score
from ethos.steering import decoder_layers
from ethos.train import loop, lora
from ethos.train.loop import Objective, Scored, Unit, reached, train, with_reference
from ethos.train.lora import LoraSettings, attach, save, trainable
from ethos.train.preference import PreferenceLoss, preference_objective, preference_units
from ethos.train.schedule import Optimisation, Step, progress, rate, schedule
from ethos.train.supervised import conversation_units

OBJECTIVE = preference_objective(PreferenceLoss(beta=0.5))
QUICK = Optimisation(learning_rate=2e-2, epochs=5, units_per_step=3)


def fresh(base: Path, dtype: torch.dtype = torch.float32) -> PeftModel:
    return attach(in_float32(base).to(dtype), "default", LoraSettings(rank=4), seed=0)


def units_of(chat: Chat, model: PeftModel) -> list[Unit]:
    """Two crossed groups, three single pairs and two conversations, with reference log-probabilities."""
    rows = crossed("Ann") + crossed("Bo") + [contrast(f"{n}?", "yes", "no", group=f"pair {n}") for n in range(3)]
    talks = [talk("Hello", "Good day to you."), talk("And?", "And so on.")]
    return with_reference(model, preference_units(rows, chat)) + conversation_units(talks, chat)


def trained(base: Path, chat: Chat, folder: Path, settings: Optimisation = QUICK) -> tuple[PeftModel, list[Step]]:
    folder.mkdir(exist_ok=True)
    model = fresh(base)
    log = train(model, units_of(chat, model), OBJECTIVE, settings, folder=folder, seed=0, label="test")
    return model, log


def total(chat: Chat, model: PeftModel, row: Preference) -> float:
    """log p(chosen) − log p(rejected), nats."""
    chosen, rejected = score(model, [chat.render([*row.prompt, *reply]) for reply in (row.chosen, row.rejected)])
    return float(chosen.sum() - rejected.sum())


def test_a_tiny_model_learns_to_read_the_situation(tiny_base: Path, chat: Chat, tmp_path: Path) -> None:
    names = ["Ann", "Bo", "Cy", "Di", "Ed", "Flo"]
    rows = [row for name in names for row in crossed(name)]
    model = fresh(tiny_base)
    units = with_reference(model, preference_units(rows, chat))
    settings = Optimisation(learning_rate=1e-2, epochs=12, units_per_step=3)
    log = train(model, units, OBJECTIVE, settings, folder=tmp_path, seed=0, label="test")
    assert log[0].loss > 0.69
    assert log[-1].loss < 0.5 * log[0].loss
    margins = [total(chat, model, row) for row in crossed("Gus")]  # a name it never saw
    assert min(margins) > 1.0, margins


def test_a_tiny_model_learns_a_conversation_by_heart(tiny_base: Path, chat: Chat, tmp_path: Path) -> None:
    said = "I am well, thank you."
    model = attach(in_float32(tiny_base, loudness=30), "default", LoraSettings(rank=8), seed=0)
    settings = Optimisation(learning_rate=1e-2, epochs=60, units_per_step=1)
    units = conversation_units([talk("How are you?", said)], chat)
    log = train(model, units, OBJECTIVE, settings, folder=tmp_path, seed=0, label="test")
    assert log[-1].loss < 0.05 * log[0].loss
    cache = ReplyCache(tmp_path / "replies.sqlite")
    asked = Request(messages=[user("How are you?")], max_tokens=40, temperature=0)
    (reply,) = sample(Loaded(Subject(name="t", base="0"), model.eval(), chat), [asked], cache)
    cache.close()
    assert (reply.text, reply.finish) == (said, "stop")  # the end-of-turn token is learnt too


def test_recomputing_layers_on_the_way_back_changes_no_result(tiny_base: Path, chat: Chat, tmp_path: Path) -> None:
    model, log = trained(tiny_base, chat, tmp_path / "plain")
    frugal = QUICK.model_copy(update={"checkpointing": True})
    other, again = trained(tiny_base, chat, tmp_path / "frugal", frugal)
    assert again == log
    for name, weight in trainable(model).items():
        assert torch.equal(weight, trainable(other)[name])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_on_a_bfloat16_base_adapters_multiply_in_bfloat16_and_learn_in_float32(
    tiny_base: Path, chat: Chat, tmp_path: Path, checkpointing: bool
) -> None:
    multiplied, learnt = list[torch.dtype](), list[torch.dtype]()

    def step(name: str, dtype: torch.dtype) -> tuple[PeftModel, list[Step]]:
        model = fresh(tiny_base, dtype)
        for key, module in model.named_modules():
            if key.endswith("lora_A.default"):
                module.register_forward_hook(lambda _, read, said: multiplied.append(said.dtype))
        for weight in trainable(model).values():
            weight.register_hook(lambda grad: learnt.append(grad.dtype))
        settings = QUICK.model_copy(update={"checkpointing": checkpointing})
        return model, train(model, units, OBJECTIVE, settings, folder=tmp_path / name, seed=0, label="test")

    units = units_of(chat, fresh(tiny_base))
    _, exact = step("exact", torch.float32)
    assert set(multiplied) == set(learnt) == {torch.float32}
    del multiplied[:], learnt[:]
    model, rounded = step("rounded", torch.bfloat16)
    assert set(multiplied) == {torch.bfloat16}
    assert set(learnt) == {weight.dtype for weight in trainable(model).values()} == {torch.float32}
    assert [each.loss for each in rounded[:5]] == pytest.approx([each.loss for each in exact[:5]], abs=0.05)


def test_layers_are_entered_once_more_where_they_are_recomputed_and_only_there(tiny_base: Path, chat: Chat) -> None:
    model, entered = fresh(tiny_base), list[bool]()
    (packed,) = scoring.pack([chat.render(talk("Hello", "Good day.").messages)])
    attention = decoder_layers(model)[0].self_attn
    attention.register_forward_pre_hook(lambda *_: entered.append(attention.training))
    with loop.recomputing(model):
        scoring.token_logprobs(model, packed).sum().backward()
    assert entered == [False, False]  # what is inside a layer stays out of training mode: no dropout
    scoring.token_logprobs(model, packed).sum().backward()
    assert entered == [False] * 3


@given(count=st.integers(1, 40), per_step=st.integers(1, 10), epochs=st.integers(1, 4), seed=st.integers(0, 99))
def test_every_epoch_takes_every_unit_once(count: int, per_step: int, epochs: int, seed: int) -> None:
    steps = list(schedule(count, Optimisation(units_per_step=per_step, epochs=epochs), seed=seed))
    flat = [unit for step in steps for unit in step]
    assert [sorted(flat[e * count : (e + 1) * count]) for e in range(epochs)] == [list(range(count))] * epochs
    assert len(steps) == epochs * -(-count // per_step)
    assert all(1 <= len(step) <= per_step for step in steps)


def test_the_schedule_is_the_seeds_and_each_epoch_has_its_own_order() -> None:
    settings = Optimisation(units_per_step=30, epochs=2)
    first, second = schedule(30, settings, seed=1)
    assert first != second
    assert list(schedule(30, settings, seed=1)) == [first, second]
    assert list(schedule(30, settings, seed=2)) != [first, second]


def test_the_rate_warms_up_and_decays_to_a_tenth_by_hand() -> None:
    settings = Optimisation(learning_rate=1.0, warmup_fraction=0.4)
    expected = [0.25, 0.5, 0.75, 1.0] + [1 - 0.9 * k / 6 for k in (1, 2, 3, 4, 5, 6)]
    assert [rate(step, 10, settings) for step in range(10)] == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 1.0])
def test_a_run_of_one_step_has_its_full_rate(warmup: float) -> None:
    assert rate(0, 1, Optimisation(learning_rate=0.5, warmup_fraction=warmup)) == 0.5


def test_an_empty_data_set_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no units to train on"):
        train(fresh(tiny_base), [], OBJECTIVE, QUICK, folder=tmp_path, seed=0, label="test")


def test_an_example_without_a_trained_token_is_refused_by_name(tiny_base: Path, tmp_path: Path) -> None:
    mute = Unit((Rendered((1, 2, 3), (False,) * 3),), source="replay:r7")
    with pytest.raises(DataError, match="replay:r7: no token"):
        train(fresh(tiny_base), [mute], OBJECTIVE, QUICK, folder=tmp_path, seed=0, label="test")


def test_an_over_long_example_is_refused_by_name_and_never_cut(tiny_base: Path, tmp_path: Path) -> None:
    def unit(length: int) -> Unit:
        return Unit((Rendered((5,) * length, (False,) + (True,) * (length - 1)),), source=f"pole:p{length}")

    settings = Optimisation(max_tokens=20)
    train(fresh(tiny_base), [unit(20)], OBJECTIVE, settings, folder=tmp_path, seed=0, label="test")
    with pytest.raises(DataError, match="pole:p21: 21 tokens, more than max_tokens = 20"):
        train(fresh(tiny_base), [unit(20), unit(21)], OBJECTIVE, settings, folder=tmp_path, seed=0, label="test")


def test_a_loss_that_is_not_finite_names_step_and_rows_and_keeps_the_last_checkpoint(
    tiny_base: Path, chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    settings = Optimisation(units_per_step=1)
    units = conversation_units([talk(f"Question {n}", "Answer") for n in range(5)], chat)
    (third,) = list(schedule(5, settings, seed=0))[2]

    def poisoned(scored: Sequence[Scored]) -> tuple[Tensor, dict[str, float]]:
        loss, metrics = OBJECTIVE.loss(scored)
        return (loss * float("nan") if scored[0].unit.source == f"Question {third}" else loss), metrics

    with pytest.raises(ModelError, match=rf"loss is nan at step 3, rows Question {third}\n"):
        train(fresh(tiny_base), units, Objective(poisoned), settings, folder=tmp_path, seed=0, label="test")
    model = fresh(tiny_base)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert [step["step"] for step in state["log"]] == [1, 2]
    assert state["weights"].keys() == trainable(model).keys()
    assert all(weight.isfinite().all() for weight in state["weights"].values())


def test_a_gradient_that_is_not_finite_is_never_stepped_along(
    tiny_base: Path, chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cornered(scored: Sequence[Scored]) -> tuple[Tensor, dict[str, float]]:
        loss, metrics = OBJECTIVE.loss(scored)
        return loss + (loss - loss).sqrt(), metrics  # finite itself, with an infinite slope

    units = conversation_units([talk("Question", "Answer")], chat)
    model = fresh(tiny_base)
    before = {name: weight.detach().clone() for name, weight in trainable(model).items()}
    with pytest.raises(
        ModelError, match=r"gradient is not finite at step 1, rows Question\nhint: .*checkpoint\.pt keeps"
    ):
        train(model, units, Objective(cornered), QUICK, folder=tmp_path, seed=0, label="test")
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert all(torch.equal(kept["weights"][name], weight) for name, weight in before.items())
    assert kept["log"] == []


def exhausted(scored: Sequence[Scored]) -> tuple[Tensor, dict[str, float]]:
    """More than any machine has, asked of the real allocator."""
    return torch.empty(1 << 58).sum(), {}


def exhausted_accelerator(scored: Sequence[Scored]) -> tuple[Tensor, dict[str, float]]:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("loss", [exhausted, exhausted_accelerator])
@pytest.mark.parametrize("on_policy", [False, True])
def test_running_out_of_memory_names_the_settings_to_lower(
    tiny_base: Path,
    chat: Chat,
    tmp_path: Path,
    loss: Callable[[Sequence[Scored]], tuple[Tensor, dict[str, float]]],
    on_policy: bool,
) -> None:
    units = conversation_units([talk("Question", "Answer")], chat)
    objective = Objective(loss, (lambda model, units, step: list(units)) if on_policy else None)
    with pytest.raises(
        ModelError, match=r"out of memory: .*\nhint: lower optimisation\.pack_positions \(now 512\)"
    ) as e:
        train(fresh(tiny_base), units, objective, QUICK, folder=tmp_path, seed=0, label="test")
    assert ("units_per_step" in str(e.value)) == on_policy


def test_an_error_that_is_not_about_memory_keeps_its_traceback(tiny_base: Path, chat: Chat, tmp_path: Path) -> None:
    def broken(scored: Sequence[Scored]) -> tuple[Tensor, dict[str, float]]:
        return torch.ones(2) @ torch.ones(3), {}

    units = conversation_units([talk("Question", "Answer")], chat)
    with pytest.raises(RuntimeError, match="size"):
        train(fresh(tiny_base), units, Objective(broken), QUICK, folder=tmp_path, seed=0, label="test")


def test_the_result_does_not_depend_on_pack_positions(tiny_base: Path, chat: Chat, tmp_path: Path) -> None:
    small, small_log = trained(tiny_base, chat, tmp_path / "a", QUICK.model_copy(update={"pack_positions": 1}))
    large, large_log = trained(tiny_base, chat, tmp_path / "b", QUICK.model_copy(update={"pack_positions": 4096}))
    assert sum(step.tokens for step in small_log) > sum(step.tokens for step in large_log)  # it did pack otherwise
    assert [s.loss for s in small_log] == pytest.approx([s.loss for s in large_log], abs=1e-5)
    for one, other in zip(small_log, large_log, strict=True):
        assert one.metrics.get("margin", 0.0) == pytest.approx(other.metrics.get("margin", 0.0), abs=1e-4)
    sequences = [sequence for unit in units_of(chat, fresh(tiny_base)) for sequence in unit.sequences]
    for one_T, other_T in zip(score(small, sequences), score(large, sequences), strict=True):
        assert one_T == pytest.approx(other_T, abs=1e-4)


def test_the_same_seed_trains_the_same_bytes_and_another_does_not(tiny_base: Path, chat: Chat, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        model = fresh(tiny_base)
        train(model, units_of(chat, model), OBJECTIVE, QUICK, folder=tmp_path / name, seed=seed, label="test")
        save(model, "default", tmp_path / name, base="abc")
        weights.append((tmp_path / name / lora.WEIGHTS).read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


class Killed(Exception):
    """The power goes out."""


def killed_in_call(call: int) -> Objective:
    """The objective, until its `call`-th use."""
    calls = iter(range(1, call + 1))

    def loss(scored: Sequence[Scored]) -> tuple[Tensor, dict[str, float]]:
        if next(calls) == call:
            raise Killed
        return OBJECTIVE.loss(scored)

    return Objective(loss)


@pytest.mark.parametrize("seconds", [-1.0, 1e9], ids=["checkpoint after every step", "no checkpoint yet"])
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_an_interrupted_and_resumed_run_equals_the_uninterrupted_one(
    tiny_base: Path, chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, steps: int
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", seconds)
    whole, log = trained(tiny_base, chat, tmp_path / "whole")
    broken = tmp_path / "broken"
    broken.mkdir()
    model = fresh(tiny_base)
    with pytest.raises(Killed):
        train(
            model, units_of(chat, model), killed_in_call(steps + 1), QUICK, folder=broken, seed=0, label="test"
        )  # every step is one pack, so one call
    assert (broken / "checkpoint.pt").exists() == (seconds < 0 and steps > 0)
    resumed, resumed_log = trained(tiny_base, chat, broken)
    assert resumed_log == log
    for folder, adapted in ((tmp_path / "whole", whole), (broken, resumed)):
        save(adapted, "default", folder, base="abc")
    assert (broken / lora.WEIGHTS).read_bytes() == (tmp_path / "whole" / lora.WEIGHTS).read_bytes()


def test_a_resumed_run_does_not_repeat_finished_steps(
    tiny_base: Path, chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    _, log = trained(tiny_base, chat, tmp_path)  # its checkpoint is left: only a finished stage removes it
    model = fresh(tiny_base)
    units = units_of(chat, model)
    assert train(model, units, killed_in_call(1), QUICK, folder=tmp_path, seed=0, label="test") == log


def budgeted(tokens: int, **settings: int) -> Optimisation:
    return Optimisation(learning_rate=2e-2, units_per_step=3, tokens=tokens, **settings)


@given(tokens=st.integers(100, 3000), generated=st.integers(10, 900) | st.none(), seed=st.integers(0, 9))
def test_a_budget_ends_at_the_step_that_spends_it(tokens: int, generated: int | None, seed: int) -> None:
    """Any costs of the steps: nothing is begun once all is spent, and the rate ends at a tenth."""
    settings, costs, log = (
        budgeted(tokens).model_copy(update={"generated": generated}),
        random.Random(seed),
        list[Step](),
    )
    while (done := progress(log, 7, settings)) < (tokens, tokens):
        spent, sampled = costs.randint(1, 90), costs.randint(0, 9)
        log.append(Step(step=len(log) + 1, loss=0.0, metrics={}, tokens=1, spent=spent, generated=sampled))
        assert done[0] <= progress(log, 7, settings)[0] <= done[1] == tokens
    before = log[:-1]
    assert sum(step.spent for step in before) < tokens
    assert generated is None or sum(step.generated for step in before) < generated
    assert rate(done[0] - 1, tokens, settings) == pytest.approx(0.1 * settings.learning_rate)


def test_rows_repeat_until_a_budget_is_spent_whatever_the_packing(tiny_base: Path, chat: Chat, tmp_path: Path) -> None:
    _, once = trained(tiny_base, chat, tmp_path / "once", Optimisation(learning_rate=2e-2, units_per_step=3))
    cost = sum(step.spent for step in once)
    assert cost == sum(scoring.positions(unit.sequences) for unit in units_of(chat, fresh(tiny_base)))
    for tokens, epochs in ((cost // 2, 1), (cost, 1), (2 * cost + 1, 3)):
        logs = [
            trained(
                tiny_base,
                chat,
                tmp_path / f"{tokens}-{positions}",
                budgeted(tokens).model_copy(update={"pack_positions": positions}),
            )[1]
            for positions in (1, 4096)
        ]
        assert [step.spent for step in logs[0]] == [step.spent for step in logs[1]]
        assert sum(step.spent for step in logs[0][:-1]) < tokens <= sum(step.spent for step in logs[0])
        assert (len(logs[0]) + len(once) - 1) // len(once) == epochs


def test_a_budgeted_run_resumes_to_the_same_bytes(
    tiny_base: Path, chat: Chat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    settings = budgeted(1500)
    whole, log = trained(tiny_base, chat, tmp_path / "whole", settings)
    model = fresh(tiny_base)
    broken = tmp_path / "broken"
    broken.mkdir()
    with pytest.raises(Killed):
        train(model, units_of(chat, model), killed_in_call(4), settings, folder=broken, seed=0, label="test")
    resumed, resumed_log = trained(tiny_base, chat, broken, settings)
    assert resumed_log == log
    for folder, adapted in ((tmp_path / "whole", whole), (broken, resumed)):
        save(adapted, "default", folder, base="abc")
    assert (broken / lora.WEIGHTS).read_bytes() == (tmp_path / "whole" / lora.WEIGHTS).read_bytes()


@pytest.mark.parametrize("tokens", [300, 900, 5000])
def test_the_units_that_a_budget_reaches_are_known_before(
    tokens: int, tiny_base: Path, chat: Chat, tmp_path: Path
) -> None:
    settings, units = budgeted(tokens), units_of(chat, fresh(tiny_base))
    _, log = trained(tiny_base, chat, tmp_path, settings)
    steps = islice(schedule(len(units), settings, seed=0), len(log))
    assert reached(units, settings, seed=0) == sorted({place for step in steps for place in step})
    assert reached(units, QUICK, seed=0) == list(range(len(units)))


def test_a_budget_smaller_than_one_step_is_refused(tiny_base: Path, chat: Chat, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokens = 50 is less than one step takes: \d+ for 3 units\nhint: raise"):
        trained(tiny_base, chat, tmp_path, budgeted(50))


@pytest.mark.parametrize(
    ("settings", "message"), [({"tokens": 9, "epochs": 2}, "choose one"), ({"generated": 9}, "goes with")]
)
def test_two_ends_of_a_training_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Optimisation(**settings)


def test_a_budget_that_is_not_there_enters_no_key() -> None:
    assert {"tokens", "generated"}.isdisjoint(Optimisation().model_dump())
