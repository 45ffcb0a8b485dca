"""Adapters: readable by plain PEFT, added exactly, and never inert, foreign or on the wrong weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

from conftest import in_float32
from ethos.chat import Rendered
from ethos.errors import ModelError
from ethos.models import base_digest, load_adapter
from ethos.train import lora
from ethos.train.loop import Unit, train
from ethos.train.lora import LoraSettings, add_exactly, add_factors, attach, save, trainable
from ethos.train.preference import PreferenceLoss, preference_objective
from ethos.train.schedule import Optimisation

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


@pytest.mark.parametrize("layers", [None, 1])
def test_added_factors_are_what_pefts_linear_makes(tiny_base: Path, tmp_path: Path, layers: int | None) -> None:
    first = adapter(tiny_base, tmp_path / "one", LoraSettings(rank=3), seed=1)
    second = adapter(tiny_base, tmp_path / "other", LoraSettings(rank=3, top_layers=layers), seed=2)
    merged = tmp_path / "sum"
    merged.mkdir()
    add_factors(first, second, merged)
    theirs = PeftModel.from_pretrained(in_float32(tiny_base), first)
    theirs.load_adapter(str(second), "later")
    theirs.add_weighted_adapter(["default", "later"], [1.0, 1.0], "both", combination_type="linear")
    theirs.set_adapter("both")
    ours = PeftModel.from_pretrained(in_float32(tiny_base), merged)
    assert_close(logits(ours.eval()), logits(theirs.eval()), rtol=0, atol=1e-5)
    deltas = [change(folder) for folder in (merged, first, second)]
    apart = [(deltas[0][m] - deltas[1][m] - deltas[2][m]).norm() for m in deltas[2]]
    assert min(apart) > 1e-4  # and not the sum of the two changes


def test_factors_of_different_ranks_cannot_be_added(tiny_base: Path, tmp_path: Path) -> None:
    folders = [adapter(tiny_base, tmp_path / str(rank), LoraSettings(rank=rank), seed=1) for rank in (2, 3)]
    with pytest.raises(ModelError, match=r"ranks 2 and 3.*\nhint: give both stages one rank"):
        add_factors(*folders, tmp_path)


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


def foreign(base: Path, folder: Path, *, seed: int = 1, **settings: Any) -> Tensor:
    """Write an adapter as another tool would, through PEFT alone; return its logits."""
    config = LoraConfig(**{"r": 3, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], **settings})
    model = get_peft_model(in_float32(base), config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in trainable(model).values():
            weight.add_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(folder)
    return logits(model.eval())


def edit(folder: Path, **settings: Any) -> None:
    """Change an adapter's configuration on disk."""
    config = json.loads((folder / lora.CONFIG).read_text())
    (folder / lora.CONFIG).write_text(json.dumps(config | settings))


def rename(folder: Path, new: Callable[[str], str]) -> None:
    """Change the keys of an adapter on disk."""
    weights = load_file(folder / lora.WEIGHTS)
    save_file({new(key): weight for key, weight in weights.items()}, folder / lora.WEIGHTS)


SMALL = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
FOREIGN: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True},
    "own ranks and scales": {"rank_pattern": {"q_proj": 5}, "alpha_pattern": {"v_proj": 3}},
    "DoRA": {"use_dora": True},
    "a whole head": {"modules_to_save": ["lm_head"]},
    "dropout": {"lora_dropout": 0.5},
    "new token embeddings": {"trainable_token_indices": [3, 4]},
    "one layer": {"layers_to_transform": 1},
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("made_for", ["owner/some-model", None])
def test_an_adapter_of_another_tool_gives_its_own_logits(
    tiny_base: Path, tmp_path: Path, kind: str, made_for: str | None
) -> None:
    expected = foreign(tiny_base, tmp_path, **FOREIGN[kind])
    edit(tmp_path, base_model_name_or_path=made_for)
    assert_close(logits(load_adapter(in_float32(tiny_base), tmp_path, base="abc")), expected, rtol=0, atol=0)
    assert (expected - logits(in_float32(tiny_base))).abs().max() > 0.01


def test_biases_that_an_adapter_replaces_are_loaded(tmp_path: Path) -> None:
    LlamaForCausalLM(LlamaConfig(**SMALL, attention_bias=True)).save_pretrained(tmp_path / "base")
    expected = foreign(tmp_path / "base", tmp_path / "adapter", bias="lora_only")
    edit(tmp_path / "adapter", base_model_name_or_path=None)
    loaded = load_adapter(in_float32(tmp_path / "base"), tmp_path / "adapter", base="abc")
    assert_close(logits(loaded), expected, rtol=0, atol=0)


PREFIX = "base_model.model."


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (lambda key: key.removeprefix(PREFIX), r"8 of its 8 weights .* \(model\.layers\.0\..*8 that modules need"),
        (lambda key: PREFIX + key, r"8 of its 8 weights .* \(base_model\.model\.base_model\.model\."),
        (lambda key: key.replace("q_proj", "k_proj"), r"4 of its 8 weights .*k_proj.* and 4 .*q_proj"),
    ],
    ids=["missing prefix", "doubled prefix", "another module"],
)
def test_keys_that_peft_would_pass_over_are_refused(
    tiny_base: Path, tmp_path: Path, new: Callable[[str], str], told: str
) -> None:
    foreign(tiny_base, tmp_path)
    edit(tmp_path, base_model_name_or_path=None)
    rename(tmp_path, new)
    with pytest.raises(ModelError, match=told):
        load_adapter(in_float32(tiny_base), tmp_path, base="abc")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"peft_type": "IA3"}, "is a IA3 adapter\nhint: ethos reads LoRA"),
        ({"alora_invocation_tokens": [1, 2]}, "with alora_invocation_tokens, which would not be heeded"),
        ({"of_a_later_peft": True}, "with of_a_later_peft, which would not be heeded"),
        ({"target_modules": ["c_attn"]}, "does not fit base abc: .*c_attn"),
        ({"r": 4}, "does not fit base abc: size mismatch"),
    ],
)
def test_settings_that_would_not_be_heeded_are_refused(
    tiny_base: Path, tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    foreign(tiny_base, tmp_path)
    edit(tmp_path, base_model_name_or_path=None, **settings)
    with pytest.raises(ModelError, match=told):
        load_adapter(in_float32(tiny_base), tmp_path, base="abc")


def test_the_path_of_a_base_that_is_here_is_compared_by_its_weights(tiny_base: Path, tmp_path: Path) -> None:
    foreign(tiny_base, tmp_path)
    edit(tmp_path, base_model_name_or_path=str(tiny_base))
    assert load_adapter(in_float32(tiny_base), tmp_path, base=base_digest(tiny_base))
    with pytest.raises(ModelError, match=f"trained on base {base_digest(tiny_base)}, not on abc"):
        load_adapter(in_float32(tiny_base), tmp_path, base="abc")


@pytest.mark.parametrize("kind", ["plain", "rank-stabilised", "one layer"])
def test_the_sum_with_an_adapter_of_another_tool_is_exact(tiny_base: Path, tmp_path: Path, kind: str) -> None:
    one, other, merged = (tmp_path / name for name in ("one", "other", "sum"))
    foreign(tiny_base, one, **FOREIGN[kind])
    foreign(tiny_base, other, seed=2, r=5)
    merged.mkdir()
    add_exactly(one, other, merged)
    both = PeftModel.from_pretrained(in_float32(tiny_base), one)
    both.load_adapter(str(other), "later")
    both.base_model.set_adapter(["default", "later"])
    assert_close(logits(PeftModel.from_pretrained(in_float32(tiny_base), merged)), logits(both), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (FOREIGN["DoRA"], "more than B, A and one scale .*lora_magnitude_vector"),
        (FOREIGN["own ranks and scales"], "more than B, A and one scale .*rank_pattern"),
        (FOREIGN["a whole head"], "more than B, A and one scale .*lm_head"),
        ({"init_lora_weights": "pissa"}, "more than B, A and one scale .*init_lora_weights"),
        ({"target_modules": ["q_proj"]}, "adapt different modules"),
    ],
)
def test_a_sum_that_would_not_be_exact_is_refused(
    tiny_base: Path, tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    foreign(tiny_base, tmp_path / "one")
    foreign(tiny_base, tmp_path / "other", **settings)
    with pytest.raises(ModelError, match=told):
        add_exactly(tmp_path / "one", tmp_path / "other", tmp_path)
