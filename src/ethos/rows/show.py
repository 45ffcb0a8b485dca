"""Training rows as the model sees them."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ethos.chat import Chat, Rendered
from ethos.data.preferences import Labels
from ethos.manifest import read_manifest
from ethos.models import base_folder, load_tokenizer_chat
from ethos.records import Conversation, Drop, Preference, read_jsonl
from ethos.rows.provenance import swaps_told


def coloured(chat: Chat, rendered: Rendered, *, learnt: str) -> Text:
    """The rendered text, learnt tokens in a colour, the rest dim."""
    text = Text()
    for token, carries_loss in zip(rendered.tokens, rendered.mask, strict=True):
        text.append(str(chat.tokenizer.decode([token])), style=learnt if carries_loss else "dim")
    return text


def labels_told(labels: Labels, rows: Sequence[Preference]) -> str:
    """How many contrasts stand the other way round than recorded."""
    return f"labels {labels}: {swaps_told(rows)}"


def show_run(root: Path, *, limit: int) -> None:
    """Print `limit` rows of each kind, then every drop."""
    manifest, console = read_manifest(root), Console()
    chat = load_tokenizer_chat(base_folder(manifest.config.model))
    folder = root / manifest.stages["data"]
    preferences = read_jsonl(folder / "preferences.jsonl", Preference)
    console.print(labels_told(manifest.config.mixture.labels, preferences), style="yellow", highlight=False)
    for kind in dict.fromkeys(row.kind for row in preferences):
        for row in islice((r for r in preferences if r.kind == kind), limit):
            console.rule(f"{row.source}, chosen and rejected swapped" if row.swapped else row.source)
            console.print(coloured(chat, chat.render([*row.prompt, *row.chosen]), learnt="green"))
            console.print(coloured(chat, chat.render([*row.prompt, *row.rejected]), learnt="red"))
    for path in [folder / "conversations.jsonl", folder / "replay.jsonl"]:
        for talk in read_jsonl(path, Conversation)[:limit] if path.stat().st_size else []:
            console.rule(talk.source)
            console.print(coloured(chat, chat.render(talk.messages, learn_from=talk.learn_from), learnt="green"))
    for stage in ("data", *manifest.config.named_stages):
        dropped = root / manifest.stages[stage] / "dropped.jsonl"
        if dropped.exists() and dropped.stat().st_size:
            for drop in read_jsonl(dropped, Drop):
                console.print(f"dropped {drop.source}: {drop.reason}", style="yellow", highlight=False)
