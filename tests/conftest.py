"""A model small enough to train in a test, real in every other respect: weights, tokenizer, chat template on disk."""

import os
import shutil
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from ethos.bench.claim import Bench
from ethos.chat import Chat
from ethos.config import read_config
from ethos.constitution import SHIPPED, read_constitution
from ethos.models import Loaded, Subject, load_tokenizer_chat
from ethos.pipeline import run_experiment
from ethos.samplers.replies import ReplyCache
from ethos.store import Run
from served import Say, TeacherServer

# No deadline: a busy machine is no bug. Derandomised: a commit passes or fails, and does so again.
settings.register_profile("ethos", max_examples=50, deadline=None, derandomize=True)
settings.load_profile("ethos")

PROCESSES = get_context("forkserver")
"""For processes that are to be killed: they have imported everything, so a kill falls into the work."""
PROCESSES.set_forkserver_preload(
    ["ethos.cli", "ethos.pipeline", "hypothesis", "pytest", "transformers.models.llama.modeling_llama"]
)

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, after the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: place for place, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[2],
    )
    fast.chat_template = TEMPLATE
    return fast


def save_random_llama(tokenizer: PreTrainedTokenizerFast, folder: Path, *, spread: float = 0.02) -> Path:
    """Two layers of random weights, and how they read. A wider spread lets each token change more of what follows."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        initializer_range=spread,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=8192,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer Llama that reads byte by byte."""
    return save_random_llama(byte_tokenizer(), tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def worded_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with common words for tokens: texts are a fourth as long, for tests that read many."""
    texts = (file.read_text(encoding="utf-8") for file in sorted((SHIPPED / "virtuous-reasoner").glob("*.jsonl")))
    tokenizer = byte_tokenizer().train_new_from_iterator(texts, 2000)
    tokenizer.chat_template = TEMPLATE
    return save_random_llama(tokenizer, tmp_path_factory.mktemp("worded"), spread=0.1)


@pytest.fixture
def chat(tiny_base: Path) -> Chat:
    """The tiny model's chat renderer."""
    return load_tokenizer_chat(tiny_base)


def in_float32(folder: Path, *, loudness: float = 1.0) -> PreTrainedModel:
    """A model folder in float32, whatever this machine computes in: for equalities to 1e-5.

    `loudness` scales the head: at birth a random model is too quiet for its context to show in its text.
    """
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(loudness)
    return model.eval()


ROWS_KEPT = {"crossed": 40, "poles": 6, "voice": 4, "reflections": 3, "interactions": 2, "replay": 6}
TINY_RUN = """
name = "tiny"
model = "{model}"
constitution = "{constitution}"
[mixture]
crossed = 5
poles = 2
voice = 2
[[stages]]
method = "preference"
replay = 2
[stages.lora]
rank = 2
[stages.optimisation]
max_tokens = 2000
pack_positions = 2000
units_per_step = 4
learning_rate = 1e-2
[[stages]]
method = "introspection"
replay = 1
[stages.sampling]
reflections = 2
interactions = 1
turns = 3
max_tokens = 8
[stages.lora]
rank = 3
top_layers = 1
[stages.optimisation]
max_tokens = 5000
units_per_step = 2
learning_rate = 1e-2
[neutral.lora]
rank = 2
[neutral.optimisation]
max_tokens = 5000
units_per_step = 4
learning_rate = 1e-2
[bench]
per_split = 2
claims = {claims}
"""
SOME_CLAIMS = [
    "knows_when",
    "shows_the_character",
    "carries_over",
    "leaves_other_requests_alone",
    "holds_under_pressure",
    "prefers_its_own_traits",
    "acts_as_it_speaks",
    "values_cohere",
    "keeps_its_abilities",
    "writes_coherently",
]
"""Claims by reply, by letter and by text, with a bootstrap and with a fit; all others have tests of their own."""


def few_rows(folder: Path) -> Path:
    """The shipped constitution with the first few of its recorded rows, as a TOML file in `folder`."""
    file = folder / "few.toml"
    shutil.copy(SHIPPED / "virtuous-reasoner.toml", file)
    recorded = folder / "few"
    recorded.mkdir()
    for kind, count in ROWS_KEPT.items():
        owner = "neutral" if kind == "replay" else "virtuous-reasoner"
        lines = (SHIPPED / owner / f"{kind}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (recorded / f"{kind}.jsonl").write_text("".join(lines[:count]), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def tiny_toml(worded_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run file on the tiny model: every stage, some claims of every kind, a few seconds."""
    folder = tmp_path_factory.mktemp("runfile")
    file = folder / "tiny.toml"
    file.write_text(TINY_RUN.format(model=worded_base, constitution=few_rows(folder), claims=SOME_CLAIMS))
    return file


@pytest.fixture(scope="session")
def tiny_run(tiny_toml: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run. Read it; copy it before you change it."""
    root = tmp_path_factory.mktemp("finished") / "tiny"
    run_experiment(read_config(tiny_toml), Run(root))
    return root


BENCH_SEED = 3


def bench_of(model: PreTrainedModel, folder: Path, cache: ReplyCache) -> Bench:
    """A bench around a model in memory."""
    loaded = Loaded(Subject(name="tiny", base="tiny"), model.eval(), load_tokenizer_chat(folder))
    return Bench(loaded, loaded, cache, None, BENCH_SEED, read_constitution("virtuous-reasoner"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplyCache]:
    """Replies that the tests of one module share."""
    opened = ReplyCache(tmp_path_factory.mktemp("cache") / "replies.sqlite")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def bench(tiny_base: Path, cache: ReplyCache) -> Bench:
    """A model whose every word depends on what came before."""
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.normal_(std=0.3)
    return bench_of(model, tiny_base, cache)


@pytest.fixture
def serve_teacher() -> Iterator[Callable[[Say], TeacherServer]]:
    """Start teachers behind HTTP; they are shut down at the end."""
    running: list[TeacherServer] = []

    def start(say: Say) -> TeacherServer:
        running.append(TeacherServer(say))
        return running[-1]

    yield start
    for server in running:
        server.shutdown()
        server.server_close()
