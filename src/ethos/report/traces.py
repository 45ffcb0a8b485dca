"""What the stages left behind: rows kept and dropped, training curves, seconds, replies.

Every file here may rightly be empty or absent (only some methods sample and filter), so a missing one is an
empty answer; a broken one is still an error.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from ethos.data.files import CONVERSATIONS, DOCUMENTS, PREFERENCES, REPLAY, read_drops
from ethos.gap import GAP, TeacherGap, read_gap
from ethos.manifest import Manifest
from ethos.records import Record, jsonl_lines, read_jsonl, read_text
from ethos.report.findings import Scores, ScoreTable
from ethos.store import read_seconds
from ethos.train.fit import LOG
from ethos.train.schedule import Step

R = TypeVar("R", bound=Record)

RECORDED = {
    PREFERENCES: "preference rows",
    CONVERSATIONS: "recorded conversations",
    DOCUMENTS: "documents",
    REPLAY: "replay conversations",
}
"""File of the data folder → what its rows are."""


class Count(NamedTuple):
    """So many rows of a stage, kept or dropped for one reason."""

    stage: str
    what: str
    num_rows: int


class Curve(NamedTuple):
    """One quantity over the steps of one training stage."""

    stage: str
    quantity: str
    values: tuple[float, ...]


class Reply(NamedTuple):
    """What one subject wrote to one open prompt."""

    subject: str
    text: str
    note: str
    """Why there is no text, or that the limit cut it; empty otherwise."""


class Transcript(NamedTuple):
    """One open prompt, named by its item, with every subject's reply."""

    item: str
    replies: tuple[Reply, ...]


def kept(root: Path, manifest: Manifest) -> list[Count]:
    """Rows that went into training, by file."""
    reads = any(stage.method == "documents" for stage in manifest.config.stages)
    files = [("data", file, what) for file, what in RECORDED.items() if reads or file != DOCUMENTS]
    for stage in manifest.config.named_stages:
        files += [(stage, CONVERSATIONS, "conversations sampled by the student")]
        files += [(stage, PREFERENCES, "preference rows with sampled rejections")]
    paths = [(stage, what, root / manifest.stages[stage] / file) for stage, file, what in files]
    return [Count(stage, what, len(jsonl_lines(read_text(path)))) for stage, what, path in paths if path.exists()]


def dropped(root: Path, manifest: Manifest) -> list[Count]:
    """Rows a filter refused, counted by reason, the most frequent first."""
    counts = []
    for stage in ("data", *manifest.config.named_stages):
        reasons = Counter(drop.reason for drop in read_drops(root / manifest.stages[stage]))
        counts += [
            Count(stage, reason, count)
            for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
        ]
    return counts


def gaps(root: Path, manifest: Manifest) -> list[tuple[str, TeacherGap]]:
    """What the teachers had over their students before training, of the stages where that was measured."""
    paths = [(stage, root / manifest.stages[stage] / GAP) for stage in manifest.config.named_stages]
    return [(stage, read_gap(path)) for stage, path in paths if path.exists()]


def curves(root: Path, manifest: Manifest) -> list[Curve]:
    """Loss of every training stage, and the margin of those that train on contrasts."""
    found = []
    for stage in (*manifest.config.named_stages, "neutral"):
        log = _records(root, manifest, stage, LOG, Step)
        margins = [step.metrics["margin"] / step.metrics["groups"] for step in log if step.metrics.get("groups")]
        if log:
            found.append(Curve(stage, "loss", tuple(step.loss for step in log)))
        if margins:
            found.append(Curve(stage, "margin of a contrast, nats", tuple(margins)))
    return found


def seconds(root: Path, manifest: Manifest) -> list[tuple[str, float | None]]:
    """How long each artefact took to make, in the order of the run; None where that was not written down."""
    measured = [
        (f"{claim} · {subject}", folder)
        for subject, claims in manifest.measured.items()
        for claim, folder in claims.items()
    ]
    names: dict[str, str] = {}
    for name, folder in [*manifest.stages.items(), *measured]:
        names.setdefault(folder, name)  # a single stage is its own sum, made once
    return [(name, read_seconds(root / folder)) for folder, name in names.items()]


def transcripts(scores: ScoreTable, subjects: Sequence[str]) -> list[Transcript]:
    """Replies side by side, in the order of the item file: nothing is picked."""
    by_subject = {subject: _replies(scores[subject]["writes_coherently"]) for subject in subjects}
    items = dict.fromkeys(item for replies in by_subject.values() for item in replies)
    return [
        Transcript(item, tuple(Reply(subject, *_shown(by_subject[subject], item)) for subject in subjects))
        for item in items
    ]


def _replies(scores: Scores) -> dict[str, tuple[str, str]]:
    """Item → (text, note); every readout of an item carries the same text, one is read."""
    return {
        score.item: (score.text, "" if score.value else "cut off at the length limit")
        for score in scores
        if score.readout == "stops"
    }


def _shown(replies: Mapping[str, tuple[str, str]], item: str) -> tuple[str, str]:
    """The reply with its note, or why there is none."""
    text, note = replies.get(item, ("", "not measured"))
    return (text, note) if text or item not in replies else ("", "empty reply")


def _records(root: Path, manifest: Manifest, stage: str, file: str, kind: type[R]) -> list[R]:
    """Records of a stage's file, none where it is missing or empty."""
    path = root / manifest.stages[stage] / file
    return read_jsonl(path, kind) if path.exists() and path.stat().st_size else []
