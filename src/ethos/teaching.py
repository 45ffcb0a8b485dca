"""A teacher writes the recorded contrasts and documents of a constitution: `ethos data generate`, `shard` and `merge`.

Replies are stored beside the rows, so a killed run asks nothing twice. What is missing from the store can be looked at
(`foresee`), sent out as files and taken back (`shard`, `merge`), or asked for on the spot: the process that makes the
rows is the same, and goes on from the same replies.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from ethos import scoring
from ethos.bench.contamination import contamination, item_texts, sealed_runs
from ethos.constitution import Constitution, read_written, recorded_folder
from ethos.data import crossing, describing, generation
from ethos.data.generation import SEALED, Barred, Generated, Order
from ethos.data.novelty import Known
from ethos.data.recorded import read_recorded
from ethos.errors import ConfigError, DataError
from ethos.models import Loaded
from ethos.records import Message, to_jsonl, user
from ethos.samplers import batch
from ethos.samplers.api import Teacher, openai_body
from ethos.samplers.budget import Budget, Prices, Unasked
from ethos.samplers.local import LocalTeacher
from ethos.samplers.replies import Ask, Reply, ReplyCache, Request
from ethos.store import explained, write_text
from ethos.teachers import NO_CAP, AnyTeacher, foreseen, source, stored, with_room

RESEMBLES = "resembles a text of a benchmark item"
THOUGHTS = {"strip": "the thoughts are gone", "keep": "the thoughts are kept"}
WHOLE: dict[str, Callable[[Constitution, Order, Ask, Barred], Generated]] = {
    "crossed": crossing.cross,
    "documents": describing.describe,
}
"""Kinds that a teacher writes alone."""
REPLIES, SHARDS = "replies.sqlite", "shards"


def write_contrasts(
    constitution: str, order: Order, teacher: AnyTeacher, *, out: Path | None, budget: Budget = NO_CAP
) -> str:
    """Write `<kind>.jsonl` (items: `<kind>.items.jsonl`) beside the constitution, or to `out`; what was done, in words.

    `teacher` is a model behind HTTP, or a subject on this machine. Raises BudgetSpent at a cap.
    """
    written, path = read_written(constitution), _place(constitution, order, teacher, out)
    folder = path.parent
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with closing(ReplyCache(folder / REPLIES)) as cache:
            made, thoughts = _made(written, order, teacher, cache, budget, _other_side(constitution, order))
        reasons = Counter(drop.reason for drop in made.dropped)
        if not made.kept:
            raise DataError(
                f"nothing is left of {len(made.dropped)}: {_commonest(reasons)}",
                hint="raise --candidates, or take another teacher" if reasons else f"write {_lacking(order)} prompts",
            )
        write_text(path, to_jsonl(made.kept))
        write_text(folder / f"{order.file}.dropped.jsonl", to_jsonl(made.dropped))
    told = [f"{path}: {len(made.kept)} rows, {len(made.dropped)} dropped"]
    told += [f"  {thoughts:4} replies were thought about first: {THOUGHTS[teacher.thinking]}"] if thoughts else []
    return "\n".join([*told, *counted(reasons)])


def foresee(
    constitution: str, order: Order, teacher: AnyTeacher, *, out: Path | None, prices: Prices | None = None
) -> str:
    """What `write_contrasts` would ask, in words: requests, tokens, dollars, minutes. Writes nothing."""
    written, path = read_written(constitution), _place(constitution, order, teacher, out)
    store = path.parent / REPLIES
    with closing(ReplyCache(store if store.exists() else Path(":memory:"))) as cache:
        gap = _gap(written, order, teacher, cache)
    if gap is None:
        return "nothing is left to ask the teacher: `ethos data generate` finishes from what is stored"
    later = {"crossed": crossing, "documents": describing}.get(order.kind, generation).later(written, order, gap.number)
    return foreseen(gap, with_room(later, teacher.thought_tokens), teacher, prices)


def shard(constitution: str, order: Order, teacher: AnyTeacher, *, out: Path | None, shards: int) -> str:
    """Write the round of requests that `write_contrasts` would make next as batch files in `shards/`."""
    if not isinstance(teacher, Teacher) or teacher.interface != "openai":
        raise ConfigError(
            "shards are for teachers that are asked as OpenAI's are",
            hint="give the URL that `data generate` will get; nothing is sent to it",
        )
    written, path = read_written(constitution), _place(constitution, order, teacher, out)
    folder = path.parent / SHARDS
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with closing(ReplyCache(path.parent / REPLIES)) as cache:
            gap = _gap(written, order, teacher, cache)
            if gap is None:
                return "nothing is left to ask: run `ethos data generate` with the same arguments"
            cache.hand_out(gap.missing, teacher.thinking)
        lines = [
            batch.BatchRequest(custom_id=key, body=openai_body(teacher.model, request))
            for key, request in gap.missing.items()
        ]
        files = batch.write_shards(folder, order.file, lines, shards)
    told = [f"{file}" for file in files]
    if len(lines) > batch.MOST_LINES * len(files):
        told.append(f"OpenAI takes {batch.MOST_LINES:,} requests a file at most: raise --shards for it")
    return "\n".join([f"round {gap.number + 1}: {len(lines):,} requests, files: {len(files)}", *told])


def merge(folder: Path, results: Sequence[Path]) -> str:
    """Store the replies of result files for the shards that went out from `folder`; what became of each line."""
    store = folder / REPLIES
    if not store.exists():
        raise DataError(f"{folder}: no shards went out from here", hint="write them first: ethos data shard")
    with explained(folder), closing(ReplyCache(store)) as cache:
        merged = batch.merge(results, cache)
    head = f"{merged.stored:,} replies stored, {merged.refused.total():,} lines refused"
    return "\n".join([head, *counted(merged.refused)])


def _commonest(reasons: Counter[str]) -> str:
    return reasons.most_common(1)[0][0] if reasons else "it has no prompts to answer"


def _lacking(order: Order) -> str:
    return "domain, format, role or pressure" if order.measured else "familiar"


def counted(reasons: Counter[str]) -> list[str]:
    """Reasons with their counts, the commonest first."""
    return [f"  {count:4} {reason}" for reason, count in reasons.most_common()]


def barred(*, alike: float | None = None) -> Barred:
    """What keeps texts away from the benchmark's items, sealed and development, of every constitution.

    None shares eight words in a row; with `alike`, none has a larger share of word 3-grams in common either.
    """
    runs = sealed_runs()
    items = None if alike is None else Known([text for texts in item_texts() for text in texts], alike=alike)

    def reason(texts: Sequence[str]) -> str | None:
        if contamination(list(texts), runs):
            return SEALED
        return RESEMBLES if items and any(map(items.resembles, texts)) else None

    return reason


def _other_side(constitution: str, order: Order) -> list[str]:
    """Replies that new ones must not resemble: of rows to train on for items, and of items for rows to train on."""
    if not recorded_folder(constitution).is_dir():
        return []
    there = read_recorded(constitution)
    rows = [*there.poles, *there.voice] if order.measured else [*there.pole_items, *there.voice_items]
    return [reply for row in rows for reply in (row.chosen, row.rejected)]


def _made(
    written: Constitution, order: Order, teacher: AnyTeacher, cache: ReplyCache, budget: Budget, beside: Sequence[str]
) -> tuple[Generated, int]:
    """The rows, every missing reply asked for; and how many replies were thought about first."""
    asked = source(teacher, cache, budget=budget)
    if write := WHOLE.get(order.kind):
        return write(written, order, asked.ask, barred()), asked.thoughts.total()
    student = _student(order.student, cache) if order.student else None
    rate = partial(gains, asked.loaded, written) if order.choose == "ratio" and asked.loaded else None
    made = generation.generate(written, order, asked.ask, barred(), student, rate, beside=beside)
    return made, asked.thoughts.total()


def _student(name: str, cache: ReplyCache) -> Ask:
    """A student on this machine, loaded when it is asked: the teacher, which may refuse, comes first."""

    def answer(requests: Sequence[Request]) -> list[Reply]:
        return source(LocalTeacher(subject=name), cache, label="student").ask(requests)

    return answer


def gains(loaded: Loaded, constitution: Constitution, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """log p(reply | constitution, prompt) − log p(reply | prompt), nats per token, under a model on this machine."""
    system = Message(role="system", content=constitution.system_prompt())
    advised = [loaded.chat.reply([system, user(prompt)], text) for prompt, text in pairs]
    plain = [loaded.chat.reply([user(prompt)], text) for prompt, text in pairs]
    scored = zip(scoring.score(loaded.model, advised), scoring.score(loaded.model, plain), strict=True)
    return [float((with_it - without).mean()) for with_it, without in scored]


def _gap(written: Constitution, order: Order, teacher: AnyTeacher, cache: ReplyCache) -> Unasked | None:
    """The first round that the store cannot answer, if there is one."""
    told = stored(teacher, cache)
    try:
        if write := WHOLE.get(order.kind):
            write(written, order, told, barred())
        else:
            generation.taught(written, order, told)
    except Unasked as gap:
        return gap
    return None


def _place(constitution: str, order: Order, teacher: AnyTeacher, out: Path | None) -> Path:
    """The file to be written. One that is there already, and an order that a teacher cannot fill, are refused."""
    if order.choose == "ratio" and isinstance(teacher, Teacher):
        raise ConfigError(
            "a ratio takes log-probabilities, which a teacher behind HTTP does not give",
            hint="--choose length, or a teacher on this machine",
        )
    path = (out or recorded_folder(constitution)) / f"{order.file}.jsonl"
    if path.exists():
        raise DataError(f"{path} is there already", hint="choose another folder with --out, or move it away")
    return path
