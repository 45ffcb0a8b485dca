"""Claims measured on subjects: each score file is made once, named by everything that decides it."""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, field_validator, model_validator

from ethos import models
from ethos.bench.battery import CLAIMS, find_claim
from ethos.bench.claim import Bench, Claim, Score, unscored_if_nan
from ethos.bench.classifier import corpus_digest
from ethos.bench.derived import Kind
from ethos.bench.item_files import DEVELOPMENT, ITEMS, Items
from ethos.constitution import Constitution
from ethos.data.recorded import Recorded
from ethos.errors import DataError
from ethos.models import Loaded, Subject, load_subject
from ethos.records import Conversation, Record, digest_of, read_jsonl, read_text, to_jsonl
from ethos.samplers.replies import PROTOCOL, ReplyCache
from ethos.store import KEY, Run, write_text
from ethos.train import lora
from ethos.train.loop import train
from ethos.train.lora import LoraSettings
from ethos.train.schedule import Optimisation
from ethos.train.supervised import conversation_units, sft_objective
from ethos.units import KEPT

SCORES = "scores.jsonl"
"""A claim's numbers."""
LATER = "later"
LATER_SHAPE, LATER_STEPS = LoraSettings(rank=8), Optimisation(learning_rate=3e-4, units_per_step=4)
"""How a subject is trained on, for claims that ask what is left of it: bump their versions with any change here."""


@cache
def _item_files(folder: Path) -> frozenset[str]:
    """Names of the hand-written item files, whatever constitution they are about."""
    return frozenset(path.stem for path in folder.rglob("*.jsonl"))


class BenchSettings(Record):
    """What is measured."""

    claims: tuple[str, ...] = tuple(CLAIMS)
    items: Kind = "sealed"
    """`development` for everything that is tuned; `sealed` for what is reported. A constitution that nobody wrote
    items for gets them from its own held-out rows; `derived` does so although there are written ones."""
    per_split: int | None = Field(None, gt=0)
    """Items per split and claim; None measures all."""

    @field_validator("claims")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(find_claim(name).name for name in names)

    @model_validator(mode="after")
    def _measurable(self) -> "BenchSettings":
        there = _item_files(DEVELOPMENT if self.items == "development" else ITEMS)
        missing = [name for name in self.claims if not set(find_claim(name).items) <= there]
        if missing:
            raise ValueError(
                f"the {self.items} items have nothing for {', '.join(missing)}; list the other claims in bench.claims"
            )
        return self


class MeasureKey(Record):
    """What decides one subject's scores on one claim."""

    protocol: int = PROTOCOL
    subject: str
    claim: str
    version: int
    items: str
    constitution: str
    """The hash of the constitution where a score depends on it, and of recorded replies likewise; else empty."""
    per_split: int | None
    dtype: str
    seed: int | None
    """Of sampled text; None where nothing is sampled."""
    extent: int = Field(0, exclude_if=lambda extent: extent == 0)


class Asked(NamedTuple):
    """What is measured, whoever the subject is."""

    settings: BenchSettings
    constitution: Constitution
    items: Items
    recorded: Recorded
    """What the constitution's own training data is."""
    seed: int
    dtype: str
    """What the model computes in."""


class Ruler(NamedTuple):
    """What every subject of a run is measured with, and where the scores are kept."""

    asked: Asked
    run: Run
    cache: ReplyCache


class Measured(NamedTuple):
    """A subject and, by claim, the folders with its scores."""

    subject: Subject
    folders: dict[str, Path]


def measure(ruler: Ruler, subject: Subject, base: Path, adapter: Path | None) -> Measured:
    """All claims on one subject; the model is loaded only when some claim is not measured yet."""
    opened: list[Loaded] = []
    settings, constitution, items, recorded, seed, _ = ruler.asked

    def score(claim: Claim, folder: Path) -> None:
        missing = items.missing(claim.items)
        if len(missing) == len(claim.items):
            write_text(folder / SCORES, to_jsonl([_without_items(claim, missing, constitution)]))
            return
        if not opened:
            kept = at_the_end.enter_context(models.kept_scores(ruler.run.store / KEPT, subject))
            opened.append(load_subject(base, subject, adapter)._replace(cache=kept))
        own = opened[0]
        without_prompt = own._replace(chat=models.load_tokenizer_chat(base), cache=None)
        bench = Bench(
            loaded=own,
            base=without_prompt,
            cache=ruler.cache,
            per_split=settings.per_split,
            seed=seed,
            constitution=constitution,
            source=items,
            recorded=recorded,
            tune=partial(tuned, base, subject, adapter),
        )
        with models.enough_memory("measure on a machine with more memory: batches are as small as they get"):
            scores = claim.measure(bench) or [_without_items(claim, missing, constitution)]
        write_text(folder / SCORES, to_jsonl(map(unscored_if_nan, scores)))

    folders = {}
    with ExitStack() as at_the_end:
        for claim in map(find_claim, settings.claims):
            print(f"{claim.name} · {subject.name}", file=sys.stderr, flush=True)
            key = measure_key(ruler.asked, subject, claim)
            folders[claim.name] = ruler.run.stage(f"measured/{claim.name}", key, partial(score, claim))
    return Measured(subject, folders)


def _without_items(claim: Claim, missing: Sequence[str], constitution: Constitution) -> Score:
    """What stands in place of scores where nobody wrote what the claim is measured on."""
    reason = f"nobody wrote {' or '.join(missing)} items for {constitution.name}"
    part = claim.deciding[0]
    split = part.splits[0] if part.splits else ""
    return Score(item="none", split=split, readout=part.readout, value=None, reason=reason)


def tuned(
    base: Path, subject: Subject, adapter: Path | None, legs: Sequence[Sequence[Conversation]]
) -> Iterator[Loaded]:
    """The subject after each leg of fine-tuning, one fresh adapter through all legs; a leg has its own schedule.

    It is loaded a second time, so that the subject itself stays as it is. Its system prompt is there when it is
    measured, not when it is trained: later training is done by others.
    """
    loaded, plain = load_subject(base, subject, adapter), models.load_tokenizer_chat(base)
    model = lora.attach(loaded.model, LATER, LATER_SHAPE, seed=0)
    for seed, rows in enumerate(legs):
        units = conversation_units(rows, plain)
        with tempfile.TemporaryDirectory() as scratch:
            folder, label = Path(scratch), f"later training of {subject.name}"
            train(model, units, sft_objective(), LATER_STEPS, folder=folder, seed=seed, label=label)
        yield loaded._replace(model=model)


def measure_key(asked: Asked, subject: Subject, claim: Claim) -> MeasureKey:
    """The key of one subject's scores on one claim."""
    read = asked.constitution.digest() if claim.reads_constitution else ""
    if claim.reads_recorded:
        read += corpus_digest(asked.constitution.name, asked.recorded)
    if claim.reads_poles:
        read += digest_of(asked.recorded.poles)
    return MeasureKey(
        subject=subject.digest(),
        claim=claim.name,
        version=claim.version,
        items=asked.items.digest(*claim.items, *claim.also),
        constitution=read,
        per_split=asked.settings.per_split,
        dtype=asked.dtype,
        seed=asked.seed if claim.samples else None,
        extent=claim.extent,
    )


def current_scores(folder: Path, claim: str) -> list[Score]:
    """Scores as they lie in their folder, none where there were no items; refused where the claim has changed since."""
    version, now = version_measured(folder), CLAIMS[claim].version
    if version != now:
        raise DataError(
            f"{folder}: measured by version {version} of {claim}, which is at {now}",
            hint="run the same `ethos run` again: it measures what has changed",
        )
    return read_jsonl(folder / SCORES, Score) if (folder / SCORES).stat().st_size else []


def version_measured(folder: Path) -> int:
    """The version of the claim that the scores in a folder are of."""
    return int(json.loads(read_text(folder / KEY))["version"])
