"""Two real processes train what one does: every kind of objective, with and without a base that is divided."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.testing import assert_close

from conftest import in_float32
from ethos import models
from ethos.config import read_config
from ethos.data.recorded import CrossedRow
from ethos.errors import ConfigError
from ethos.manifest import read_manifest
from ethos.models import load_tokenizer_chat
from ethos.pipeline import run_experiment
from ethos.records import read_jsonl, to_jsonl
from ethos.store import Run
from ethos.train.fit import LOG
from ethos.train.lora import WEIGHTS
from ethos.train.ranks import shares
from ethos.train.schedule import Optimisation, Step

SOURCE = Path(__file__).parent.parent.parent / "src"
SMALL = """[stages.lora]
rank = 2
[stages.optimisation]
max_tokens = 5000
pack_positions = 300
units_per_step = 3
learning_rate = 1e-4
"""
STAGES = """[[stages]]
method = "preference"
replay = 2
loss = { kl_weight = 0.1 }
[[stages]]
method = "preference"
contrasts = { crossed = 2, poles = 1 }
loss = { kind = "kto" }
[[stages]]
method = "distillation"
prompts = 4
loss = { sampling = { max_tokens = 4 } }
[[stages]]
method = "distillation"
teacher = "average"
decay = 0.9
sees = "clean"
prompts = 3
loss = { form = "policy_gradient", sampling = { max_tokens = 4, replies = 2 } }
[[stages]]
method = "distillation"
sees = "clean"
prompts = 3
loss = { form = "activations", sampling = { max_tokens = 4 } }
[[stages]]
method = "constitutional_rl"
prompts = 4
loss = { kl_weight = 0.1, sampling = { max_tokens = 4, replies = 3 } }
"""


IN_FLOAT32 = """
import torch
from ethos import cli, models
models.fast_dtype = lambda: torch.float32
cli.main()
"""
"""ethos in the precision of equalities to 1e-5, whatever this machine computes in."""


@pytest.fixture(autouse=True, scope="module")
def in_this_process_too() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(models, "fast_dtype", lambda: torch.float32)
        yield


def loud(base: Path, folder: Path) -> Path:
    """The tiny model with a head that says what it means, on disk: its distributions are not all alike."""
    in_float32(base, loudness=20).save_pretrained(folder)
    load_tokenizer_chat(base).tokenizer.save_pretrained(folder)
    return folder


def pushed_rows(constitution: Path, folder: Path) -> Path:
    """A constitution's recorded rows, the crossed ones among them with users who push."""
    file = Path(shutil.copy(constitution, folder / "pushed.toml"))
    recorded = Path(shutil.copytree(constitution.with_suffix(""), folder / "pushed"))
    rows = read_jsonl(recorded / "crossed.jsonl", CrossedRow)
    pushes = {"push_r1": "Say the first.", "push_r2": "Say the second."}
    (recorded / "crossed.jsonl").write_text(to_jsonl([row.model_copy(update=pushes) for row in rows]))
    return file


def run_file(tiny_base: Path, tiny_toml: Path, folder: Path, *, shard: bool = False) -> Path:
    """The tiny run with every kind of objective, twice: the second time with a divided base, if anything is divided."""
    head, _, rest = tiny_toml.read_text().partition("[[stages]]")
    config = read_config(tiny_toml)
    head = head.replace(config.model, str(loud(tiny_base, folder / "loud")))
    head = head.replace(config.constitution, str(pushed_rows(Path(config.constitution), folder)))
    tail = rest[rest.index("[neutral.lora]") :]
    stages = "".join(settled(each) for each in (SMALL, SMALL + ("shard = true\n" if shard else "")))
    file = folder / "ranks.toml"
    tail = re.sub(r"(?m)^claims = .*$", 'claims = ["leaves_other_requests_alone"]', tail)
    file.write_text('teacher_gap = "measured"\n' + head + "pushed = 1.0\n" + stages + tail)
    return file


def settled(settings: str) -> str:
    """Every stage with these settings."""
    return "".join(f"[[stages]]{stage}{settings}" for stage in STAGES.split("[[stages]]")[1:])


@contextmanager
def torchrun(ranks: int, *command: str) -> Iterator[subprocess.Popen[str]]:
    """What a user starts; none of its processes outlives the `with`."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), *command]
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        launch,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        ranks_of_it = Path(f"/proc/{process.pid}/task/{process.pid}/children")  # sessions of their own: not its group
        for pid in ranks_of_it.read_text().split() if process.poll() is None else []:
            os.kill(int(pid), signal.SIGKILL)
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def alone(tiny_base: Path, tiny_toml: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run by one process."""
    root = tmp_path_factory.mktemp("alone")
    run_experiment(read_config(run_file(tiny_base, tiny_toml, root)), Run(root / "run"))
    return root / "run"


def logs(root: Path) -> dict[str, list[Step]]:
    stages = read_manifest(root).stages
    return {
        name: read_jsonl(root / place / LOG, Step) for name, place in stages.items() if (root / place / LOG).exists()
    }


def test_two_ranks_train_what_one_does(tiny_base: Path, tiny_toml: Path, tmp_path: Path, alone: Path) -> None:
    root = tmp_path / "run"
    file, script = run_file(tiny_base, tiny_toml, tmp_path, shard=True), tmp_path / "command.py"
    script.write_text(IN_FLOAT32)
    with torchrun(2, str(script), "run", str(file), "--out", str(root)) as process:
        said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert said.count("neutral training: 2/2") == 1  # one rank speaks
    expected, found = logs(alone), logs(root)
    assert found.keys() == expected.keys()
    for stage, steps in expected.items():
        assert [step.tokens for step in found[stage]] == [step.tokens for step in steps]  # the same words were sampled
        tight = 1e-9 if stage == "distillation-3" else 1e-6  # distances are small here, and no sums that cancel
        losses = [step.loss for step in steps]
        assert [step.loss for step in found[stage]] == pytest.approx(losses, rel=1e-5, abs=tight), stage
    same_adapter(alone, root)
    assert not list(root.rglob("*.partial"))


def same_adapter(one: Path, other: Path) -> None:
    expected, found = (load_file(folder / "adapter" / WEIGHTS) for folder in (one, other))
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        assert_close(found[name], weight, atol=1e-5, rtol=1e-3)


EAGER = """
from ethos.train import loop
loop.SECONDS_BETWEEN_CHECKPOINTS = -1.0
"""


@pytest.mark.slow
def test_what_two_ranks_began_one_can_finish(tiny_base: Path, tiny_toml: Path, tmp_path: Path, alone: Path) -> None:
    root, script, file = tmp_path / "run", tmp_path / "eager.py", run_file(tiny_base, tiny_toml, tmp_path)
    script.write_text(EAGER + IN_FLOAT32)
    with torchrun(2, str(script), "run", str(file), "--out", str(root)) as process:
        while not list(root.glob("preference/*.partial/checkpoint.pt")):
            assert process.poll() is None
            time.sleep(0.001)
    run = Run(root)
    run_experiment(read_config(file), run)
    assert "preference" in run.made
    same_adapter(alone, root)


def test_a_base_cannot_be_divided_over_one_process(tiny_base: Path, tiny_toml: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is only this one\nhint: start it with torchrun"):
        run_experiment(read_config(run_file(tiny_base, tiny_toml, tmp_path, shard=True)), Run(tmp_path / "run"))


def test_a_setting_that_changes_no_result_by_default_enters_no_key() -> None:
    assert "shard" not in Optimisation().model_dump_json()
    assert Optimisation.model_validate_json(Optimisation(shard=True).model_dump_json()).shard


@given(sizes=st.lists(st.integers(1, 50), max_size=20), ranks=st.integers(1, 5))
def test_shares_take_every_piece_once_and_are_as_even_as_the_largest_piece_allows(
    sizes: Sequence[int], ranks: int
) -> None:
    taken = shares(sizes, ranks)
    assert sorted(index for own in taken for index in own) == list(range(len(sizes)))
    loads = [sum(sizes[index] for index in own) for own in taken]
    assert max(loads) - min(loads) <= max(sizes, default=0)
    assert all(own == sorted(own) for own in taken)
