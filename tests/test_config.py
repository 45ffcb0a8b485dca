"""Run files: every key is known, checked and read."""

import ast
import shlex
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from ethos.bench.battery import CLAIMS
from ethos.config import RunConfig, read_config
from ethos.constitution import find_constitution
from ethos.errors import ConfigError

ROOT = Path(__file__).parent.parent
RUNS = sorted((ROOT / "runs").glob("*.toml"))


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    file = tmp_path / "run.toml"
    file.write_text('name = "r"\n[[stages]]\nmethod = "preference"\n[[stages]]\nmethod = "introspection"\n')
    return file


def written(folder: Path, text: str) -> Path:
    file = folder / "run.toml"
    file.write_text(text)
    return file


def annotations(annotation: Any) -> Iterator[Any]:
    """An annotation and everything it is made of."""
    yield annotation
    for inner in get_args(annotation):
        yield from annotations(inner)


def records(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A record and all records nested in it, each once."""
    seen: list[type[BaseModel]] = []
    todo = [kind]
    while todo:
        seen.append(record := todo.pop())
        for field in record.model_fields.values():
            for annotation in annotations(field.annotation):
                if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
                    todo.append(annotation)
    yield from dict.fromkeys(seen)


def attributes_read() -> set[str]:
    """Every attribute that is loaded, not stored, anywhere in the package."""
    return {
        node.attr
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def test_there_are_run_files() -> None:
    assert RUNS


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.name)
def test_every_run_file_loads_and_its_constitution_exists(file: Path) -> None:
    config = read_config(file)
    assert config.name
    assert find_constitution(config.constitution).is_file()


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.name)
def test_every_run_file_begins_with_the_command_that_runs_it(file: Path) -> None:
    first = file.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("#")
    assert f"ethos run runs/{file.name}" in first


def test_every_run_command_of_the_readme_is_one_that_runs() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("ethos run runs/")]
    assert len(commands) >= 3
    for _, _, file, *rest in commands:
        overrides = [value for flag, value in pairwise(rest) if flag == "--set"]
        read_config(ROOT / file, overrides)


def test_every_field_of_a_run_file_is_read() -> None:
    read = attributes_read()
    kinds = list(records(RunConfig))
    assert len(kinds) >= 17  # the nested ones were found
    unread = [f"{kind.__name__}.{field}" for kind in kinds for field in kind.model_fields if field not in read]
    assert unread == []


def test_defaults_need_a_name_only(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, 'name = "bare"'))
    assert list(config.named_stages) == ["preference"]
    assert config.bench.claims == tuple(CLAIMS)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("sed = 3", "seed"),
        (
            '[[stages]]\nmethod = "preference"\nlr = 1',
            "lora, inoculation, method, prevent, loss, contrasts, rejections, replay",
        ),
        ('[[stages]]\nmethod = "sft"\n[stages.optimisation]\nlr = 1', "learning_rate"),
        ('[[stages]]\nmethod = "introspection"\n[stages.sampling]\nreflection = 1', "reflections"),
        ('[[stages]]\nmethod = "distillation"\n[stages.loss.sampling]\nreply = 1', "replies, max_tokens"),
        ("[neutral.lora]\nr = 1", "rank"),
        ("[bench]\nbenchmarks = []", "claims, items, per_split"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_known_ones(tmp_path: Path, text: str, known: str) -> None:
    with pytest.raises(ConfigError, match=f"known keys here: .*{known}") as caught:
        read_config(written(tmp_path, f'name = "r"\n{text}'))
    assert text.splitlines()[-1].partition(" =")[0] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('seed = "one"', "seed"),
        ("seed = -1", "seed"),
        ("stages = 3", "stages"),
        ("stages = []", "stages"),
        ('[[stages]]\nmethod = "dpo"', "stages.0"),
        ("[[stages]]\nreplay = 3", "stages.0"),
        ('[[stages]]\nmethod = "distillation"\nteacher = "average"', "stages.0.distillation"),
        ('[[stages]]\nmethod = "sft"\nlearns = []', "stages.0.sft.learns"),
        ("[neutral.optimisation]\nepochs = 0", "neutral.optimisation.epochs"),
        ("[neutral.optimisation]\nlearning_rate = 0.0", "neutral.optimisation.learning_rate"),
        ('[[stages]]\nmethod = "preference"\n[stages.loss]\nbeta = []', "stages.0.preference.loss.beta"),
        ("[neutral.lora]\nrank = 1.5", "neutral.lora.rank"),
        ('[[stages]]\nmethod = "introspection"\n[stages.sampling]\nturns = 1', "introspection.sampling.turns"),
        ("[bench]\nclaims = 5", "bench.claims"),
    ],
)
def test_a_wrong_type_or_an_impossible_value_names_its_key(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(written(tmp_path, f'name = "r"\n{text}'))
    assert f"{where}: " in str(caught.value)


@pytest.mark.parametrize("name", ["", "With Space", "../up", "-dash", "UPPER"])
def test_a_name_that_could_not_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        read_config(written(tmp_path, f'name = "{name}"'))


def test_an_unknown_claim_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'holds_under_pressure'"):
        read_config(written(tmp_path, 'name = "r"\n[bench]\nclaims = ["hold_under_presure"]'))


def test_a_file_that_is_not_toml_says_where(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run.toml: not TOML: .*line 2"):
        read_config(written(tmp_path, 'name = "r"\nseed = = 3'))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigError, match=path.name):
            read_config(path)


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("seed=7", lambda c: c.seed == 7),
        ("stages.0.lora.rank=9", lambda c: c.stages[0].lora.rank == 9),
        ("stages.1.optimisation.learning_rate=1e-3", lambda c: c.stages[1].optimisation.learning_rate == 1e-3),
        ("stages.1.sampling.turns=4", lambda c: c.stages[1].sampling.turns == 4),
        ("mixture.deliberated=false", lambda c: c.mixture.deliberated is False),
        ('bench.claims=["carries_over"]', lambda c: c.bench.claims == ("carries_over",)),
        ("constitution=neutral", lambda c: c.constitution == "neutral"),
        ("model=/a path/with=equals", lambda c: c.model == "/a path/with=equals"),
    ],
)
def test_an_override_sets_its_key_and_no_other(run_file: Path, override: str, read: Any) -> None:
    plain, changed = read_config(run_file), read_config(run_file, [override])
    assert read(changed)
    assert not read(plain)
    top = override.partition("=")[0].split(".")[0]
    assert changed.model_dump(exclude={top}) == plain.model_dump(exclude={top})


def test_later_overrides_win_and_keep_their_neighbours(run_file: Path) -> None:
    config = read_config(run_file, ["stages.0.lora.rank=5", "stages.0.replay=3", "stages.0.lora.rank=6"])
    assert [stage.lora.rank for stage in config.stages] == [6, 16]
    assert [stage.replay for stage in config.stages] == [3, 0]


def test_stages_are_named_by_method_and_numbered_when_one_comes_again(tmp_path: Path) -> None:
    methods = ("documents", "preference", "documents", "sft", "documents")
    text = "".join(f'[[stages]]\nmethod = "{method}"\n' for method in methods)
    named = read_config(written(tmp_path, f'name = "r"\n{text}')).named_stages
    assert list(named) == ["documents", "preference", "documents-2", "sft", "documents-3"]
    assert tuple(stage.method for stage in named.values()) == methods


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "not key=value"),
        ("=3", "not key=value"),
        ("seed=x", "seed"),
        ("sed=3", "known keys here"),
        ("name.sub=3", "is a value, not a table"),
        ("stages.0.optimisation.epoch=2", "known keys here: .*epochs"),
        ("stages.0..rank=2", "known keys here"),
        ("stages.2.replay=1", "stages are numbered 0 to 1, not '2'"),
        ("stages.preference.replay=1", "stages are numbered 0 to 1, not 'preference'"),
        ("stages.0=1", "'0' is a stage"),
    ],
)
def test_a_bad_override_is_an_error(run_file: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(run_file, [override])


def test_an_override_adds_nothing_behind_its_value(run_file: Path) -> None:
    """A value is one TOML value: what follows on another line is not swallowed."""
    with pytest.raises(ConfigError):
        read_config(run_file, ["seed=1\nmodel = 'x'"])


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.name)
def test_the_tables_of_a_run_file_survive_the_manifest(file: Path) -> None:
    config = read_config(file)
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert tomllib.loads(file.read_text(encoding="utf-8"))["name"] == config.name


def test_a_claim_without_development_items_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('name = "x"\n[bench]\nitems = "development"\n')
    with pytest.raises(ConfigError, match=r"development items have nothing for .*keeps_its_abilities"):
        read_config(path)
    fit = read_config(path, ['bench.claims=["carries_over"]'])
    assert fit.bench.claims == ("carries_over",)


def test_labels_that_no_stage_reads_are_refused(tmp_path: Path) -> None:
    text = 'name = "r"\n[mixture]\nlabels = "{}"\n[[stages]]\nmethod = "{}"\n'
    for labels, method in (("shuffled", "documents"), ("inverted", "introspection"), ("shuffled", "distillation")):
        with pytest.raises(ConfigError, match=f"labels = '{labels}' changes nothing"):
            read_config(written(tmp_path, text.format(labels, method)))
    for labels, method in (("recorded", "documents"), ("shuffled", "sft"), ("inverted", "preference")):
        assert read_config(written(tmp_path, text.format(labels, method))).mixture.labels == labels
    with pytest.raises(ConfigError, match="changes nothing"):
        read_config(written(tmp_path, text.format("shuffled", "sft") + 'learns = ["replay"]\n'))
