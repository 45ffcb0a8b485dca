"""One experiment, top to bottom. Read this first.

    constitution ─► contrasts, conversations ─► adapter ─► measurements ─► report

Each call below is one stage. A stage's artefact lives in a folder named by the hash of its *key*,
which holds everything that decides its content; keys chain, so a change upstream renames all that
follows and nothing stale is ever reused. Run the same file twice and the second run only reads.
"""

import json
import random
import shutil
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from ethos import __version__, models, steering
from ethos.bench.baseline import baseline_scores
from ethos.bench.battery import find_claim
from ethos.bench.contamination import contaminated
from ethos.bench.derived import hold_out
from ethos.bench.item_files import Items, all_items_digest
from ethos.config import RunConfig
from ethos.constitution import Constitution, read_written
from ethos.data.files import CONVERSATIONS, DOCUMENTS, PREFERENCES, REPLAY, read_rows
from ethos.data.filters import short_enough
from ethos.data.introspection import recorded_conversations, replay_conversations
from ethos.data.preferences import Mixture, draw, preferences
from ethos.data.recorded import Recorded, demonstrated, read_recorded
from ethos.doctor import hardware
from ethos.errors import DataError
from ethos.learning import learn
from ethos.manifest import BASE, MANIFEST, NEUTRAL, PROMPTED, TRAINED, Manifest
from ethos.measuring import Asked, Measured, MeasureKey, Ruler, measure, measure_key
from ethos.methods import Given, Stage, Steering, shortest_limit
from ethos.models import Subject
from ethos.records import Document, Drop, Record, digest_of, to_jsonl
from ethos.report.page import write_report
from ethos.samplers.replies import PROTOCOL, ReplyCache
from ethos.store import Run, explained, write_text
from ethos.train import lora
from ethos.units import KEPT

SUBJECTS = (BASE, PROMPTED, NEUTRAL, TRAINED)
SAMPLED = (CONVERSATIONS, PREFERENCES)
"""What a training stage may have made itself."""
MOST_DROPPED = 0.5
"""Share of rows a filter may refuse before the data set is refused as a whole."""


class DataKey(Record):
    """What decides the training data."""

    version: int = 2
    base: str
    reading: str
    constitution: str
    recorded: str
    mixture: Mixture
    max_tokens: int
    seed: int


class ContaminationKey(Record):
    """What decides whether training data and benchmark overlap: both of them."""

    version: int = 1
    data: str
    items: str


class StageKey(Record):
    """What decides an adapter: the data, the adapter it is trained on, and the stage's settings."""

    version: int = 2
    protocol: int = PROTOCOL
    data: str
    on: str
    """The key of the stage before; empty for the bare base."""
    stage: Stage
    fingerprint: str
    dtype: str
    seed: int


class BaselineKey(Record):
    """What decides the bag-of-words baseline."""

    version: int = 1
    data: str
    items: str
    per_split: int | None
    seed: int


class Taught(NamedTuple):
    """A constitution with the recorded data that may be trained on; their hashes are computed once."""

    constitution: Constitution
    recorded: Recorded
    digest: str
    recorded_digest: str


class Inputs(NamedTuple):
    """What a run reads before it computes anything."""

    base: Path
    base_name: str
    reading: str
    """Hash of how the base reads."""
    own: Taught
    """The constitution that the run is about: what is measured, and what the prompted subject sees."""
    taught: Taught
    """The one that its stages learn; another where the run trains on another."""
    items: Items
    contrasts: str
    """Hash of the items that the bag of words is tried on."""
    dtype: str
    """What the model computes in."""

    @property
    def constitution(self) -> Constitution:
        """The one that the run is about."""
        return self.own.constitution


class Keys(NamedTuple):
    """The keys of every stage."""

    data: DataKey
    ordinary: DataKey
    """What the neutral control learns from: of the run's own constitution, and blind to labels."""
    contamination: ContaminationKey
    stages: dict[str, StageKey]
    """Training stages by name, in order."""
    neutral: StageKey
    baseline: BaselineKey


def run_experiment(config: RunConfig, run: Run) -> Path:
    """Run every stage that is not done yet; return the path of the report."""
    with run.opened(), closing(ReplyCache(run.store / "requests.sqlite")) as cache:
        inputs = read_inputs(config)
        keys = stage_keys(config, inputs)
        data = run.stage("data", keys.data, lambda folder: prepare_data(config, inputs, folder))
        run.stage("contamination", keys.contamination, partial(refuse_contamination, data))
        plain = config.model_copy(update={"mixture": config.ordinary, "trained_on": None})
        ordinary = run.stage(
            "data", keys.ordinary, lambda folder: prepare_data(plain, inputs._replace(taught=inputs.own), folder)
        )
        trained = train_stages(config, inputs, run, keys, data, cache)
        neutral = run.stage(
            "neutral",
            keys.neutral,
            partial(learn, config.control, given(config, inputs, ordinary, cache), label="neutral"),
        )
        baseline = run.stage("baseline", keys.baseline, lambda folder: fit_baseline(config, inputs, data, folder))
        adapters = {NEUTRAL: neutral, TRAINED: trained["adapter"]}
        ruler = Ruler(asked(config, inputs), run, cache)
        measured = {}
        for name in SUBJECTS:
            adapter = adapters.get(name)
            measured[name] = measure(ruler, subject_of(inputs, name, adapter), inputs.base, adapter)
        run.link("adapter", trained["adapter"])
        run.link("base", inputs.base)
        stages = {"data": data, **trained, "neutral": neutral, "baseline": baseline}
        write_manifest(config, inputs, run, stages, measured)
        return write_report(run.root)


def train_stages(
    config: RunConfig, inputs: Inputs, run: Run, keys: Keys, data: Path, cache: ReplyCache
) -> dict[str, Path]:
    """What every stage made, by name, and as `adapter` all of it together."""
    folders: dict[str, Path] = {}
    adapter: Path | None = None
    for name, stage in config.named_stages.items():
        starts_from = given(config, inputs, data, cache, on=adapter, scores=run.store / KEPT)
        make = partial(learn, stage, starts_from, label=name)
        folders[name] = run.stage(stage.method, keys.stages[name], make)
        if any((folders[name] / file).exists() for file in SAMPLED):  # items may have changed since
            own = ContaminationKey(data=keys.stages[name].digest(), items=keys.contamination.items)
            run.stage("contamination", own, partial(refuse_contamination, folders[name]))
        add = partial(put_together, stage, adapter or folders[name], folders[name])
        adapter = run.stage(*sum_of(keys, name), add)  # the first stage's is there already: its own
    assert adapter is not None
    return folders | {"adapter": adapter}


def put_together(stage: Stage, before: Path, own: Path, folder: Path) -> None:
    """What a stage and all before it make: the exact sum of their adapters, or a steering vector beside one."""
    if not isinstance(stage, Steering):
        add = lora.add_factors if stage.adds_factors else lora.add_exactly
        add(before, own, folder)
        return
    for source, files in ((before, (lora.WEIGHTS, lora.CONFIG)), (own, (steering.VECTOR, steering.PLACE))):
        for file in files:
            shutil.copy(source / file, folder / file)


def sum_of(keys: Keys, name: str) -> tuple[str, StageKey]:
    """Where the sum of a stage and all before it lies: the first is its own sum."""
    key = keys.stages[name]
    return ("combined" if key.on else key.stage.method), key


def read_inputs(config: RunConfig) -> Inputs:
    """Base weights, constitution, recorded data and items, checked."""
    own, items = read_taught(config, config.constitution)
    taught = read_taught(config, config.trained_on)[0] if config.trained_on else own
    taught.constitution.only(config.mixture.demonstrated)  # a trait that it has not is told before anything is made
    base = models.base_folder(config.model)
    return Inputs(
        base=base,
        base_name=models.base_digest(base),
        reading=models.reading_digest(base),
        own=own,
        taught=taught,
        items=items,
        contrasts=items.digest("triples", "crossed"),
        dtype=str(models.fast_dtype()),
    )


def read_taught(config: RunConfig, name: str) -> tuple[Taught, Items]:
    """A constitution with what it may be trained on, and with its items."""
    constitution = read_written(name)
    held = hold_out(config.bench.items, constitution, read_recorded(name))
    rows = digest_of([row for rows in held.trainable for row in rows])
    return Taught(constitution, held.trainable, constitution.digest(), rows), held.items


def asked(config: RunConfig, inputs: Inputs) -> Asked:
    """What every subject of the run is measured on."""
    return Asked(config.bench, inputs.constitution, inputs.items, inputs.own.recorded, config.seed, inputs.dtype)


def stage_keys(config: RunConfig, inputs: Inputs) -> Keys:
    """All keys, without computing anything."""
    data = data_key(config, inputs, config.mixture, inputs.taught)
    ordinary = data_key(config, inputs, config.ordinary, inputs.own)
    contamination = ContaminationKey(data=data.digest(), items=all_items_digest())
    stages: dict[str, StageKey] = {}
    on = ""
    for name, stage in config.named_stages.items():
        stages[name] = stage_key(stage, data, on, inputs.dtype, config.seed)
        on = stages[name].digest()
    baseline = BaselineKey(
        data=data.digest(),
        items=inputs.contrasts,
        per_split=config.bench.per_split,
        seed=config.seed,
    )
    neutral = stage_key(config.control, ordinary, "", inputs.dtype, config.seed)
    return Keys(data, ordinary, contamination, stages, neutral, baseline)


def data_key(config: RunConfig, inputs: Inputs, mixture: Mixture, taught: Taught) -> DataKey:
    """The key of rows drawn from a constitution's recorded data."""
    return DataKey(
        base=inputs.base_name,
        reading=inputs.reading,
        constitution=taught.digest,
        recorded=taught.recorded_digest,
        mixture=mixture,
        max_tokens=shortest_limit(config.stages, config.neutral),
        seed=config.seed,
    )


def fingerprint(config: RunConfig, inputs: Inputs) -> str:
    """One hash of everything that decides a run's artefacts."""
    return fingerprint_of(stage_keys(config, inputs), claim_keys(config, inputs))


def claim_keys(config: RunConfig, inputs: Inputs) -> list[MeasureKey]:
    """The keys of the base's scores on every claim: they name items, seed and all else that is the same for any
    subject."""
    anyone = subject_of(inputs, BASE, None)
    return [measure_key(asked(config, inputs), anyone, find_claim(name)) for name in config.bench.claims]


def fingerprint_of(keys: Keys, claims: Sequence[MeasureKey]) -> str:
    """The same from keys that are there already: a study's cells share those of the claims."""
    return digest_of([keys.data, keys.contamination, *keys.stages.values(), keys.neutral, keys.baseline, *claims])


def stage_key(stage: Stage, data: DataKey, on: str, dtype: str, seed: int) -> StageKey:
    """The key of one training stage on top of another."""
    return StageKey(
        data=data.digest(),
        on=on,
        stage=stage,
        fingerprint=stage.fingerprint(),
        dtype=dtype,
        seed=seed,
    )


def prepare_data(config: RunConfig, inputs: Inputs, folder: Path) -> None:
    """Recorded data → the four files of rows, and `dropped.jsonl`."""
    chat = models.load_tokenizer_chat(inputs.base)
    limit = shortest_limit(config.stages, config.neutral)
    recorded, untold = demonstrated(inputs.taught.recorded, config.mixture.demonstrated)
    rows = preferences(recorded, config.mixture, seed=config.seed)
    too_long = {
        row.group
        for row in rows
        for reply in (row.chosen, row.rejected)
        if len(chat.render([*row.prompt, *reply]).tokens) > limit
    }
    rng = random.Random(config.seed)
    shown = {talk.source for talk in recorded_conversations(recorded)}
    drawn = draw(
        recorded_conversations(inputs.taught.recorded), None, rng
    )  # all: what is drawn after them stays the same
    drawn = [talk for talk in drawn if talk.source in shown][: config.mixture.conversations]
    talks, long_talks = short_enough(chat, limit, drawn)
    drawn = draw(replay_conversations(recorded), config.mixture.replay, rng)
    replay, long_replay = short_enough(chat, limit, drawn)
    documents = [
        Document(text=row.text, kind=row.kind, source=f"document:{row.id}")
        for row in draw(recorded.documents, config.mixture.documents, rng)
    ]
    kept = [row for row in rows if row.group not in too_long]
    dropped = [Drop(source=name, reason=f"longer than {limit} tokens") for name in sorted(too_long)]
    if not kept:
        raise DataError(
            "no contrast is left to train on",
            hint=f"{len(rows)} were read; the mixture or max_tokens = {limit} refuses them all",
        )
    if len(too_long) > MOST_DROPPED * len({row.group for row in rows}):
        raise DataError(
            f"{len(too_long)} of {len({row.group for row in rows})} contrasts are longer than {limit} tokens",
            hint="raise max_tokens",
        )
    if not replay:
        raise DataError(
            "no replay row is left for the neutral control to learn from", hint="raise mixture.replay or max_tokens"
        )
    write_text(folder / PREFERENCES, to_jsonl(kept))
    write_text(folder / CONVERSATIONS, to_jsonl(talks))
    write_text(folder / REPLAY, to_jsonl(replay))
    write_text(folder / DOCUMENTS, to_jsonl(documents))
    write_text(folder / "dropped.jsonl", to_jsonl([*untold, *dropped, *long_talks, *long_replay]))


def refuse_contamination(made: Path, folder: Path) -> None:
    """Refuse training rows, recorded or sampled, that share eight words in a row with a benchmark item."""
    rows = [row for kind in read_rows(made) for row in kind]
    if shared := contaminated(rows):
        raise DataError(
            f"{len(shared)} training rows share eight words in a row with a benchmark item: {', '.join(shared[:5])}",
            hint="reword recorded rows; delete the stage's folder to sample again; benchmark items stay as they are",
        )
    write_text(folder / "checked.json", json.dumps({"rows": len(rows)}))


def given(
    config: RunConfig,
    inputs: Inputs,
    data: Path,
    cache: ReplyCache,
    *,
    on: Path | None = None,
    scores: Path | None = None,
) -> Given:
    """What a training stage starts from; the constitution that it samples with has the traits to be shown alone."""
    shown = inputs.taught.constitution.only(config.mixture.demonstrated)
    needed = config.teacher_gap == "needed"
    return Given(inputs.base, inputs.base_name, shown, data, on, cache, config.seed, needed, scores)


def fit_baseline(config: RunConfig, inputs: Inputs, data: Path, folder: Path) -> None:
    """The bag-of-words baseline on the same training contrasts."""
    rows = read_rows(data).contrasts
    scores = baseline_scores(rows, config.bench.per_split, seed=config.seed, source=inputs.items)
    write_text(folder / "baseline.jsonl", to_jsonl(scores))


def subject_of(inputs: Inputs, name: str, adapter: Path | None) -> Subject:
    """One of the four subjects of a run; `prompted` has the constitution as system prompt, the others none."""
    system = inputs.constitution.system_prompt() if name == PROMPTED else None
    return models.subject(name, inputs.base_name, inputs.reading, adapter, system=system)


def write_manifest(
    config: RunConfig, inputs: Inputs, run: Run, stages: dict[str, Path], measured: dict[str, Measured]
) -> None:
    """`manifest.json`: what was run, on what, and where everything lies. The report starts from it."""
    manifest = Manifest(
        config=config,
        fingerprint=fingerprint(config, inputs),
        constitution=inputs.constitution,
        ethos=__version__,
        versions={name: version(name) for name in ("torch", "transformers", "peft", "numpy", "scipy", "scikit-learn")},
        hardware=hardware(),
        stages={name: run.relative(path) for name, path in stages.items()},
        subjects={name: m.subject for name, m in measured.items()},
        items_note=" ".join(filter(None, (inputs.items.note, models.load_tokenizer_chat(inputs.base).note))),
        traits=inputs.items.traits(),
        measured={
            name: {claim: run.relative(path) for claim, path in m.folders.items()} for name, m in measured.items()
        },
    )
    with explained(run.root):
        write_text(run.root / MANIFEST, manifest.model_dump_json(indent=2))
