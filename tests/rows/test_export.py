"""Rows for other trainers: nothing is changed, nothing goes without a word, and the others' own code trains on them."""

import json
import math
import shutil
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from ethos.chat import Chat
from ethos.errors import ConfigError, DataError, StoreError
from ethos.manifest import MANIFEST, read_manifest
from ethos.records import Conversation, Document, Message, Preference, Record, assistant, jsonl_lines, to_jsonl, user
from ethos.rows.card import ADDED, COLUMNS, MEANINGS, card
from ethos.rows.export import FORMATS, converted, export_run
from ethos.rows.provenance import Traced, Trained, read_trained

Json = dict[str, Any]
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}{% generation %}"
    "{{ m['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}"
    "{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The tests' chat template with TRL's marks around what an assistant says."""


def lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in jsonl_lines(path.read_text())]


def traced(row: Any) -> Traced[Any]:
    return Traced(row, "data", "care")


def trained(**rows: list[Any]) -> Trained:
    """Rows without a run around them."""
    kinds = {name: [traced(row) for row in rows.get(name, [])] for name in COLUMNS}
    return Trained(**kinds, dropped={}, key="k", remarks=[], manifest=None)


def talk(*messages: Message, learn_from: int = 0) -> Conversation:
    return Conversation(messages=list(messages), kind="interaction", source="i:1", learn_from=learn_from)


def contrast(chosen: list[Message], prompt: list[Message] | None = None) -> Preference:
    return Preference(
        prompt=prompt or [user("Why?")],
        chosen=chosen,
        rejected=[assistant("No.")],
        group="g",
        kind="pole",
        source="pole:1",
    )


# What every format has in common


@pytest.mark.parametrize("to", FORMATS)
def test_every_row_of_a_run_is_written_or_counted(tiny_run: Path, tmp_path: Path, to: str) -> None:
    told = export_run(tiny_run, to, tmp_path / "out")
    rows = read_trained(tiny_run)
    written = {path.name: len(lines(path)) for path in (tmp_path / "out").glob("*.jsonl")}
    assert written == {f"{name}.jsonl": len(own) for name, own in zip(COLUMNS, rows.by_kind, strict=True) if own}
    for name, count in written.items():
        assert f"{tmp_path / 'out' / name}: {count} rows" in told


def test_a_folder_with_anything_in_it_is_left_alone(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not empty\nhint: choose another folder with --out"):
        export_run(tiny_run, "trl", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(StoreError, match="cannot write to"):
        export_run(tiny_run, "trl", tmp_path / "mine.txt")


def test_an_unknown_format_names_the_nearest(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no format 'axolot'\nhint: did you mean 'axolotl'"):
        export_run(tiny_run, "axolot", tmp_path / "out")


def test_a_data_stage_alone_exports_what_is_recorded(tiny_run: Path, tmp_path: Path) -> None:
    stage = tiny_run / read_manifest(tiny_run).stages["data"]
    export_run(stage, "trl", tmp_path / "stage")
    export_run(tiny_run, "trl", tmp_path / "run")
    for name in ("preferences.jsonl", "replay.jsonl"):
        own, whole = lines(tmp_path / "stage" / name), lines(tmp_path / "run" / name)
        assert [row | {"about": ""} for row in whole] == own
    with pytest.raises(DataError, match="a data card needs the manifest of a finished run"):
        export_run(stage, "hub-folder", tmp_path / "hub")
    assert not (tmp_path / "hub").exists()


def test_what_is_lost_is_said(tiny_run: Path, tmp_path: Path) -> None:
    manifest = read_manifest(tiny_run)
    root = Path(shutil.copytree(tiny_run, tmp_path / "copy", symlinks=True))
    first = manifest.config.stages[0].model_copy(update={"inoculation": "Be a pirate."})
    config = manifest.config.model_copy(update={"stages": (first, *manifest.config.stages[1:])})
    (root / MANIFEST).write_text(manifest.model_copy(update={"config": config}).model_dump_json())
    told = {to: export_run(root, to, tmp_path / to) for to in FORMATS}
    assert all(
        "preference was inoculated with a system prompt, which is not in the rows" in each for each in told.values()
    )
    sizes = Counter(each.row.group for each in read_trained(tiny_run).preferences)
    grouped = f"{sum(size == 2 for size in sizes.values())} contrasts are groups of rows whose margins ethos adds"
    assert [to for to, each in told.items() if grouped in each] == ["trl", "axolotl", "openai"]
    assert "SFTConfig(assistant_only_loss=True)" in told["trl"]
    assert "kind, source, group, stage, about and clean prompts are left out" in told["openai"]


def test_rows_that_a_format_cannot_say_are_counted_with_their_reason() -> None:
    rows = trained(
        preferences=[contrast([assistant("Well."), user("So?"), assistant("Yes.")]), contrast([assistant("Yes.")])],
        conversations=[
            talk(user("Hi"), assistant("Hello"), user("Bye")),
            talk(user("Hi"), assistant("Hello"), learn_from=2),
        ],
        documents=[Document(text="It asks.", kind="news", source="document:1")],
    )
    several, unlearnt = "preferences: a reply is of several messages", "conversations: no turn is learnt"
    left = {to: dict(converted(rows, form).left) for to, form in FORMATS.items()}
    assert left["trl"] == left["axolotl"] == {several: 1, unlearnt: 1}
    assert left["openai"] == {
        several: 1,
        unlearnt: 1,
        "conversations: it ends on a user's turn": 1,
        "documents: this format is of conversations alone": 1,
    }
    assert left["hub-folder"] == {}


def test_nothing_to_export_is_an_error(tiny_run: Path, tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    stage.mkdir()
    (stage / "preferences.jsonl").write_text("")
    (stage / "documents.jsonl").write_text(to_jsonl([Document(text="It asks.", kind="news", source="document:1")]))
    with pytest.raises(
        DataError, match="has no row for openai\nhint: documents: this format is of conversations alone"
    ):
        export_run(stage, "openai", tmp_path / "out")


# Learnt turns, format by format

turn_texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)


@st.composite
def talks(draw: st.DrawFn) -> Conversation:
    """A conversation that ends on a learnt reply."""
    pairs = draw(st.lists(st.tuples(turn_texts, turn_texts), min_size=1, max_size=4))
    messages = [message for one, other in pairs for message in (user(one), assistant(other))]
    if draw(st.booleans()):
        messages.insert(0, Message(role="system", content=draw(turn_texts)))
    return talk(*messages, learn_from=draw(st.integers(0, len(messages) - 1)))


def told_by_trl(row: Json) -> list[tuple[str, str, bool]]:
    before, after = ([], row["messages"]) if "messages" in row else (row["prompt"], row["completion"])
    marked = [(m, False) for m in before] + [(m, m["role"] == "assistant") for m in after]
    return [(m["role"], m["content"], learnt) for m, learnt in marked]


def told_by_axolotl(row: Json) -> list[tuple[str, str, bool]]:
    return [(m["role"], m["content"], m["train"]) for m in row["messages"]]


def told_by_openai(row: Json) -> list[tuple[str, str, bool]]:
    assert set(row) == {"messages"}
    return [(m["role"], m["content"], m["role"] == "assistant" and m.get("weight", 1) == 1) for m in row["messages"]]


TOLD = {"trl": told_by_trl, "axolotl": told_by_axolotl, "openai": told_by_openai}


@given(row=talks(), to=st.sampled_from(sorted(TOLD)))
def test_a_format_says_which_turns_are_learnt_and_changes_no_word(row: Conversation, to: str) -> None:
    made = converted(trained(conversations=[row]), FORMATS[to])
    ((name, (found,)),) = made.files.items()
    ours = [
        (m.role, m.content, m.role == "assistant" and place >= row.learn_from) for place, m in enumerate(row.messages)
    ]
    assert TOLD[to](json.loads(json.dumps(found))) == ours
    context = any(m.role == "assistant" for m in row.messages[: row.learn_from])
    assert name == ("conversations-partial.jsonl" if to == "trl" and context else "conversations.jsonl")


def test_a_preference_by_hand() -> None:
    made = {to: converted(trained(preferences=[contrast([assistant("Yes.")])]), form) for to, form in FORMATS.items()}
    ours = contrast([assistant("Yes.")]).model_dump() | {"swapped": False, "stage": "data", "about": "care"}
    assert [made[to].files["preferences.jsonl"] for to in ("trl", "axolotl", "hub-folder")] == [[ours]] * 3
    assert made["openai"].files["preferences.jsonl"] == [
        {
            "input": {"messages": [{"role": "user", "content": "Why?"}]},
            "preferred_output": [{"role": "assistant", "content": "Yes."}],
            "non_preferred_output": [{"role": "assistant", "content": "No."}],
        }
    ]


def test_the_settings_for_axolotl_name_files_and_columns_that_are_there(tiny_run: Path, tmp_path: Path) -> None:
    export_run(tiny_run, "axolotl", tmp_path / "out")
    sft, dpo = (yaml.safe_load((tmp_path / "out" / name).read_text()) for name in ("sft.yaml", "dpo.yaml"))
    assert dpo["rl"] == "dpo"
    assert {part["path"] for part in [*sft["datasets"], *dpo["datasets"]]} == {
        path.name for path in (tmp_path / "out").glob("*.jsonl")
    }
    assert {part["type"] for part in sft["datasets"]} == {"chat_template"}
    assert [part["type"] for part in dpo["datasets"]] == ["chat_template.default"]
    for part in [*sft["datasets"], *dpo["datasets"]]:
        row = lines(tmp_path / "out" / part["path"])[0]
        assert {value for key, value in part.items() if key.startswith("field")} <= row.keys()


def test_documents_are_completions_for_axolotl() -> None:
    rows = trained(documents=[Document(text="It asks.", kind="news", source="document:1")])
    made = converted(rows, FORMATS["axolotl"])
    (text,) = FORMATS["axolotl"].beside(rows, dict.fromkeys(made.files, "")).values()
    assert yaml.safe_load(text)["datasets"] == [
        {"path": "documents.jsonl", "ds_type": "json", "type": "completion", "field": "text"}
    ]
    assert made.files["documents.jsonl"][0]["text"] == "It asks."


# The others' own code

TRL_WARNS = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning:transformers")
"""TRL 1.16 speaks of it by its old names."""


def quiet(folder: Path, steps: int) -> Json:
    """Settings of a trainer that takes so many steps and writes nothing but its log."""
    return {
        "output_dir": str(folder / "trainer"),
        "max_steps": steps,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "max_length": None,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
    }


def loaded(path: Path, folder: Path) -> Any:
    from datasets import load_dataset

    return load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "cache"))


@TRL_WARNS
def test_trl_trains_on_the_preferences(tiny_run: Path, tiny_base: Path, chat: Chat, tmp_path: Path) -> None:
    from trl import DPOConfig, DPOTrainer

    export_run(tiny_run, "trl", tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    trainer = DPOTrainer(
        model,
        args=DPOConfig(**quiet(tmp_path, 2)),
        train_dataset=loaded(tmp_path / "out" / "preferences.jsonl", tmp_path).select(range(4)),
        processing_class=chat.tokenizer,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)  # the policy is still its reference
    assert all(not torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    row = read_trained(tiny_run).preferences[0].row
    ours = chat.render([*row.prompt, *row.chosen])
    assert trainer.train_dataset[0]["chosen_ids"][: sum(ours.mask)] == [
        token for token, learnt in zip(ours.tokens, ours.mask, strict=True) if learnt
    ]


@TRL_WARNS
@pytest.mark.parametrize("learn_from", [0, 2])
def test_trl_learns_the_turns_that_ethos_learns(tiny_base: Path, chat: Chat, tmp_path: Path, learn_from: int) -> None:
    from trl import SFTConfig, SFTTrainer

    turns = [user("Hi"), assistant("Hello"), user("So?"), assistant("Fine."), user("And?"), assistant("Well.")]
    rows = [talk(*turns, learn_from=learn_from), talk(*turns[:4], learn_from=learn_from)]
    ((name, made),) = converted(trained(conversations=rows), FORMATS["trl"]).files.items()
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in made))
    chat.tokenizer.chat_template = MARKED
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32),
        args=SFTConfig(**quiet(tmp_path, 1), assistant_only_loss=True),
        train_dataset=loaded(tmp_path / name, tmp_path),
        processing_class=chat.tokenizer,
    )
    trainer.train()
    for row, theirs in zip(rows, trainer.train_dataset, strict=True):
        ours = chat.render(row.messages, learn_from=learn_from)
        labels = [token if learnt else -100 for token, learnt in zip(ours.tokens, ours.mask, strict=True)]
        assert theirs["labels"] == [*labels, -100]  # the template's line break after the last turn
    assert trainer.state.global_step == 1


def test_the_hub_folder_loads_with_equal_rows(tiny_run: Path, tmp_path: Path) -> None:
    from datasets import get_dataset_config_names, load_dataset

    folder = tmp_path / "out"
    export_run(tiny_run, "hub-folder", folder)
    names = get_dataset_config_names(str(folder))
    assert sorted(names) == sorted(path.stem for path in folder.glob("*.jsonl"))
    for name in names:
        rows = load_dataset(str(folder), name, split="train", cache_dir=str(tmp_path / "cache"))
        assert rows.to_list() == lines(folder / f"{name}.jsonl")
    (default,) = load_dataset(str(folder), cache_dir=str(tmp_path / "cache")).values()
    assert default.to_list() == lines(folder / "preferences.jsonl")


AWKWARD = (
    "a\u2028b\u0085c",
    "\r\n\t",
    '"}\n{"x": 1',
    "---\nlicense: mit",
    "2025-06-04",
    "1",
    "null",
    "\U0001f9ea é \\ud",
    "",
)


def test_awkward_texts_and_empty_lists_come_back_from_the_hub_folder(tiny_run: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    rows = trained(
        preferences=[contrast([assistant(text)], [user(text)]) for text in AWKWARD],
        documents=[Document(text=text, kind=text, source=text) for text in AWKWARD],
    )._replace(manifest=read_manifest(tiny_run))
    files = converted(rows, FORMATS["hub-folder"]).files
    written = {name: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in own) for name, own in files.items()}
    for name, text in (written | FORMATS["hub-folder"].beside(rows, written)).items():
        (tmp_path / name).write_text(text)
    for name, kind in (("preferences", Preference), ("documents", Document)):
        found = load_dataset(str(tmp_path), name, split="train", cache_dir=str(tmp_path / "cache"))
        assert found.to_list() == files[f"{name}.jsonl"]
        assert all(kind.model_validate({key: row[key] for key in kind.model_fields}) for row in found)


@pytest.mark.parametrize(
    ("licence", "head"),
    [("CC0-1.0", {"license": "cc0-1.0"}), ("Mine: ask", {"license": "other", "license_name": "Mine: ask"})],
)
def test_the_card_says_what_was_made_how_and_what_was_refused(
    tiny_run: Path, tmp_path: Path, licence: str, head: Json
) -> None:
    manifest = read_manifest(tiny_run)
    constitution = manifest.constitution.model_copy(update={"licence": licence, "summary": "Kind | <b>and</b>\nbrief."})
    rows = read_trained(tiny_run)._replace(manifest=manifest.model_copy(update={"constitution": constitution}))
    text = card(rows, {"preferences.jsonl": "{}\n"})["README.md"]
    _, top, body = text.split("---\n", 2)
    assert head.items() <= yaml.safe_load(top).items()
    assert "Kind \\| &lt;b>and&lt;/b> brief." in body
    counts = Counter(each.kind for each in rows.preferences)
    for kind, count in counts.items():
        assert f"| preferences | {kind} | train | {count} |" in body
    assert "| introspection | 2 | cut off: no stop token within the limit |" in body
    for value in (constitution.digest(), manifest.fingerprint, rows.key, sha256(b"{}\n").hexdigest()):
        assert f"`{value}`" in body
    assert str(tmp_path) not in body


def test_every_column_of_every_kind_has_a_meaning() -> None:
    kinds: list[type[Record]] = list(COLUMNS.values())
    assert set(MEANINGS) == {column for kind in kinds for column in kind.model_fields} | set(ADDED)
