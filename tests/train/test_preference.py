"""The preference objectives by hand, on a tiny model, and as sums that packs may split."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sample_rows import contrast, crossed
from torch import Tensor
from torch.testing import assert_close

from conftest import in_float32
from ethos.chat import Chat, Rendered
from ethos.scoring import score
from ethos.train.loop import Scored, Unit, train, with_reference
from ethos.train.lora import LoraSettings, attach
from ethos.train.preference import (
    PreferenceLoss,
    _reply_to,
    preference_objective,
    preference_units,
    with_baseline,
)
from ethos.train.schedule import Optimisation


def scored(policy: list[list[float]], reference: list[list[float]] | None = None, *, baseline: float = 0.0) -> Scored:
    """A unit whose sequences have these per-token log-probabilities."""
    sequences = tuple(Rendered((0,) * (len(row) + 1), (False,) + (True,) * len(row)) for row in policy)
    unit = Unit(sequences, tuple(torch.tensor(row) for row in reference or []), baseline=baseline)
    return Scored(unit, tuple(torch.tensor(row, requires_grad=True) for row in policy))


def test_rows_of_one_group_are_one_unit_of_chosen_and_rejected_by_turns(chat: Chat) -> None:
    rows = [
        contrast("Rain?", "stay", "walk", group="g1"),
        contrast("Lie?", "no", "yes", group="g2"),
        contrast("Sun?", "walk", "stay", group="g1"),
    ]
    units = preference_units(rows, chat)
    assert [unit.source for unit in units] == ["g1", "g2"]
    texts = [[chat.tokenizer.decode(s.tokens[-8:]) for s in unit.sequences] for unit in units]
    assert ["stay" in text for text in texts[0]] == [True, False, False, True]
    assert ["walk" in text for text in texts[0]] == [False, True, True, False]
    assert len(texts[1]) == 2


def test_the_objective_of_contrasts_and_conversations_by_hand() -> None:
    weights = PreferenceLoss(beta=0.5, nll_weight=0.1, kl_weight=0.01, sft_weight=2.0)
    contrast = scored([[-1.0, -1.0], [-4.0]], [[-2.0, -1.0], [-3.0]])  # margin (−2 + 3) − (−4 + 3) = 2
    talk = scored([[-3.0, -5.0]], [[-3.0, -5.0]])
    preference = math.log(1 + math.exp(-0.5 * 2))
    kl = (0.5 * 0.5 + 0.5 * 1.0) / 2  # ½ · mean(1, 0), then ½ · 1
    loss, metrics = preference_objective(weights).loss([contrast, talk])
    assert_close(loss.item(), preference + 0.1 * 1.0 + 0.01 * kl + 2.0 * 4.0)
    assert metrics == pytest.approx({"margin": 2.0, "groups": 1.0, "nll": 4.0, "singles": 1.0})


def test_the_objective_adds_the_two_pairs_of_a_crossed_unit() -> None:
    weights = PreferenceLoss(beta=1.0, nll_weight=0.0)
    reference = [[-3.0]] * 4
    crossed = scored([[-1.0], [-2.0], [-4.0], [-2.0]], reference)  # margins 1 and −2
    loss, metrics = preference_objective(weights).loss([crossed])
    assert_close(loss.item(), math.log(1 + math.exp(1.0)))
    assert metrics["margin"] == pytest.approx(-1.0)


KINDS = [
    PreferenceLoss(),
    PreferenceLoss(kl_weight=0.3),
    PreferenceLoss(length_normalised=True),
    PreferenceLoss(kind="ipo"),
    PreferenceLoss(kind="simpo", beta=2.0, gamma=0.5),
    PreferenceLoss(kind="orpo", beta=1.0),
    PreferenceLoss(kind="kto"),
]


@given(split=st.integers(1, 3), weights=st.sampled_from(KINDS))
def test_the_objective_is_a_sum_so_that_packs_may_split_a_step(split: int, weights: PreferenceLoss) -> None:
    units = [
        scored([[-1.0], [-2.0, -1.0]], [[-1.5], [-1.0, -1.0]]),
        scored([[-2.0]], [[-1.0]]),
        scored([[-3.0], [-1.0], [-1.0], [-5.0]], [[-2.0]] * 4),
        scored([[-4.0, -6.0]], [[-4.0, -5.0]]),
    ]
    objective = preference_objective(weights)

    def total(parts: list[list[Scored]]) -> Tensor:
        return torch.stack([objective.loss(part)[0] for part in parts]).sum()

    assert_close(total([units[:split], units[split:]]), total([units]))


def test_a_reference_free_loss_takes_the_policys_own_margin() -> None:
    weights = PreferenceLoss(beta=0.5, nll_weight=0.0, reference_free=True)
    policy = [[-1.0, -1.0], [-6.0]]  # margin −2 + 6
    without, beside = (
        preference_objective(weights).loss([unit]) for unit in (scored(policy), scored(policy, [[-9.0] * 2, [0.0]]))
    )
    assert_close(without[0].item(), math.log(1 + math.exp(-0.5 * 4)))
    assert without[0].item() == beside[0].item()
    assert without[1]["margin"] == pytest.approx(4.0)


def test_replay_rows_are_held_where_the_reference_had_them() -> None:
    weights = PreferenceLoss(reference_free=True, kl_weight=0.5, sft_weight=2.0)
    loss, _ = preference_objective(weights).loss([scored([[-3.0, -5.0]], [[-1.0, -5.0]])])
    assert_close(loss.item(), 2.0 * 4.0 + 0.5 * (0.5 * 4.0 / 2))


def test_a_reference_free_margin_may_be_held_near_a_reference() -> None:
    weights = PreferenceLoss(beta=0.5, nll_weight=0.0, reference_free=True, kl_weight=0.1)
    assert weights.needs_reference
    loss, metrics = preference_objective(weights).loss([scored([[-1.0, -1.0], [-6.0]], [[-1.0, -1.0], [-4.0]])])
    assert metrics["margin"] == pytest.approx(4.0)  # the policy's own, not 2
    assert_close(loss.item(), math.log(1 + math.exp(-2.0)) + 0.1 * (0.0 + 2.0) / 2)


POLICY, REFERENCE = [[-1.0, -3.0], [-4.0]], [[-2.0, -3.0], [-3.0]]  # sums −4, −4; −5, −3; means −2, −4


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (PreferenceLoss(kind="ipo", beta=0.25, nll_weight=0), (2.0 - 2.0) ** 2),
        (PreferenceLoss(kind="ipo", beta=0.5, nll_weight=0, length_normalised=True), (1.5 - 1.0) ** 2),
        (PreferenceLoss(length_normalised=True, beta=1, nll_weight=0), math.log(1 + math.exp(-1.5))),
        (PreferenceLoss(kind="simpo", beta=2, gamma=1, nll_weight=0), math.log(1 + math.exp(-(2 * 2 - 1)))),
        (PreferenceLoss(kind="kto", beta=0.5, nll_weight=0), 1 - 1 / (1 + math.exp(-0.5)) + 1 / (1 + math.exp(0.5))),
    ],
    ids=lambda value: value.kind if isinstance(value, PreferenceLoss) else "",
)
def test_each_kind_by_hand(weights: PreferenceLoss, expected: float) -> None:
    # ratios to the reference: chosen +1 in sum, +½ a token; rejected −1 both ways
    loss, metrics = preference_objective(weights).loss([scored(POLICY, REFERENCE)])
    assert_close(loss.item(), expected)
    assert metrics["margin"] == pytest.approx(2.0 if weights.needs_reference else 0.0)


def test_orpo_by_hand() -> None:
    policy = [[math.log(0.5)] * 2, [math.log(0.2)]]  # odds 1 and ¼
    loss, _ = preference_objective(PreferenceLoss(kind="orpo", beta=1, nll_weight=10)).loss([scored(policy)])
    assert_close(loss.item(), -math.log(4 / 5) + 10 * math.log(2))


def test_kto_takes_its_baseline_from_both_sides() -> None:
    objective = preference_objective(PreferenceLoss(kind="kto", beta=1.0, nll_weight=0))
    loss, _ = objective.loss([scored([[-1.0], [-1.0]], [[-3.0], [-3.0]], baseline=2.0)])
    assert_close(loss.item(), 1.0)  # ½ + ½: both replies sit at the baseline


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"kind": "dpo", "gamma": 0.5}, "gamma belongs to simpo"),
        ({"kind": "orpo", "reference_free": True}, "reference_free belongs to dpo"),
        ({"kind": "kto", "length_normalised": True}, "length_normalised belongs to dpo and ipo"),
    ],
)
def test_a_setting_that_its_kind_would_ignore_is_refused(settings: dict[str, object], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        PreferenceLoss.model_validate(settings)


@pytest.mark.parametrize("kind", ["dpo", "ipo", "simpo", "orpo", "kto"])
def test_a_tiny_model_learns_to_read_the_situation_by_every_kind(
    tiny_base: Path, chat: Chat, tmp_path: Path, kind: str
) -> None:
    beta = {"dpo": 0.5, "ipo": 0.2, "simpo": 5.0, "orpo": 1.0, "kto": 0.5}[kind]
    weights = PreferenceLoss.model_validate({"kind": kind, "beta": beta})
    rows = [row for name in ("Ann", "Bo", "Cy", "Di", "Ed", "Flo") for row in crossed(name)]
    model = attach(in_float32(tiny_base), "default", LoraSettings(rank=4), seed=0)
    units = preference_units(rows, chat)
    if weights.needs_reference:
        units = with_reference(model, units)
    settings = Optimisation(learning_rate=1e-2, epochs=25, units_per_step=3)
    train(model, units, preference_objective(weights), settings, folder=tmp_path, seed=0, label="test")
    (unseen,) = preference_units(crossed("Gus"), chat)
    a1, a2, b1, b2 = (float(logprobs_T.sum()) for logprobs_T in score(model, unseen.sequences))
    assert (a1 - a2) + (b1 - b2) > 1.0


def test_a_mismatched_reply_keeps_the_context_of_one_and_the_reply_of_the_other() -> None:
    one = Rendered((1, 2, 3, 4), (False, False, True, True))
    other = Rendered((5, 6, 7, 8, 9), (False, True, False, True, True))
    assert _reply_to(one, other) == Rendered((1, 2, 6, 8, 9), (False, False, True, True, True))


def test_the_baseline_is_zero_before_training_and_the_mean_ratio_after(tiny_base: Path, chat: Chat) -> None:
    model = attach(in_float32(tiny_base), "default", LoraSettings(rank=4), seed=0)
    units = preference_units(crossed("Ann") + crossed("Bo"), chat)
    assert [unit.baseline for unit in with_baseline(model, units, 0)] == [0.0, 0.0]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    crossed_over = [_reply_to(units[i].sequences[0], units[1 - i].sequences[0]) for i in (0, 1)]
    now = [float(logprobs_T.sum()) for logprobs_T in score(model, crossed_over)]
    with model.disable_adapter():
        before = [float(logprobs_T.sum()) for logprobs_T in score(model, crossed_over)]
    mean = (sum(now) - sum(before)) / 2
    assert abs(mean) > 0.01
    assert with_baseline(model, units, 0)[1].baseline == pytest.approx(max(0.0, mean), abs=1e-4)
