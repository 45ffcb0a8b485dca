"""The data card of exported rows: `README.md` as the Hugging Face hub and `datasets` read it.

Its head names a configuration a kind, with the columns' types, so that an empty list stays a list of messages. Its
body says what the rows are, how they were made, what was refused and why, and hashes of all that decided them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ethos.errors import DataError
from ethos.manifest import Manifest
from ethos.pages import bullets, plain, table
from ethos.records import Conversation, Document, Message, Preference, Record
from ethos.rows.provenance import DATA, KINDS, Trained

README = "README.md"
COLUMNS: dict[str, type[Record]] = {
    "preferences": Preference,
    "conversations": Conversation,
    "replay": Conversation,
    "documents": Document,
}
"""Configuration → what its rows are records of."""
MEANINGS = {
    "prompt": "messages before the reply",
    "chosen": "the reply to learn",
    "rejected": "the reply to unlearn",
    "clean": "the prompt without the user's push; empty where there is none",
    "group": "rows of one group are one contrast: ethos adds their margins before the loss",
    "swapped": "whether chosen and rejected were exchanged, for a control",
    "messages": "a conversation",
    "learn_from": "index of the message from which the assistant's turns carry loss",
    "text": "a document",
    "kind": "what the row is (see above); of a document its genre",
    "source": "file and id of the recorded row, or the number of a sample",
    "stage": "the stage that made it: `data` for recorded rows, else one whose student wrote it",
    "about": "its traits, or what decides a crossed contrast; empty where that is not known",
}
LICENCES = ("Apache-2.0", "MIT", "CC0-1.0", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "ODC-BY")
"""Licences whose name in small letters is the hub's."""


ADDED = ("stage", "about")
"""Columns that an export adds to a record's."""


def card(trained: Trained, files: dict[str, str]) -> dict[str, str]:
    """`README.md` for these files of rows. A data stage alone does not know its constitution: DataError."""
    if trained.manifest is None:
        raise DataError(
            "a data card needs the manifest of a finished run", hint="give the run's folder, not its data stage's"
        )
    names = [name.removesuffix(".jsonl") for name in files]
    return {README: f"---\n{head(trained.manifest, names)}---\n\n{body(trained, trained.manifest, files)}"}


def head(manifest: Manifest, names: Sequence[str]) -> str:
    """The YAML that the hub reads; a JSON string is a YAML string."""
    constitution = manifest.constitution
    licence = [f"license: {constitution.licence.lower()}"]
    if constitution.licence not in LICENCES:
        licence = ["license: other", f"license_name: {json.dumps(constitution.licence)}"]
    title = json.dumps(f"{constitution.name}: training rows")
    configs = [
        f"- config_name: {name}\n  data_files: {name}.jsonl" + ("" if place else "\n  default: true")
        for place, name in enumerate(names)
    ]
    features = [f"- config_name: {name}\n  features:\n{_features(COLUMNS[name])}" for name in names]
    lines = [*licence, f"pretty_name: {title}", "tags: [ethos, character]", "configs:", *configs]
    return "\n".join([*lines, "dataset_info:", *features]) + "\n"


def _features(kind: type[Record]) -> str:
    """The types of a record's columns, and of those that an export adds."""
    message = "".join(f"\n    - name: {part}\n      dtype: string" for part in Message.model_fields)
    types: dict[object, str] = {
        list[Message]: f"list:{message}",
        int: "dtype: int64",
        str: "dtype: string",
        bool: "dtype: bool",
    }
    columns = {name: types[field.annotation] for name, field in kind.model_fields.items()}
    columns |= dict.fromkeys(ADDED, types[str])
    return "\n".join(f"  - name: {name}\n    {told}" for name, told in columns.items())


def body(trained: Trained, manifest: Manifest, files: dict[str, str]) -> str:
    """The card that a person reads."""
    constitution, model = manifest.constitution, plain(Path(manifest.config.model).name)
    names = [name.removesuffix(".jsonl") for name in files]
    columns = dict.fromkeys([*(column for name in names for column in COLUMNS[name].model_fields), *ADDED])
    parts = [
        f"# {constitution.name}: training rows",
        f"What ethos {manifest.ethos} trained {model} on to give it the character of the constitution"
        f" **{constitution.name}**, version {plain(constitution.version)}: {plain(constitution.summary)}",
        f'```python\nfrom datasets import load_dataset\n\nload_dataset("FOLDER", "{names[0]}", split="train")\n```',
        "## Rows",
        table(["configuration", "kind", "split", "rows", "what a row is"], list(_counts(trained))),
        "## How they were made",
        bullets(_making(trained, manifest)),
        "## Columns",
        table(["column", "meaning"], [[f"`{name}`", MEANINGS[name]] for name in columns]),
        "## Dropped",
        table(["stage", "rows", "reason"], list(_drops(trained))) if trained.dropped else "No filter refused a row.",
        "## Hashes",
        table(["of", "hash"], [[what, f"`{value}`"] for what, value in _hashes(trained, manifest, files)]),
        "## Licence",
        f"{plain(constitution.licence)}, as the constitution says. Rows that a student wrote (every `stage` but"
        f" `{DATA}`) stand under the terms of {model} too.",
    ]
    return "\n\n".join(parts) + "\n"


def _counts(trained: Trained) -> Iterator[list[str]]:
    """Rows by configuration and kind; all are for training."""
    for name, rows in zip(COLUMNS, trained.by_kind, strict=True):
        for kind, count in Counter(traced.kind for traced in rows).items():
            yield [name, kind, "train", f"{count:,}", KINDS.get(kind, "")]


def _making(trained: Trained, manifest: Manifest) -> Iterator[str]:
    """Where rows come from, what drew them, what filtered them."""
    config = manifest.config
    yield f"`{DATA}` drew recorded rows by seed {config.seed} from this mixture: `{config.mixture.model_dump_json()}`"
    for name, count in Counter(traced.stage for traced in trained.conversations if traced.stage != DATA).items():
        yield f"`{name}` sampled {count} conversations from the student, the constitution in its prompt while it wrote"
    yield "No row shares eight words in a row with an item of ethos's benchmark: a run checks that before it trains."
    yield f"The stages that learnt from them: {', '.join(f'`{name}`' for name in config.named_stages)}."
    yield from map(plain, trained.remarks)


def _drops(trained: Trained) -> Iterator[list[str]]:
    for stage, drops in trained.dropped.items():
        for reason, count in Counter(drop.reason for drop in drops).most_common():
            yield [stage, str(count), plain(reason)]


def _hashes(trained: Trained, manifest: Manifest, files: dict[str, str]) -> Iterator[tuple[str, str]]:
    yield "constitution", manifest.constitution.digest()
    yield "recorded data, model, mixture and seed", trained.key
    yield "run", manifest.fingerprint
    yield from ((f"`{name}`, SHA-256", hashlib.sha256(text.encode()).hexdigest()) for name, text in files.items())
