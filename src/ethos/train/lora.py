"""LoRA adapters through PEFT: attach, check, save, and add exactly.

Adapters sit on attention and MLP projections, never on the head or the embeddings. Two adapters
trained one on top of the other are added by concatenating their factors, which is exact; adding
the factors themselves (PEFT's `linear`) is not, since (B₁+B₂)(A₁+A₂) ≠ B₁A₁ + B₂A₂.
"""

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ethos.errors import ModelError
from ethos.models import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from ethos.records import Record
from ethos.scoring import Model

CONFIG, WEIGHTS = ADAPTER_CONFIG, ADAPTER_WEIGHTS

PLACES = ("target_modules", "exclude_modules", "layers_pattern")
"""Settings in which two adapters must agree to be added."""
UNLIKE_THE_REST = ("rank_pattern", "alpha_pattern", "layer_replication", "use_qalora", "use_bdlora", "kasa_config")
"""Settings that give modules different ranks, scales or shapes, where an adapter has them."""


class LoraSettings(Record):
    """Shape of an adapter."""

    rank: int = Field(16, gt=0)
    """r of Hu et al. 2021 (arXiv:2106.09685); the scale is fixed at α = 2r."""
    top_layers: int | None = Field(None, gt=0)
    """Adapt the last so many layers only (default: all). Layers below then need no backward pass."""


def attach(model: Model, name: str, settings: LoraSettings, *, seed: int) -> PeftModel:
    """Add a fresh float32 adapter, trainable; adapters already there stay active and frozen."""
    torch.manual_seed(seed)
    layers = model.config.num_hidden_layers
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=2 * settings.rank,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        layers_to_transform=list(range(max(0, layers - settings.top_layers), layers)) if settings.top_layers else None,
        task_type="CAUSAL_LM",
    )
    if not isinstance(model, PeftModel):
        return get_peft_model(model, config, adapter_name=name, autocast_adapter_dtype=True)
    before = list(model.peft_config)
    model.add_adapter(name, config)
    model.base_model.set_adapter([*before, name])  # type: ignore[operator]  # torch types submodules as tensors
    for key, weight in model.named_parameters():
        weight.requires_grad_("lora_" in key and f".{name}." in key)
    return model


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """The parameters that training moves, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


@contextmanager
def before_training(model: PeftModel) -> Iterator[None]:
    """Inside the `with`, the model as it was before its first step: the reference of every method.

    The factors B that are being trained are zero again; a frozen adapter underneath stays active.
    """
    own = {name: weight.data for name, weight in trainable(model).items() if "lora_B" in name}
    point_to(model, {name: torch.zeros_like(weight) for name, weight in own.items()})
    try:
        yield
    finally:
        point_to(model, own)


def point_to(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Let parameters of the model read other tensors; what autograd saved of them stays valid."""
    for name, weight in trainable(model).items():
        if name in weights:
            weight.data = weights[name]


def save(model: PeftModel, name: str, folder: Path, *, base: str) -> None:
    """Write one adapter in PEFT's format, at `folder` itself, with the hash of the base it belongs to.

    An adapter that never moved is refused.
    """
    moved = any(bool(weight.any()) for key, weight in model.named_parameters() if f"lora_B.{name}." in key)
    if not moved:
        raise ModelError(
            f"the adapter {name!r} is inert: its B factors are all zero, so no logit changes",
            hint="train for more steps, or raise the learning rate",
        )
    scratch = folder / "peft"
    model.save_pretrained(str(scratch), selected_adapters=[name])
    source = scratch if name == "default" else scratch / name
    for file in (CONFIG, WEIGHTS):
        (source / file).replace(folder / file)
    shutil.rmtree(scratch)
    config = json.loads((folder / CONFIG).read_text())
    config |= {"base_model_name_or_path": base, "target_modules": sorted(config["target_modules"])}  # a set, to peft
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))


def add_exactly(one: Path, other: Path, folder: Path) -> None:
    """Write the adapter whose change is the sum of two: factors concatenated, ranks added.

    With scales s₁, s₂: [s₁B₁ s₂B₂] [A₁; A₂] = s₁B₁A₁ + s₂B₂A₂. A module adapted by one side only
    is padded with zeros, so that all modules keep one rank. Adapters that are more than B, A and one scale are refused.
    """
    sides = _read_both(one, other)
    merged: dict[str, Tensor] = {}
    for key in sorted(sides[0].weights.keys() | sides[1].weights.keys()):
        axis = 0 if "lora_A" in key else 1
        parts = []
        for side in sides:
            shape = list(next(s.weights[key] for s in sides if key in s.weights).shape)
            shape[axis] = side.rank
            factor = side.weights.get(key, torch.zeros(shape))
            parts.append(factor.float() * (side.scale if axis == 1 else 1.0))
        merged[key] = torch.cat(parts, dim=axis).contiguous()
    _write_sum(sides, merged, sum(side.rank for side in sides), folder)


def add_factors(one: Path, other: Path, folder: Path) -> None:
    """Write what PEFT's `linear` makes of two adapters of one rank: [√s₁B₁ + √s₂B₂] [√s₁A₁ + √s₂A₂].

    That is not the sum of their changes; the released code of Maiya et al. 2025 (arXiv:2511.01689) merged so.
    """
    sides = _read_both(one, other)
    if sides[0].rank != sides[1].rank:
        raise ModelError(
            f"{one} and {other} have ranks {sides[0].rank} and {sides[1].rank}: factors of different shapes",
            hint="give both stages one rank",
        )
    merged = {
        key: torch.stack(
            [side.weights[key].float() * math.sqrt(side.scale) for side in sides if key in side.weights]
        ).sum(0)
        for key in sorted(sides[0].weights.keys() | sides[1].weights.keys())
    }
    _write_sum(sides, merged, sides[0].rank, folder)


class _Side(NamedTuple):
    """An adapter that is to be added to another."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    rank: int
    scale: float


def _read_both(one: Path, other: Path) -> tuple[_Side, _Side]:
    """Both adapters; two that cannot be added are refused."""
    configs = [json.loads((path / CONFIG).read_text()) for path in (one, other)]
    weights = [load_file(path / WEIGHTS) for path in (one, other)]
    scales = [_scale(*side) for side in zip((one, other), configs, weights, strict=True)]
    if configs[0]["base_model_name_or_path"] != configs[1]["base_model_name_or_path"]:
        raise ModelError(f"{one} and {other} were trained on different bases and cannot be added")
    if any(configs[0].get(name) != configs[1].get(name) for name in PLACES):
        raise ModelError(f"{one} and {other} adapt different modules and cannot be added")
    first, second = zip(configs, weights, (int(config["r"]) for config in configs), scales, strict=True)
    return _Side(*first), _Side(*second)


def _write_sum(sides: tuple[_Side, _Side], merged: dict[str, Tensor], rank: int, folder: Path) -> None:
    """Write an adapter whose factors hold the scales of both sides."""
    told = [side.config.get("layers_to_transform") for side in sides]
    touched: list[Any] = [[layers] if isinstance(layers, int) else layers for layers in told]
    config = sides[0].config | {
        "r": rank,
        "lora_alpha": rank,  # the scales are in the factors now
        "use_rslora": False,
        "layers_to_transform": sorted({layer for layers in touched for layer in layers}) if all(touched) else None,
    }
    save_file(merged, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))


def _scale(folder: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> float:
    """What an adapter multiplies B A with: α/r, or α/√r with rsLoRA (Kalajdzievski 2023, arXiv:2312.03732)."""
    more = [key for key in weights if not key.endswith((".lora_A.weight", ".lora_B.weight"))]
    more += [name for name in UNLIKE_THE_REST if config.get(name)]
    if config.get("init_lora_weights") not in (True, False, "gaussian"):
        more.append("init_lora_weights")  # PiSSA and its kin change the base
    if more:
        raise ModelError(
            f"{folder} cannot be added exactly: it is more than B, A and one scale ({more[0]})",
            hint="merge it into the base with the tool that made it",
        )
    rank = int(config["r"])
    return float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)
