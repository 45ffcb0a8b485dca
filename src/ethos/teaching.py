"""A teacher writes the recorded contrasts of a constitution: `ethos data generate`."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from ethos.bench.items import contamination, sealed_runs
from ethos.constitution import read_constitution, recorded_folder
from ethos.data.generation import Ask, Kind, generate
from ethos.errors import DataError
from ethos.models import load_subject
from ethos.records import to_jsonl
from ethos.samplers.api import Teacher, ask
from ethos.samplers.local import sample
from ethos.samplers.replies import ReplyCache
from ethos.store import explained, write_text
from ethos.subjects import find_subject

REPLIES = "replies.sqlite"


def write_contrasts(
    constitution: str, kind: Kind, teacher: Teacher | str, *, candidates: int, out: Path | None, seed: int
) -> str:
    """Write `<kind>.jsonl` and `<kind>.dropped.jsonl` beside the constitution (or to `out`); what was done, in words.

    `teacher` is a model behind HTTP, or the name of a subject on this machine. A killed run asks nothing twice.
    """
    written = read_constitution(constitution)
    folder = out or recorded_folder(constitution)
    path = folder / f"{kind}.jsonl"
    if path.exists():
        raise DataError(f"{path} is there already", hint="choose another folder with --out, or move it away")
    sealed = sealed_runs()
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _asking(teacher, folder / REPLIES) as asking:
            made = generate(
                written,
                kind,
                asking,
                lambda texts: bool(contamination(texts, sealed)),
                candidates=candidates,
                seed=seed,
            )
        reasons = Counter(drop.reason for drop in made.dropped)
        if not made.kept:
            why = reasons.most_common(1)[0][0] if reasons else "it has no familiar prompts"
            raise DataError(
                f"no contrast is left of {len(made.dropped)}: {why}",
                hint="raise --candidates, take another teacher, or write familiar prompts",
            )
        write_text(path, to_jsonl(made.kept))
        write_text(folder / f"{kind}.dropped.jsonl", to_jsonl(made.dropped))
    told = [f"{path}: {len(made.kept)} rows, {len(made.dropped)} dropped"]
    return "\n".join([*told, *(f"  {count:4} {reason}" for reason, count in reasons.most_common())])


@contextmanager
def _asking(teacher: Teacher | str, replies: Path) -> Iterator[Ask]:
    """The teacher as a function of requests, its replies stored."""
    with closing(ReplyCache(replies)) as cache:
        if isinstance(teacher, Teacher):
            yield partial(ask, teacher, cache=cache, label="teacher")
            return
        found = find_subject(teacher)
        loaded = load_subject(found.base, found.subject, found.adapter)
        yield lambda requests: sample(loaded, requests, cache, label="teacher")
