"""Talking with subjects in the terminal, side by side."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from ethos import models
from ethos.errors import ModelError
from ethos.manifest import MANIFEST, read_manifest
from ethos.models import DEFAULT_MODEL, Loaded, Subject
from ethos.records import Message, assistant, user
from ethos.samplers.local import ReplyCache, Request, sample
from ethos.train.lora import CONFIG


def find_subject(name: str) -> Loaded:
    """A subject by `base`, a run folder (its trained adapter), or an adapter's folder."""
    folder = Path(name)
    adapter = folder / "adapter" if (folder / MANIFEST).exists() else folder if (folder / CONFIG).exists() else None
    if adapter is None and name != "base":
        raise ModelError(
            f"no subject at {name!r}", hint="give 'base', a finished run folder, or a folder with adapter_config.json"
        )
    model = read_manifest(folder).config.model if (folder / MANIFEST).exists() else DEFAULT_MODEL
    base = models.base_folder(model)
    digest = models.base_digest(base)
    loaded = models.load_base(base)
    subject = Subject(name=name, base=digest, adapter=models.adapter_digest(adapter) if adapter else None)
    with_adapter = models.load_adapter(loaded, adapter, base=digest) if adapter else loaded
    return Loaded(subject, with_adapter, models.load_tokenizer_chat(base))


def converse(names: Sequence[str], *, message: str | None, temperature: float, seed: int) -> None:
    """Ask every subject the same; each keeps its own side of the conversation."""
    console = Console()
    subjects = [find_subject(name) for name in names]
    talks: list[list[Message]] = [[] for _ in subjects]
    if message is None:
        console.print("Ask something; an empty line leaves.", style="dim")
    with tempfile.TemporaryDirectory() as scratch:
        cache = ReplyCache(Path(scratch) / "replies.sqlite")
        while text := message or console.input("[bold]you[/bold] > ").strip():
            panels = []
            for subject, talk in zip(subjects, talks, strict=True):
                talk.append(user(text))
                request = Request(messages=talk, max_tokens=160, temperature=temperature, seed=seed)
                (reply,) = sample(subject, [request], cache, label=subject.subject.name)
                talk.append(assistant(reply.text))
                panels.append(
                    Panel(Text(reply.text or "(empty reply)"), title=subject.subject.name, width=min(60, console.width))
                )
            console.print(Columns(panels))
            if message is not None:
                break
        cache.close()
