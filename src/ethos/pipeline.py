"""One experiment, top to bottom. Read this first.

    constitution ─► contrasts, conversations ─► adapter ─► measurements ─► report

Each call below is one stage. A stage's artefact lives in a folder named by the hash of its *key*,
which holds everything that decides its content; keys chain, so a change upstream renames all that
follows and nothing stale is ever reused. Run the same file twice and the second run only reads.
"""

import json
import random
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from ethos import __version__, models
from ethos.bench.baseline import baseline_scores
from ethos.bench.battery import find_claim
from ethos.bench.claim import Bench, Claim
from ethos.bench.items import all_items_digest, contamination, items_digest, sealed_runs, texts_of
from ethos.chat import Chat
from ethos.config import Introspection, RunConfig
from ethos.constitution import Constitution, read_constitution
from ethos.data import introspection
from ethos.data.preferences import Mixture, draw, preferences
from ethos.data.recorded import Recorded, read_recorded
from ethos.doctor import hardware
from ethos.errors import DataError
from ethos.manifest import MANIFEST, SCORES, Manifest
from ethos.models import Loaded, Subject
from ethos.records import Conversation, Drop, Preference, Record, digest_of, read_jsonl, to_jsonl
from ethos.report.page import write_report
from ethos.samplers.local import PROTOCOL, ReplyCache
from ethos.scoring import Model
from ethos.store import Run, explained, write_text
from ethos.train import lora
from ethos.train.stages import PreferenceTraining, Training, train_conversations, train_preference

SUBJECTS = ("base", "prompted", "neutral", "trained")
MOST_DROPPED = 0.5
"""Share of rows a filter may refuse before the data set is refused as a whole."""


class DataKey(Record):
    """What decides the training data."""

    version: int = 1
    base: str
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


class PreferenceKey(Record):
    """What decides the preference adapter."""

    version: int = 1
    data: str
    training: PreferenceTraining
    dtype: str
    seed: int


class SamplesKey(Record):
    """What decides the sampled introspection."""

    version: int = 1
    protocol: int = PROTOCOL
    preference: str
    sampling: introspection.IntrospectionSampling
    seed: int


class ConversationsKey(Record):
    """What decides an adapter trained on conversations, on top of another or on the base."""

    version: int = 1
    data: str
    on: str
    replay: int = 0
    training: Training
    dtype: str
    seed: int


class MeasureKey(Record):
    """What decides one subject's scores on one claim."""

    subject: str
    claim: str
    version: int
    items: str
    per_split: int | None
    dtype: str
    seed: int


class BaselineKey(Record):
    """What decides the bag-of-words baseline."""

    version: int = 1
    data: str
    items: str
    per_split: int | None
    seed: int


class Measured(NamedTuple):
    """A subject and, by claim, the folders with its scores."""

    subject: Subject
    folders: dict[str, Path]


class Inputs(NamedTuple):
    """What a run reads before it computes anything."""

    base: Path
    base_name: str
    constitution: Constitution
    recorded: Recorded


class Keys(NamedTuple):
    """The keys of every training stage; None where the run leaves it out."""

    data: DataKey
    contamination: ContaminationKey
    preference: PreferenceKey
    samples: SamplesKey | None
    introspection: ConversationsKey | None
    neutral: ConversationsKey
    baseline: BaselineKey


def run_experiment(config: RunConfig, run: Run) -> Path:
    """Run every stage that is not done yet; return the path of the report."""
    with run.opened(), closing(ReplyCache(run.root / "requests.sqlite")) as cache:
        inputs = read_inputs(config)
        keys = stage_keys(config, inputs)
        data = run.stage("data", keys.data, lambda folder: prepare_data(config, inputs, folder))
        run.stage("contamination", keys.contamination, lambda folder: refuse_contamination(data, folder))
        preference = run.stage(
            "preference", keys.preference, lambda folder: learn_preference(config, inputs, data, folder)
        )
        stages = {"data": data, "preference": preference, "adapter": preference}
        if config.introspection and keys.samples and keys.introspection:
            stage = config.introspection
            samples = run.stage(
                "samples", keys.samples, lambda folder: introspect(config, stage, inputs, preference, cache, folder)
            )
            later = run.stage(
                "introspection",
                keys.introspection,
                lambda folder: learn_introspection(config, stage, inputs, data, samples, preference, folder),
            )
            adapter = run.stage(
                "combined", keys.introspection, lambda folder: lora.add_exactly(preference, later, folder)
            )
            stages |= {"samples": samples, "introspection": later, "adapter": adapter}
        stages["neutral"] = run.stage(
            "neutral", keys.neutral, lambda folder: learn_neutral(config, inputs, data, folder)
        )
        stages["baseline"] = run.stage("baseline", keys.baseline, lambda folder: fit_baseline(config, data, folder))
        adapters = {"neutral": stages["neutral"], "trained": stages["adapter"]}
        measured = {name: measure(config, inputs, run, cache, name, adapters.get(name)) for name in SUBJECTS}
        run.link("adapter", stages["adapter"])
        run.link("base", inputs.base)
        write_manifest(config, inputs, run, stages, measured)
        return write_report(run.root)


def read_inputs(config: RunConfig) -> Inputs:
    """Base weights, constitution and recorded data, checked."""
    constitution, recorded = read_constitution(config.constitution), read_recorded(config.constitution)
    base = models.base_folder(config.model)
    return Inputs(base, models.base_digest(base), constitution, recorded)


def stage_keys(config: RunConfig, inputs: Inputs) -> Keys:
    """All keys, without computing anything."""
    recorded = digest_of([row for rows in inputs.recorded for row in rows])
    dtype = str(models.fast_dtype())
    data = DataKey(
        base=inputs.base_name,
        constitution=inputs.constitution.digest(),
        recorded=recorded,
        mixture=config.mixture,
        max_tokens=shortest_limit(config),
        seed=config.seed,
    )
    contamination = ContaminationKey(data=data.digest(), items=all_items_digest())
    preference = PreferenceKey(data=data.digest(), training=config.preference, dtype=dtype, seed=config.seed)
    neutral = ConversationsKey(data=data.digest(), on="", training=config.neutral, dtype=dtype, seed=config.seed)
    baseline = BaselineKey(
        data=data.digest(),
        items=items_digest("triples", "crossed", folder=config.bench.folder),
        per_split=config.bench.per_split,
        seed=config.seed,
    )
    if not config.introspection:
        return Keys(data, contamination, preference, None, None, neutral, baseline)
    samples = SamplesKey(preference=preference.digest(), sampling=config.introspection.sampling, seed=config.seed)
    later = ConversationsKey(
        data=samples.digest(),
        on=preference.digest(),
        replay=config.introspection.replay,
        training=config.introspection.training,
        dtype=dtype,
        seed=config.seed,
    )
    return Keys(data, contamination, preference, samples, later, neutral, baseline)


def shortest_limit(config: RunConfig) -> int:
    """The longest row that every stage of the run can train on, in tokens."""
    stages = [config.preference, config.neutral] + ([config.introspection.training] if config.introspection else [])
    return min(stage.optimisation.max_tokens for stage in stages)


def prepare_data(config: RunConfig, inputs: Inputs, folder: Path) -> None:
    """Recorded data → `preferences.jsonl`, `conversations.jsonl`, `replay.jsonl`, `dropped.jsonl`."""
    chat = models.load_tokenizer_chat(inputs.base)
    limit = shortest_limit(config)
    rows = preferences(inputs.recorded, config.mixture, seed=config.seed)
    too_long = {
        row.group
        for row in rows
        for reply in (row.chosen, row.rejected)
        if len(chat.render([*row.prompt, *reply]).tokens) > limit
    }
    rng = random.Random(config.seed)
    drawn = draw(introspection.recorded_conversations(inputs.recorded), config.mixture.conversations, rng)
    talks, long_talks = short_enough(chat, limit, drawn)
    drawn = draw(introspection.replay_conversations(inputs.recorded), config.mixture.replay, rng)
    replay, long_replay = short_enough(chat, limit, drawn)
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
    write_text(folder / "preferences.jsonl", to_jsonl(kept))
    write_text(folder / "conversations.jsonl", to_jsonl(talks))
    write_text(folder / "replay.jsonl", to_jsonl(replay))
    write_text(folder / "dropped.jsonl", to_jsonl([*dropped, *long_talks, *long_replay]))


def contaminated(rows: Sequence[Preference | Conversation]) -> list[str]:
    """Sources of the rows that share eight words in a row with a benchmark item."""
    sealed = sealed_runs()
    return [row.source for row in rows if contamination(texts_of(row), sealed)]


def refuse_contamination(data: Path, folder: Path) -> None:
    """Refuse recorded rows that share eight words in a row with a benchmark item."""
    rows = read_jsonl(data / "preferences.jsonl", Preference)
    talks = [row for name in ("conversations", "replay") for row in _optional(data / f"{name}.jsonl")]
    if shared := contaminated([*rows, *talks]):
        raise DataError(
            f"{len(shared)} training rows share eight words in a row with a benchmark item: {', '.join(shared[:5])}",
            hint="reword the training rows; benchmark items stay as they are",
        )
    write_text(folder / "checked.json", json.dumps({"rows": len(rows) + len(talks)}))


def learn_preference(config: RunConfig, inputs: Inputs, data: Path, folder: Path) -> None:
    """The preference stage."""
    rows, replay = read_jsonl(data / "preferences.jsonl", Preference), _optional(data / "replay.jsonl")
    train_preference(inputs.base, inputs.base_name, rows, replay, config.preference, folder, seed=config.seed)


def introspect(
    config: RunConfig, stage: Introspection, inputs: Inputs, preference: Path, cache: ReplyCache, folder: Path
) -> None:
    """Reflections and interactions sampled by the student with the constitution in its system prompt."""
    student = Subject(
        name="student",
        base=inputs.base_name,
        adapter=models.adapter_digest(preference),
        system=inputs.constitution.system_prompt(),
    )
    loaded = load_subject(inputs, student, preference)
    parts = [
        sampler(loaded, inputs.constitution, stage.sampling, cache, seed=config.seed)
        for sampler in (introspection.reflect, introspection.interact)
    ]
    kept, dropped = [row for part in parts for row in part.kept], [row for part in parts for row in part.dropped]
    seen = contaminated(kept)
    dropped += [Drop(source=source, reason="shares eight words in a row with a benchmark item") for source in seen]
    write_text(folder / "conversations.jsonl", to_jsonl(row for row in kept if row.source not in seen))
    write_text(folder / "dropped.jsonl", to_jsonl(dropped))


def learn_introspection(
    config: RunConfig, stage: Introspection, inputs: Inputs, data: Path, samples: Path, preference: Path, folder: Path
) -> None:
    """The introspection stage, on top of the preference adapter, without the constitution in the prompt."""
    replay = _optional(data / "replay.jsonl")[: stage.replay]
    chat = models.load_tokenizer_chat(inputs.base)
    sampled, dropped = short_enough(chat, shortest_limit(config), _optional(samples / "conversations.jsonl"))
    write_text(folder / "dropped.jsonl", to_jsonl(dropped))
    rows = [*_optional(data / "conversations.jsonl"), *sampled, *replay]
    train_conversations(
        inputs.base,
        inputs.base_name,
        rows,
        stage.training,
        folder,
        seed=config.seed,
        on=preference,
        label="introspection training",
    )


def short_enough(chat: Chat, limit: int, rows: Sequence[Conversation]) -> tuple[list[Conversation], list[Drop]]:
    """The conversations of at most `limit` tokens, and the others with the reason."""
    long = {row.source for row in rows if len(chat.render(row.messages).tokens) > limit}
    dropped = [Drop(source=name, reason=f"longer than {limit} tokens") for name in sorted(long)]
    return [row for row in rows if row.source not in long], dropped


def learn_neutral(config: RunConfig, inputs: Inputs, data: Path, folder: Path) -> None:
    """The control: an adapter of the same shape, trained on ordinary requests."""
    train_conversations(
        inputs.base,
        inputs.base_name,
        _optional(data / "replay.jsonl"),
        config.neutral,
        folder,
        seed=config.seed,
        label="neutral control",
    )


def fit_baseline(config: RunConfig, data: Path, folder: Path) -> None:
    """The bag-of-words baseline on the same training contrasts."""
    rows = read_jsonl(data / "preferences.jsonl", Preference)
    write_text(
        folder / "baseline.jsonl",
        to_jsonl(baseline_scores(rows, config.bench.per_split, seed=config.seed, folder=config.bench.folder)),
    )


def measure(
    config: RunConfig, inputs: Inputs, run: Run, cache: ReplyCache, name: str, adapter: Path | None
) -> Measured:
    """All claims on one subject; the model is loaded only when some claim is not measured yet."""
    system = system_prompt(inputs, name)
    subject = Subject(
        name=name, base=inputs.base_name, adapter=models.adapter_digest(adapter) if adapter else None, system=system
    )
    loaded: list[Loaded] = []

    def score(claim: Claim, folder: Path) -> None:
        if not loaded:
            loaded.append(load_subject(inputs, subject, adapter))
        chat = models.load_tokenizer_chat(inputs.base)
        bench = Bench(
            loaded[0], loaded[0]._replace(chat=chat), cache, config.bench.per_split, config.seed, config.bench.folder
        )
        write_text(folder / SCORES, to_jsonl(claim.measure(bench)))

    folders = {}
    for claim in map(find_claim, config.bench.claims):
        print(f"{claim.name} · {name}", file=sys.stderr, flush=True)
        folders[claim.name] = run.stage(
            f"measured/{claim.name}", measure_key(config, subject, claim), partial(score, claim)
        )
    return Measured(subject, folders)


def system_prompt(inputs: Inputs, name: str) -> str | None:
    """The system prompt of a subject: the constitution for `prompted`, the template's own for the others."""
    return inputs.constitution.system_prompt() if name == "prompted" else None


def measure_key(config: RunConfig, subject: Subject, claim: Claim) -> MeasureKey:
    """The key of one subject's scores on one claim."""
    return MeasureKey(
        subject=subject.digest(),
        claim=claim.name,
        version=claim.version,
        items=items_digest(*claim.items, folder=config.bench.folder),
        per_split=config.bench.per_split,
        dtype=str(models.fast_dtype()),
        seed=config.seed,
    )


def load_subject(inputs: Inputs, subject: Subject, adapter: Path | None) -> Loaded:
    """A subject in memory. An adapter that changes no logit never gets here: it was refused when saved."""
    bare = models.load_base(inputs.base)
    model: Model = models.load_adapter(bare, adapter, base=inputs.base_name) if adapter else bare
    return Loaded(subject, model, models.load_tokenizer_chat(inputs.base, system=subject.system))


def _optional(path: Path) -> list[Conversation]:
    """Conversations of a file that may rightly be empty."""
    return read_jsonl(path, Conversation) if path.stat().st_size else []


def write_manifest(
    config: RunConfig, inputs: Inputs, run: Run, stages: dict[str, Path], measured: dict[str, Measured]
) -> None:
    """`manifest.json`: what was run, on what, and where everything lies. The report starts from it."""
    manifest = Manifest(
        config=config,
        constitution=inputs.constitution,
        ethos=__version__,
        versions={name: version(name) for name in ("torch", "transformers", "peft", "numpy", "scipy", "scikit-learn")},
        hardware=hardware(),
        stages={name: str(path.relative_to(run.root)) for name, path in stages.items()},
        subjects={name: m.subject for name, m in measured.items()},
        measured={
            name: {claim: str(path.relative_to(run.root)) for claim, path in m.folders.items()}
            for name, m in measured.items()
        },
    )
    with explained(run.root):
        write_text(run.root / MANIFEST, manifest.model_dump_json(indent=2))
