"""Talking with subjects in the terminal, side by side."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from ethos.models import load_subject
from ethos.records import Message, assistant, user
from ethos.samplers.local import sample
from ethos.samplers.replies import ReplyCache, Request
from ethos.subjects import find_subject


def converse(names: Sequence[str], *, message: str | None, temperature: float, seed: int) -> None:
    """Ask every subject the same; each keeps its own side of the conversation."""
    console = Console()
    found = [find_subject(name) for name in names]
    subjects = [load_subject(each.base, each.subject, each.adapter) for each in found]
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
