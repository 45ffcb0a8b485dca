"""A run's training rows in numbers: `ethos data stats`, and the head of its page."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from ethos.data.recorded import words
from ethos.errors import DataError
from ethos.manifest import Manifest, read_baseline
from ethos.models import base_folder, load_tokenizer_chat
from ethos.records import Message, Preference
from ethos.rows.provenance import AnyRow, Trained, read_trained
from ethos.rows.seen import Seen, as_read, seen


class Line(NamedTuple):
    """All rows of one kind."""

    kind: str
    num_rows: int
    learnt: int
    """Tokens."""
    context: int
    """Tokens."""
    chosen: float | None
    """Mean words of the chosen replies; None where a kind has none."""
    rejected: float | None
    repeated: int
    """Rows that say word for word what an earlier one of the kind says."""


class SeenRun(NamedTuple):
    """The rows of a finished run, each as the model sees it."""

    root: Path
    manifest: Manifest
    trained: Trained
    rows: list[tuple[AnyRow, Seen]]
    sample: list[tuple[str, bool]]
    """The first preference row or conversation as the model reads it: stretches of text, learnt or not."""


def read_seen(root: Path) -> SeenRun:
    """The rows of a finished run. Raises DataError for a data stage's folder, which names no tokenizer."""
    trained = read_trained(root)
    if trained.manifest is None:
        raise DataError(f"{root}: a data stage does not name its model", hint="give the folder of a finished run")
    chat = load_tokenizer_chat(base_folder(trained.manifest.config.model))
    rows = [(row, seen(chat, row)) for rows in trained.by_kind for row in rows]
    talks = [[*row.row.prompt, *row.row.chosen] for row in trained.preferences[:1]]
    talks += [row.row.messages for row in trained.conversations[:1]]
    return SeenRun(root, trained.manifest, trained, rows, as_read(chat, talks[0]) if talks else [])


def tally(rows: Sequence[tuple[AnyRow, Seen]]) -> list[Line]:
    """A line a kind, in order of appearance."""
    kinds: dict[str, list[tuple[AnyRow, Seen]]] = {}
    for row in rows:
        kinds.setdefault(row[0].kind, []).append(row)
    return [_line(kind, own) for kind, own in kinds.items()]


def _line(kind: str, rows: Sequence[tuple[AnyRow, Seen]]) -> Line:
    replies = [(_words(row.row.chosen), _words(row.row.rejected)) for row, _ in rows if isinstance(row.row, Preference)]
    said = {(tuple(s.turns), tuple(s.chosen), tuple(s.rejected)) for _, s in rows}
    return Line(
        kind=kind,
        num_rows=len(rows),
        learnt=sum(s.learnt for _, s in rows),
        context=sum(s.context for _, s in rows),
        chosen=fmean(chosen for chosen, _ in replies) if replies else None,
        rejected=fmean(rejected for _, rejected in replies) if replies else None,
        repeated=len(rows) - len(said),
    )


def _words(messages: Sequence[Message]) -> int:
    return sum(words(message.content) for message in messages)


def abouts(trained: Trained) -> dict[str, Counter[str]]:
    """Trait, or what decides a crossed contrast → kind → rows; the most frequent first."""
    found: dict[str, Counter[str]] = {}
    for traced in (row for rows in trained.by_kind for row in rows):
        for name in traced.about.split(", ") if traced.about else ():
            found.setdefault(name, Counter())[traced.kind] += 1
    return dict(sorted(found.items(), key=lambda item: (-item[1].total(), item[0])))


def refusals(trained: Trained) -> list[tuple[str, int, str]]:
    """(stage, rows, reason) of what filters refused, by stage the most frequent reason first."""
    return [
        (stage, count, reason)
        for stage, drops in trained.dropped.items()
        for reason, count in Counter(drop.reason for drop in drops).most_common()
    ]


def render_stats(root: Path) -> str:
    """The numbers of a finished run's rows, as text."""
    run = read_seen(root)
    constitution, config = run.manifest.constitution, run.manifest.config
    lines = [f"{constitution.name} {constitution.version} in {config.model}, seed {config.seed}", ""]
    lines += _kinds(tally(run.rows))
    lines += ["", *_abouts(abouts(run.trained))] if abouts(run.trained) else []
    lines += ["", *_shares(run.trained)]
    lines += [f"dropped by {stage}: {count} {reason}" for stage, count, reason in refusals(run.trained)]
    lines += [] if run.trained.dropped else ["no filter refused a row"]
    lines += _bag_of_words(run)
    return "\n".join([*lines, *(f"note: {remark}" for remark in run.trained.remarks)])


def _kinds(lines: Sequence[Line]) -> Iterator[str]:
    yield f"{'':<20} {'rows':>6} {'tokens':>19} {'words':>31} {'repeated':>9}"
    yield f"{'kind':<20} {'':>6} {'learnt':>9} {'context':>9} {'chosen':>10} {'rejected':>9} {'difference':>10}"
    for line in lines:
        told = f"{line.kind:<20} {line.num_rows:>6,} {line.learnt:>9,} {line.context:>9,}"
        if line.chosen is None or line.rejected is None:
            told += f" {'–':>10} {'–':>9} {'–':>10}"
        else:
            told += f" {line.chosen:>10.1f} {line.rejected:>9.1f} {line.chosen - line.rejected:>+10.2f}"
        yield f"{told} {line.repeated:>9}"


def _shares(trained: Trained) -> Iterator[str]:
    """How the preference rows divide: how many are pushed, how many deliberated."""
    counts = Counter(traced.kind for traced in trained.preferences)
    if counts:
        told = ", ".join(f"{count / counts.total():.0%} {kind}" for kind, count in counts.items())
        yield f"{counts.total():,} preference rows: {told}"


def _abouts(found: dict[str, Counter[str]]) -> Iterator[str]:
    kinds = list(dict.fromkeys(kind for counts in found.values() for kind in counts))
    yield f"{'about':<20} {' '.join(f'{kind:>{max(6, len(kind))}}' for kind in kinds)}"
    for name, counts in found.items():
        yield f"{name:<20} {' '.join(f'{counts[kind]:>{max(6, len(kind))},}' for kind in kinds)}"


def _bag_of_words(run: SeenRun) -> Iterator[str]:
    """How far the words of these rows alone would get on the benchmark's contrasts, where the run measured it."""
    scores = read_baseline(run.root, run.manifest)
    contrasts: dict[str, list[str]] = {}
    for score in scores:
        contrast, _, split = score.contrast.partition(", ")
        contrasts.setdefault(contrast, []).append(f"{split} {score.accuracy:.0%}")
    yield from (f"a bag of words picks the {name} reply: {', '.join(told)}" for name, told in contrasts.items())
