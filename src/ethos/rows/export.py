"""A run's training rows for other trainers.

    trl          the conversational JSONL that is on disk, provenance beside it
    axolotl      the same with every turn marked as learnt or not, and `sft.yaml`, `dpo.yaml` to start from
    openai       fine-tuning JSONL, chat and preference; an assistant's turn that is not learnt has weight 0
    hub-folder   what `datasets.load_dataset(folder)` reads, with a data card

A row keeps its words. One that a format cannot say is left out and counted with its reason; what a trainer would do
otherwise than ethos with the rows that are there is said as a remark.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ethos.errors import ConfigError, DataError, StoreError, did_you_mean
from ethos.records import Conversation, Document, Message, Preference
from ethos.rows.card import card
from ethos.rows.provenance import Traced, Trained, read_trained
from ethos.store import explained, write_text
from ethos.train.fit import Training

Json = dict[str, Any]


class Left(NamedTuple):
    """Why a row has no place in a format."""

    reason: str


class Format(NamedTuple):
    """How a trainer wants its rows, what else belongs in the folder, and what a user should be told."""

    preference: Callable[[Traced[Preference]], Json | Left]
    conversation: Callable[[Traced[Conversation]], Json | Left]
    document: Callable[[Traced[Document]], Json | Left]
    beside: Callable[[Trained, dict[str, str]], dict[str, str]]
    """Further files, given those of rows."""
    remarks: Callable[[Trained], list[str]]


class Made(NamedTuple):
    """Rows as a format has them."""

    files: dict[str, list[Json]]
    left: Counter[str]
    """Reason → rows left out."""


def export_run(folder: Path, to: str, out: Path) -> str:
    """Write the rows of a run (or a data stage) to the empty or new folder `out`; what was written and lost, in words.

    Raises ConfigError for an unknown format, StoreError where `out` holds anything, DataError where no row fits.
    """
    if to not in FORMATS:
        raise ConfigError(f"no format {to!r}", hint=did_you_mean(to, FORMATS))
    if out.is_dir() and any(out.iterdir()):
        raise StoreError(f"{out} is not empty", hint="choose another folder with --out: nothing is overwritten")
    trained = read_trained(folder)
    made = converted(trained, FORMATS[to])
    if not made.files:
        raise DataError(f"{folder} has no row for {to}", hint="; ".join(made.left))
    files = {name: "".join(map(_line, rows)) for name, rows in made.files.items()}
    files |= FORMATS[to].beside(trained, files)
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_text(out / name, text)
    return _told(out, made, [*trained.remarks, *FORMATS[to].remarks(trained), *_of_the_run(trained)])


def converted(trained: Trained, form: Format) -> Made:
    """Every row in its file, or counted with the reason why not."""
    rows = [
        *(("preferences", form.preference(row)) for row in trained.preferences),
        *(("conversations", form.conversation(row)) for row in trained.conversations),
        *(("replay", form.conversation(row)) for row in trained.replay),
        *(("documents", form.document(row)) for row in trained.documents),
    ]
    files, left = dict[str, list[Json]](), Counter[str]()
    for name, row in rows:
        if isinstance(row, Left):
            left[f"{name}: {row.reason}"] += 1
        else:
            files.setdefault(f"{name}{'-partial' if 'completion' in row else ''}.jsonl", []).append(row)
    return Made(files, left)


def learnt(row: Conversation) -> list[bool]:
    """Whether each message carries loss."""
    return [message.role == "assistant" and place >= row.learn_from for place, message in enumerate(row.messages)]


def as_on_disk(traced: Traced[Any]) -> Json:
    """A row's own columns, and its provenance."""
    row: Json = traced.row.model_dump(mode="json")
    if isinstance(traced.row, Preference):
        row["swapped"] = traced.row.swapped  # on disk it stands only where it is true
    return row | {"stage": traced.stage, "about": traced.about}


def one_reply(traced: Traced[Preference]) -> Json | Left:
    """A preference whose replies are one message each: trainers learn all that follows the prompt."""
    row = traced.row
    return as_on_disk(traced) if len(row.chosen) == len(row.rejected) == 1 else Left("a reply is of several messages")


def trl_conversation(traced: Traced[Conversation]) -> Json | Left:
    """`messages`; where an assistant's turn is context alone, `prompt` up to the first learnt turn and `completion`."""
    flags, whole = learnt(traced.row), as_on_disk(traced)
    if not any(flags):
        return Left("no turn is learnt")
    if sum(flags) == sum(message.role == "assistant" for message in traced.row.messages):
        return whole
    messages, first = whole.pop("messages"), flags.index(True)
    return {"prompt": messages[:first], "completion": messages[first:], **whole}


def axolotl_conversation(traced: Traced[Conversation]) -> Json | Left:
    """`messages`, each with whether to `train` on it."""
    flags = learnt(traced.row)
    if not any(flags):
        return Left("no turn is learnt")
    marked = [_plain(m) | {"train": flag} for m, flag in zip(traced.row.messages, flags, strict=True)]
    return as_on_disk(traced) | {"messages": marked}


def openai_conversation(traced: Traced[Conversation]) -> Json | Left:
    """`messages`, weight 0 on an assistant's turn that is context alone."""
    flags = learnt(traced.row)
    if not any(flags):
        return Left("no turn is learnt")
    if not flags[-1]:
        return Left("it ends on a user's turn")
    return {
        "messages": [
            _plain(m) | ({"weight": 0} if m.role == "assistant" and not flag else {})
            for m, flag in zip(traced.row.messages, flags, strict=True)
        ]
    }


def openai_preference(traced: Traced[Preference]) -> Json | Left:
    """`input`, `preferred_output` and `non_preferred_output`."""
    row = one_reply(traced)
    if isinstance(row, Left):
        return row
    outputs = {"preferred_output": row["chosen"], "non_preferred_output": row["rejected"]}
    return {"input": {"messages": row["prompt"]}} | outputs


def _line(row: Json) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _plain(message: Message) -> Json:
    return message.model_dump(mode="json")


def axolotl_settings(trained: Trained, files: dict[str, str]) -> dict[str, str]:
    """`sft.yaml` and `dpo.yaml`: the `datasets:` of two axolotl runs, to be started in the folder."""
    rows = {name: AXOLOTL[name.partition(".")[0]] for name in files}
    parts = {"sft.yaml": "", "dpo.yaml": ""}
    for name, settings in rows.items():
        lines = "".join(f"    {line}\n" for line in settings)
        parts["dpo.yaml" if name == "preferences.jsonl" else "sft.yaml"] += (
            f"  - path: {name}\n    ds_type: json\n{lines}"
        )
    heads = {"sft.yaml": "datasets:\n", "dpo.yaml": "rl: dpo\ndatasets:\n"}
    return {name: heads[name] + text for name, text in parts.items() if text}


CHAT_TEMPLATE = (
    "type: chat_template",
    "field_messages: messages",
    "message_field_training: train",
    "train_on_eos: turn",
)
AXOLOTL = {
    "preferences": (
        "split: train",
        "type: chat_template.default",
        "field_messages: prompt",
        "field_chosen: chosen",
        "field_rejected: rejected",
    ),
    "conversations": CHAT_TEMPLATE,
    "replay": CHAT_TEMPLATE,
    "documents": ("type: completion", "field: text"),
}
"""File → how axolotl reads it."""


def nothing(trained: Trained, files: dict[str, str]) -> dict[str, str]:
    """No file beside those of rows."""
    return {}


def no_document(traced: Traced[Document]) -> Left:
    """A format of conversations alone."""
    return Left("this format is of conversations alone")


def grouped(trained: Trained) -> list[str]:
    """What becomes of contrasts of more than one row."""
    sizes = Counter(traced.row.group for traced in trained.preferences)
    if not (several := sum(size > 1 for size in sizes.values())):
        return []
    return [
        f"{several} contrasts are groups of rows whose margins ethos adds before the loss; here each is learnt alone"
    ]


def trl_remarks(trained: Trained) -> list[str]:
    """Which of TRL's own settings the rows need."""
    told = (
        "TRL learns the user's turns too, unless SFTConfig(assistant_only_loss=True) and a template that marks replies"
    )
    return [*grouped(trained), *([told] if trained.conversations or trained.replay else [])]


def openai_remarks(trained: Trained) -> list[str]:
    """What the format has no word for."""
    return [
        *grouped(trained),
        "kind, source, group, stage, about and clean prompts are left out: the format has no place for them",
    ]


def _of_the_run(trained: Trained) -> list[str]:
    """What a run's stages do with the rows that no row says."""
    if trained.manifest is None:
        return []
    stages = trained.manifest.config.named_stages
    told = [
        f"{name} was inoculated with a system prompt, which is not in the rows"
        for name, s in stages.items()
        if isinstance(s, Training) and s.inoculation
    ]
    return ["these are all rows of the run; how many of a kind a stage takes is in its manifest.json", *told]


def _told(out: Path, made: Made, remarks: list[str]) -> str:
    """What was written, what was left out, what to know."""
    lines = [f"{out / name}: {len(rows)} rows" for name, rows in made.files.items()]
    lines += [f"left out: {count} of {reason}" for reason, count in made.left.items()]
    return "\n".join([*lines, *(f"note: {remark}" for remark in remarks)])


FORMATS = {
    "trl": Format(one_reply, trl_conversation, as_on_disk, nothing, trl_remarks),
    "axolotl": Format(one_reply, axolotl_conversation, as_on_disk, axolotl_settings, grouped),
    "openai": Format(
        openai_preference,
        openai_conversation,
        no_document,
        nothing,
        openai_remarks,
    ),
    "hub-folder": Format(as_on_disk, as_on_disk, as_on_disk, card, lambda _: []),
}
"""Name on the command line → format."""
