"""Adapters: readable by plain PEFT, added exactly, and never inert, foreign or on the wrong weights."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from conftest import in_float32
from ethos.chat import Rendered
from ethos.errors import ModelError
from ethos.models import load_adapter
from ethos.train import lora
from ethos.train.loop import Optimisation, Unit, train
from ethos.train.lora import LoraSettings, add_exactly, attach, save, trainable
from ethos.train.preference import PreferenceLoss, preference_objective

TOKENS = torch.arange(40)[None] * 5 % 259


def logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(TOKENS).logits
    return out


def shake(model: PeftModel, name: str, *, seed: int) -> None:
    """Give an adapter a change large enough to see: B is zero at birth."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if f"lora_B.{name}." in key:
                weight.normal_(std=0.3)


def adapter(base: Path, folder: Path, settings: LoraSettings, *, seed: int, made_for: str = "abc") -> Path:
    """A shaken adapter on disk."""
    folder.mkdir()
    model = attach(in_float32(base), "default", settings, seed=seed)
    shake(model, "default", seed=seed)
    save(model, "default", folder, base=made_for)
    return folder


def change(folder: Path) -> dict[str, Tensor]:
    """What an adapter adds to each module: α/r · B A."""
    config, weights = json.loads((folder / lora.CONFIG).read_text()), load_file(folder / lora.WEIGHTS)
    return {
        key.removesuffix(".lora_A.weight"): config["lora_alpha"]
        / config["r"]
        * weights[key.replace("lora_A", "lora_B")]
        @ weights[key]
        for key in weights
        if "lora_A" in key
    }


@pytest.mark.parametrize("settings", [LoraSettings(rank=3), LoraSettings(rank=2, top_layers=1)])
def test_a_saved_adapter_loads_with_plain_peft_and_gives_the_same_logits(
    tiny_base: Path, tmp_path: Path, settings: LoraSettings
) -> None:
    model = attach(in_float32(tiny_base), "default", settings, seed=1)
    shake(model, "default", seed=1)
    save(model, "default", tmp_path, base="abc")
    plain = PeftModel.from_pretrained(in_float32(tiny_base), tmp_path).eval()
    assert_close(logits(plain), logits(model.eval()), rtol=0, atol=0)
    assert (logits(plain) - logits(in_float32(tiny_base))).abs().max() > 0.01


def test_a_later_adapter_is_saved_alone_and_under_no_name(tiny_base: Path, tmp_path: Path) -> None:
    model = attach(in_float32(tiny_base), "default", LoraSettings(rank=2), seed=1)
    attach(model, "later", LoraSettings(rank=3, top_layers=1), seed=2)
    shake(model, "default", seed=1)
    shake(model, "later", seed=2)
    save(model, "later", tmp_path, base="abc")
    keys = load_file(tmp_path / lora.WEIGHTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [lora.CONFIG, lora.WEIGHTS]
    assert all(key.startswith("base_model.model.model.layers.1.") for key in keys)
    assert all(key.endswith((".lora_A.weight", ".lora_B.weight")) for key in keys)
    assert {min(weight.shape) for weight in keys.values()} == {3}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LoraSettings(rank=2), LoraSettings(rank=2)),
        (LoraSettings(rank=2), LoraSettings(rank=5)),
        (LoraSettings(rank=4, top_layers=1), LoraSettings(rank=4, top_layers=1)),
        (LoraSettings(rank=3), LoraSettings(rank=2, top_layers=1)),
        (LoraSettings(rank=2, top_layers=1), LoraSettings(rank=3, top_layers=2)),
    ],
)
def test_the_sum_of_two_adapters_is_base_plus_both_changes(
    tiny_base: Path, tmp_path: Path, one: LoraSettings, other: LoraSettings
) -> None:
    first = adapter(tiny_base, tmp_path / "one", one, seed=1)
    second = adapter(tiny_base, tmp_path / "other", other, seed=2)
    merged = tmp_path / "sum"
    merged.mkdir()
    add_exactly(first, second, merged)
    both = PeftModel.from_pretrained(in_float32(tiny_base), first)
    both.load_adapter(str(second), "later")
    both.base_model.set_adapter(["default", "later"])
    summed = PeftModel.from_pretrained(in_float32(tiny_base), merged)
    assert_close(logits(summed.eval()), logits(both.eval()), rtol=0, atol=1e-5)
    for module, delta in change(merged).items():
        parts = [change(folder).get(module, torch.tensor(0.0)) for folder in (first, second)]
        assert_close(delta, parts[0] + parts[1], rtol=0, atol=1e-5)
    assert change(merged).keys() == change(first).keys() | change(second).keys()


def test_adding_the_factors_instead_would_be_off_by_more_than_half(tiny_base: Path, tmp_path: Path) -> None:
    """The published pipeline combined its two adapters so: (B₁ + B₂)(A₁ + A₂) has two terms too many."""
    folders = [adapter(tiny_base, tmp_path / str(seed), LoraSettings(rank=4), seed=seed) for seed in (1, 2)]
    weights = [load_file(folder / lora.WEIGHTS) for folder in folders]
    changes = [change(folder) for folder in folders]
    errors = []
    for module in changes[0]:
        key_a, key_b = f"{module}.lora_A.weight", f"{module}.lora_B.weight"
        factors = 2.0 * (weights[0][key_b] + weights[1][key_b]) @ (weights[0][key_a] + weights[1][key_a])
        exact = changes[0][module] + changes[1][module]
        errors.append(((factors - exact).norm() / exact.norm()).item())
    assert min(errors) > 0.5, errors


def test_adapters_of_different_bases_cannot_be_added(tiny_base: Path, tmp_path: Path) -> None:
    one = adapter(tiny_base, tmp_path / "one", LoraSettings(rank=2), seed=1, made_for="abc")
    other = adapter(tiny_base, tmp_path / "other", LoraSettings(rank=2), seed=2, made_for="xyz")
    with pytest.raises(ModelError, match="different bases"):
        add_exactly(one, other, tmp_path)


def test_an_adapter_that_never_moved_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    model = attach(in_float32(tiny_base), "default", LoraSettings(rank=2), seed=1)
    with pytest.raises(ModelError, match="inert"):
        save(model, "default", tmp_path, base="abc")
    assert list(tmp_path.iterdir()) == []


def test_an_inert_adapter_on_top_of_a_moved_one_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    model = attach(in_float32(tiny_base), "default", LoraSettings(rank=2), seed=1)
    attach(model, "later", LoraSettings(rank=2), seed=2)
    shake(model, "default", seed=1)
    with pytest.raises(ModelError, match="'later' is inert"):
        save(model, "later", tmp_path, base="abc")


def test_an_adapter_for_another_base_is_refused_when_loaded(tiny_base: Path, tmp_path: Path) -> None:
    folder = adapter(tiny_base, tmp_path / "one", LoraSettings(rank=2), seed=1, made_for="abc")
    with pytest.raises(ModelError, match="trained on base abc, not on xyz"):
        load_adapter(in_float32(tiny_base), folder, base="xyz")
    assert isinstance(load_adapter(in_float32(tiny_base), folder, base="abc"), PeftModel)


def test_embeddings_head_and_lower_layers_are_never_trainable(tiny_base: Path) -> None:
    everywhere = trainable(attach(in_float32(tiny_base), "default", LoraSettings(rank=2), seed=0))
    top = trainable(attach(in_float32(tiny_base), "default", LoraSettings(rank=2, top_layers=1), seed=0))
    assert len(everywhere) == 2 * len(top) == 2 * 7 * 2  # two layers of seven projections, A and B
    assert all(".layers.1." in name for name in top)
    for name in everywhere:
        assert ".lora_A." in name or ".lora_B." in name
        assert "embed" not in name
        assert "lm_head" not in name
        assert "norm" not in name


def test_more_top_layers_than_there_are_means_all(tiny_base: Path) -> None:
    settings = LoraSettings(rank=2, top_layers=99)
    assert len(trainable(attach(in_float32(tiny_base), "default", settings, seed=0))) == 28


def test_only_the_new_adapter_is_trainable_and_both_are_active(tiny_base: Path) -> None:
    model = attach(in_float32(tiny_base), "default", LoraSettings(rank=2), seed=1)
    shake(model, "default", seed=1)
    before = logits(model)
    attach(model, "later", LoraSettings(rank=2), seed=2)
    assert all(".later." in name for name in trainable(model))
    assert len(trainable(model)) == 28
    assert_close(logits(model), before)  # the first still speaks, the second is silent at birth
    shake(model, "later", seed=2)
    assert (logits(model) - before).abs().max() > 0.01


def test_training_moves_every_trainable_parameter_and_nothing_else(tiny_base: Path, tmp_path: Path) -> None:
    model = attach(in_float32(tiny_base), "default", LoraSettings(rank=2, top_layers=1), seed=0)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    sequence = Rendered(tuple(range(10, 50)), (False,) * 5 + (True,) * 35)
    settings = Optimisation(epochs=3, learning_rate=1e-2)
    objective = preference_objective(PreferenceLoss())
    train(model, [Unit((sequence,), source="row")], objective, settings, folder=tmp_path, seed=0, label="test")
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == trainable(model).keys()


def test_the_same_seed_attaches_the_same_adapter(tiny_base: Path) -> None:
    one, same, other = (
        trainable(attach(in_float32(tiny_base), "default", LoraSettings(rank=2), seed=seed)) for seed in (3, 3, 4)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
