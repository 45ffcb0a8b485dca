"""What a run would do: stages, whether they are done, positions to compute, and minutes on this machine."""

import math
import tempfile
import time
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from transformers import AutoConfig

from ethos import models, scoring
from ethos.bench.battery import find_claim
from ethos.bench.carries_over import CLAIM as ELSEWHERE
from ethos.bench.item_files import thinned
from ethos.bench.items import Crossed, Triple
from ethos.bench.knows_when import CLAIM as JUDGEMENT
from ethos.bench.knows_when import SPLITS as JUDGED
from ethos.chat import Chat, Rendered
from ethos.config import RunConfig
from ethos.constitution import Constitution
from ethos.data.files import Rows, read_rows
from ethos.design import Study, cells, slug
from ethos.gap import questions
from ethos.measuring import measure_key
from ethos.methods import Method, Stage, Steering, Writing
from ethos.persona import poles
from ethos.pipeline import (
    SUBJECTS,
    Inputs,
    StageKey,
    asked,
    prepare_data,
    read_inputs,
    stage_keys,
    subject_of,
    sum_of,
)
from ethos.records import user
from ethos.samplers.local import generate
from ethos.samplers.replies import Request
from ethos.stats import detectable
from ethos.store import Run
from ethos.study import cell_run, finished, inputs_of
from ethos.train.fit import Training
from ethos.train.loop import Unit, packs

BATTERY_COST = 6
"""Positions of the whole battery over those of its crossed and triple contrasts alone (doses, cues, abilities)."""
LATER_CLAIM, LATER_COST = "survives_fine_tuning", 68_000
"""The claim that trains, and its positions whatever `per_split`: 38,000 scored, 10,000 trained at thrice the cost."""
NOT_IN_IT = "what is sampled to be measured is not in it"
PROBE = "The quick brown fox jumps over the lazy dog and runs home before the rain. " * 16


class Row(NamedTuple):
    """One stage of a plan."""

    stage: str
    done: bool
    positions: int
    """Trie positions to compute, in forward passes."""
    key: str
    """What names the artefact, as far as it is known before the run: equal keys are one work."""
    written: Writing = Writing()
    """What a model writes in it, at most; of measurements it is not known."""


def render_plan(config: RunConfig, run: Run) -> str:
    """The plan as a table."""
    inputs = read_inputs(config)
    rows, speed = plan(config, run, inputs, Known({}, {})), forward_speed(inputs)
    todo = [row for row in rows if not row.done]
    writing = writing_speed(inputs) if any(row.written.tokens for row in todo) else math.inf
    minutes = {row.stage: (row.positions / speed + row.written.tokens / writing) / 60 for row in todo}
    lines = [f"{'stage':<40} {'state':<7} {'requests':>8} {'written':>9} {'tokens':>10} {'minutes':>8}"]
    for row in rows:
        wrote = f"{row.written.requests or '':>8} {row.written.tokens or '':>9}"
        told = f"{minutes[row.stage]:.1f}" if row.stage in minutes else ""
        lines.append(f"{row.stage:<40} {'cached' if row.done else 'to do':<7} {wrote} {row.positions:>10,} {told:>8}")
    lines.append(f"about {sum(minutes.values()):.0f} minutes at {speed:,.0f} tokens/s, scored just now; {NOT_IN_IT}")
    if writing < math.inf:
        lines.append(f"requests are the student's own, of so many tokens at most, at {writing:,.0f} tokens/s")
    return "\n".join(lines)


def render_grid(study: Study, root: Path) -> str:
    """A study's cells, what is done, and the minutes of the rest. What cells share is counted once."""
    grid, shared, known = cells(study), set[tuple[str, str]](), Known({}, {})
    speed, lines, total = 0.0, [f"{'cell':<46} {'state':<7} {'tokens':>12} {'minutes':>8}"], 0.0
    for cell in grid:
        if finished(root, cell):
            lines.append(f"{cell.name:<46} {'done':<7}")
            continue
        inputs = inputs_of(cell.config)
        speed = speed or forward_speed(inputs)
        rows = [row for row in plan(cell.config, cell_run(root, cell), inputs, known) if not row.done]
        fresh = [row for row in rows if (row.stage, row.key) not in shared]
        shared |= {(row.stage, row.key) for row in rows}
        positions = sum(row.positions for row in fresh)
        total += positions / speed / 60
        lines.append(f"{cell.name:<46} {'to do':<7} {positions:>12,} {positions / speed / 60:>8.1f}")
    lines.append(f"{len(grid)} cells, about {total:.0f} minutes; time to sample text is not in it")
    return "\n".join([*lines, *power(study)])


def power(study: Study) -> list[str]:
    """Of each constitution: how far items may differ for the smallest effect to be seen, where contrasts decide."""
    primary, told = study.primary, list[str]()
    if primary.claim not in (JUDGEMENT.name, ELSEWHERE.name):
        return told
    for constitution in study.constitutions:
        config = next(cell.config for cell in cells(study) if cell.constitution == constitution)
        load, most = inputs_of(config).items.load, study.common.bench.per_split
        if primary.readout in ("crossed", "won"):
            splits = [item.split for item in thinned(load("crossed", Crossed), most)]
        else:
            splits = [item.split for item in thinned(load("triples", Triple), most)]
        count = sum(split in (primary.splits or JUDGED) for split in splits)
        if count:
            spread = study.smallest_effect / detectable(1.0, count)
            told.append(
                f"power, {slug(constitution)}: {count} items show a difference of {study.smallest_effect:g} four times"
                f" in five where its standard deviation over items is {spread:.2f} or less, and seeds agree"
            )
    return told


class Known(NamedTuple):
    """What cells of one plan share, computed once: rows by the data's key, positions by what is measured."""

    rows: dict[str, Rows]
    battery: dict[str, int]


@cache
def shape(base: Path) -> tuple[Chat, int]:
    """How a base reads, and its layers: the same for every cell."""
    return models.load_tokenizer_chat(base), AutoConfig.from_pretrained(base).num_hidden_layers


def plan(config: RunConfig, run: Run, inputs: Inputs, known: Known) -> list[Row]:
    """Every stage in order. A subject whose adapter is not trained yet counts as not measured."""
    keys, (chat, layers) = stage_keys(config, inputs), shape(inputs.base)
    if keys.data.digest() not in known.rows:
        with tempfile.TemporaryDirectory() as scratch:
            prepare_data(config, inputs, Path(scratch))
            known.rows[keys.data.digest()] = read_rows(Path(scratch))
    data = known.rows[keys.data.digest()]
    asked_of = f"{inputs.contrasts} {config.bench.digest()}"
    if asked_of not in known.battery:
        known.battery[asked_of] = battery_positions(config, inputs, chat)
    cost = known.battery[asked_of]

    shown = inputs.taught.constitution.only(config.mixture.demonstrated)

    def making(name: str, where: str, stage: Stage, key: StageKey) -> Row:
        if isinstance(stage, Steering):
            chosen, rejected = poles(chat, data.contrasts, stage)
            cost, writing = sum(len(packed.tokens_N) for packed in scoring.pack([*chosen, *rejected])), Writing()
        else:
            budgeted = stage.optimisation.tokens is not None
            units = [] if budgeted else stage.units(data, shown, chat, seed=config.seed)
            cost = training_positions(units, stage, layers) + gap_positions(stage, data, shown, chat)
            writing = stage.written(data, units)
        return Row(name, run.has(where, key), cost, key.digest(), writing)

    rows = [
        Row("data", run.has("data", keys.data), 0, keys.data.digest()),
        Row("contamination", run.has("contamination", keys.contamination), 0, keys.contamination.digest()),
        *(making(name, stage.method, stage, keys.stages[name]) for name, stage in config.named_stages.items()),
        making("neutral", "neutral", config.control, keys.neutral),
    ]
    adapters = {"neutral": ("neutral", keys.neutral), "trained": sum_of(keys, list(keys.stages)[-1])}
    for name in SUBJECTS:
        rows += _measured(config, run, inputs, name, adapters.get(name), cost)
    return rows


def _measured(
    config: RunConfig, run: Run, inputs: Inputs, name: str, made_by: tuple[str, StageKey] | None, cost: int
) -> list[Row]:
    """One row a subject: done when every claim is."""
    items = inputs.constitution.name  # one subject may be measured for several
    if made_by and not run.has(*made_by):
        return [Row(f"measured · {name}", False, cost, f"{made_by[1].digest()} {items}")]
    adapter: Path | None = run.folder(*made_by) if made_by else None
    subject = subject_of(inputs, name, adapter)
    key = partial(measure_key, asked(config, inputs), subject)
    done = all(run.has(f"measured/{name}", key(find_claim(name))) for name in config.bench.claims)
    return [Row(f"measured · {name}", done, cost, f"{subject.digest()} {items}")]


def training_positions(units: list[Unit], training: Training, num_layers: int) -> int:
    """Forward-equivalent trie positions of a training stage: backward costs two forwards of the adapted layers.

    A budget says how many there are, whatever the units.

    Replies that the student has yet to write are not in it.
    """
    settings = training.optimisation
    if settings.tokens is None:
        forward = settings.epochs * sum(len(packed.tokens_N) for packed, _ in packs(units, settings.pack_positions))
    else:
        forward = settings.tokens
    share = min(training.lora.top_layers or num_layers, num_layers) / num_layers
    return round(forward * (1 + 2 * share))


def gap_positions(stage: Method | Training, data: Rows, shown: Constitution, chat: Chat) -> int:
    """Trie positions of asking a stage's teacher and its student, where that can be asked (see gap.py)."""
    sees = stage.teacher_sees if isinstance(stage, Method) else None
    asked = questions(data.contrasts, sees, shown) if sees else []
    told = [(turns, reply) for each in asked for turns in (each.teacher, each.student) for reply in each.replies]
    sequences = [chat.reply(turns, reply) for turns, reply in told]
    return sum(len(packed.tokens_N) for packed in scoring.pack(sequences)) if sequences else 0


def battery_positions(config: RunConfig, inputs: Inputs, chat: Chat) -> int:
    """Trie positions of one subject's measurements, estimated from the contrasts."""
    sequences: list[Rendered] = []
    for item in thinned(inputs.items.load("crossed", Crossed), config.bench.per_split):
        sequences += [chat.reply([user(s)], reply) for s in (item.a, item.b) for reply in (item.r1, item.r2)]
    for triple in thinned(inputs.items.load("triples", Triple), config.bench.per_split):
        replies = [reply for reply in (triple.chosen, triple.opposite, triple.plain) if reply]
        sequences += [chat.reply([user(triple.prompt)], reply) for reply in replies]
    groups = [[i] for i in sorted(range(len(sequences)), key=lambda i: sequences[i].tokens)]
    contrasts = sum(len(packed.tokens_N) for packed in scoring.pack(sequences, groups))
    return BATTERY_COST * contrasts + LATER_COST * (LATER_CLAIM in config.bench.claims)


def forward_speed(inputs: Inputs) -> float:
    """Trie positions scored per second on this machine, from two short passes."""
    model, chat = models.load_base(inputs.base), models.load_tokenizer_chat(inputs.base)
    probe = chat.reply([user("Repeat this.")], PROBE)
    scoring.score(model, [probe])
    began = time.perf_counter()
    scoring.score(model, [probe])
    return len(probe.tokens) / (time.perf_counter() - began)


def writing_speed(inputs: Inputs) -> float:
    """Tokens that the base writes per second on this machine, sixteen replies at a time, from one short pass."""
    model, chat = models.load_base(inputs.base), models.load_tokenizer_chat(inputs.base)
    asked = [Request(messages=[user("Tell me a story.")], max_tokens=16, seed=seed, runs_on=True) for seed in range(16)]
    began = time.perf_counter()
    tokens = sum(map(len, generate(model, chat, asked)))
    return tokens / (time.perf_counter() - began)
