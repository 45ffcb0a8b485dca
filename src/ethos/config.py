"""A run file: one TOML, every key known, every value checked, every field read."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from ethos.bench.battery import CLAIMS, find_claim
from ethos.bench.items import DEVELOPMENT, ITEMS
from ethos.data.introspection import IntrospectionSampling
from ethos.data.preferences import Mixture
from ethos.errors import ConfigError, DataError
from ethos.models import DEFAULT_MODEL
from ethos.records import Record, explain, read_text
from ethos.train.stages import PreferenceTraining, Training


class Introspection(Record):
    """The second stage: what is sampled, and how it is trained."""

    sampling: IntrospectionSampling = IntrospectionSampling()
    training: Training = Training()
    replay: int = Field(0, ge=0)
    """Ordinary conversations mixed in against forgetting."""


class BenchSettings(Record):
    """What is measured."""

    claims: tuple[str, ...] = tuple(CLAIMS)
    items: Literal["sealed", "development"] = "sealed"
    """`development` for everything that is tuned; `sealed` for what is reported."""
    per_split: int | None = Field(None, gt=0)
    """Items per split and claim; None measures all."""

    @field_validator("claims")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(find_claim(name).name for name in names)

    @model_validator(mode="after")
    def _measurable(self) -> "BenchSettings":
        there = {path.stem for path in self.folder.glob("*.jsonl")}
        missing = [name for name in self.claims if not set(find_claim(name).items) <= there]
        if missing:
            raise ValueError(
                f"the {self.items} items have nothing for {', '.join(missing)}; list the other claims in bench.claims"
            )
        return self

    @property
    def folder(self) -> Path:
        """The folder of the items."""
        return DEVELOPMENT if self.items == "development" else ITEMS


class RunConfig(Record):
    """One experiment."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    seed: int = Field(0, ge=0)
    model: str = DEFAULT_MODEL
    """The default's name, or a folder with a transformers model."""
    constitution: str = "virtuous-reasoner"
    """A shipped name, or the path of a TOML file."""
    mixture: Mixture = Mixture()
    preference: PreferenceTraining = PreferenceTraining()
    introspection: Introspection | None = None
    """Leave the table out to skip the stage."""
    neutral: Training = Training()
    """The control adapter, trained on ordinary requests only."""
    bench: BenchSettings = BenchSettings()


def read_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a run file and apply `key.sub=value` overrides. Raises ConfigError naming the key at fault."""
    try:
        raw = tomllib.loads(read_text(path))
    except DataError as error:
        raise ConfigError(str(error)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    for override in overrides:
        _apply(raw, override)
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error)}", hint=_allowed(error)) from error


def _apply(raw: dict[str, Any], override: str) -> None:
    """Set one dotted key; the value is read as TOML, or as a string when it is not."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(
            f"--set {override!r} is not key=value", hint="for example: --set preference.optimisation.epochs=2"
        )
    try:
        parsed = tomllib.loads(f"value = {text}")
        value = parsed["value"] if len(parsed) == 1 else text  # a line break may not smuggle in another key
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.split(".")
    table = raw
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override!r}: {parent!r} is a value, not a table")
    table[last] = value


def _allowed(error: ValidationError) -> str:
    """For an unknown key, the keys its table has."""
    for fault in error.errors():
        if fault["type"] == "extra_forbidden":
            model: Any = RunConfig
            for part in fault["loc"][:-1]:
                annotation = model.model_fields[part].annotation if part in getattr(model, "model_fields", {}) else None
                model = next(
                    (
                        kind
                        for kind in [annotation, *getattr(annotation, "__args__", ())]
                        if hasattr(kind, "model_fields")
                    ),
                    model,
                )
            return f"known keys here: {', '.join(model.model_fields)}"
    return "see runs/quickstart.toml for every key with its meaning"
