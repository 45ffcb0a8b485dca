"""A run file: one TOML, every key known, every value checked, every field read."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from ethos.constitution import Split
from ethos.data.generation import Order
from ethos.data.preferences import Mixture
from ethos.data.quotas import SITUATIONS
from ethos.errors import ConfigError, DataError, did_you_mean
from ethos.measuring import BenchSettings
from ethos.methods import Method, PreferenceTraining, Stage, Stages, Steering, SupervisedTraining, check_labels
from ethos.models import DEFAULT_MODEL
from ethos.records import Record, explain, read_text
from ethos.samplers.api import Teacher
from ethos.samplers.budget import Budget
from ethos.samplers.local import LocalTeacher
from ethos.train.fit import Training


class RunConfig(Record):
    """One experiment."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    seed: int = Field(0, ge=0)
    model: str = DEFAULT_MODEL
    """The default's name, or a folder with a transformers model."""
    constitution: str = "virtuous-reasoner"
    """A shipped name, or the path of a TOML file."""
    trained_on: str | None = Field(None, exclude_if=lambda name: name is None)
    """Another constitution, whose rows and words it is trained on: what does an unrelated character do to this one?"""
    mixture: Mixture = Mixture()
    stages: Stages = (PreferenceTraining(),)
    """The [[stages]] tables: each trains an adapter on top of those before it; steering comes last."""
    neutral: Training = Training()
    """The control adapter, trained on ordinary requests only."""
    bench: BenchSettings = BenchSettings()
    teacher_gap: Literal["needed", "measured"] = Field("needed", exclude_if=lambda wanted: wanted == "needed")
    """Whether a stage is trained only where its teacher is shown to have more of the character than its student, if
    that can be measured (see gap.py); `measured` writes it down and trains in any case."""

    @model_validator(mode="after")
    def _labels_are_read(self) -> "RunConfig":
        check_labels(self.mixture.labels, self.stages)
        return self

    @property
    def named_stages(self) -> dict[str, Stage]:
        """The stages in order, each by its method; a method that comes again is numbered."""
        named: dict[str, Stage] = {}
        for stage in self.stages:
            again = sum(other.method == stage.method for other in named.values())
            named[f"{stage.method}-{again + 1}" if again else stage.method] = stage
        return named

    @property
    def ordinary(self) -> Mixture:
        """The mixture that the neutral control is drawn from: the same whatever contrasts show, and to what labels."""
        return self.mixture.model_copy(update={"labels": "recorded", "demonstrated": None})

    @property
    def control(self) -> SupervisedTraining:
        """The stage that trains the neutral control."""
        return SupervisedTraining(learns=("replay",), **dict(self.neutral))


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


def bench_settings(claims: Sequence[str] | None, items: str, per_split: int | None) -> BenchSettings:
    """Settings given on the command line."""
    given = {"items": items, "per_split": per_split} | ({"claims": tuple(claims)} if claims else {})
    try:
        return BenchSettings.model_validate(given)
    except ValidationError as error:
        raise ConfigError(explain(error), hint="`ethos claim list` shows the claims") from error


def teacher_settings(name: str, **given: object) -> Teacher | LocalTeacher:
    """A teacher given on the command line: behind HTTP where its name is a URL, else a subject on this machine."""
    try:
        if "://" in name:
            return Teacher.model_validate({"url": name, **given})
        own = {key: value for key, value in given.items() if key in LocalTeacher.model_fields}
        return LocalTeacher.model_validate({"subject": name, **own})
    except ValidationError as error:
        raise ConfigError(explain(error), hint="`ethos data generate --help` shows what each option takes") from error


def order_settings(**given: object) -> Order:
    """What a teacher is to write, as given on the command line."""
    try:
        return Order.model_validate(given)
    except ValidationError as error:
        raise ConfigError(_whole(error), hint="`ethos data generate --help` shows what each option takes") from error


def split_names(names: Sequence[str]) -> list[Split]:
    """Splits given on the command line, each once."""
    known: dict[str, Split] = {name: name for name in SITUATIONS}
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"no split {unknown[0]!r} to widen", hint=did_you_mean(unknown[0], known))
    return [known[name] for name in dict.fromkeys(names)]


def budget_settings(
    dollars: float | None, tokens: int | None, price_in: float | None, price_out: float | None
) -> Budget:
    """Caps and prices given on the command line."""
    if (price_in is None) != (price_out is None):
        raise ConfigError("--price-in and --price-out go together", hint="dollars per million tokens, read and written")
    try:
        priced = None if price_in is None else {"price_in": price_in, "price_out": price_out}
        return Budget.model_validate({"dollars": dollars, "tokens": tokens, "prices": priced})
    except ValidationError as error:
        raise ConfigError(_whole(error)) from error


def _whole(error: ValidationError) -> str:
    """What is wrong with values that do not go together, without the words of a line of a file."""
    return explain(error).removeprefix("line: ").removeprefix("Value error, ")


def _apply(raw: dict[str, Any], override: str) -> None:
    """Set one dotted key; the value is read as TOML, or as a string when it is not."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(
            f"--set {override!r} is not key=value", hint="for example: --set stages.0.optimisation.epochs=2"
        )
    try:
        parsed = tomllib.loads(f"value = {text}")
        value = parsed["value"] if len(parsed) == 1 else text  # a line break may not smuggle in another key
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.split(".")
    table: Any = raw
    for parent in parents:
        table = _entry(table, parent, override)
    if isinstance(table, dict):
        table[last] = value
    else:
        raise ConfigError(f"--set {override!r}: {last!r} is a stage; name one of its keys")


def _entry(table: Any, name: str, override: str) -> Any:
    """A table inside a table, made where it is missing; or a stage by its number, from 0."""
    if isinstance(table, list):
        if not (name.isdecimal() and int(name) < len(table)):
            raise ConfigError(f"--set {override!r}: stages are numbered 0 to {len(table) - 1}, not {name!r}")
        return table[int(name)]
    inner = table.setdefault(name, {})
    if not isinstance(inner, dict | list):
        raise ConfigError(f"--set {override!r}: {name!r} is a value, not a table")
    return inner


def _allowed(error: ValidationError) -> str:
    """For an unknown key, the keys its table has."""
    for fault in error.errors():
        if fault["type"] == "extra_forbidden":
            return f"known keys here: {', '.join(_model_at(fault['loc'][:-1]).model_fields)}"
    return "see runs/quickstart.toml for every key with its meaning"


def _model_at(location: Sequence[int | str]) -> type[Record]:
    """The record that a table of the run file is read as. A stage's location names number and method."""
    model: type[Record] = RunConfig
    stages: list[type[Record]] = [*Method.__subclasses__(), Steering]
    methods = {kind.model_fields["method"].default: kind for kind in stages}
    for part in location:
        if part in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
            kinds = [annotation, *getattr(annotation, "__args__", ())]
            model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Record)), model)
        elif part in methods:
            model = methods[part]
    return model
