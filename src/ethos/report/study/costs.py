"""What each arm cost, and what it lost on the way: positions, seconds, arithmetic; rows dropped, items unscored."""

import json
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from ethos.bench.battery import CLAIMS
from ethos.config import RunConfig
from ethos.data.introspection import AT_TURN
from ethos.manifest import BASE, TRAINED
from ethos.methods import Steering
from ethos.records import read_jsonl, read_text
from ethos.report import traces
from ethos.report.findings import shift_bounds, tally
from ethos.report.study.cells import CONTROLS, Done, Scored
from ethos.store import read_seconds
from ethos.train.fit import LOG
from ethos.train.schedule import Step


class Cost(NamedTuple):
    """An arm's training, means over its seeds."""

    arm: str
    stages: tuple[str, ...]
    rows: str
    """What is not as in the other arms: labels, another constitution, the traits shown."""
    num_seeds: int
    spent: float
    """Training tokens, as a budget counts them; zero where the run did not write them down."""
    generated: float
    """Tokens sampled by on-policy stages as they trained."""
    positions: float
    """Trie positions trained on."""
    seconds: float
    flops: float | None
    """None where the base's weights are not there to be counted."""


class Dropped(NamedTuple):
    """Rows of one stage that one filter refused, seed by seed: one record for arms that lost the same."""

    arms: tuple[str, ...]
    stage: str
    reason: str
    num_rows: tuple[int, ...]


class Unscored(NamedTuple):
    """Values of one readout that are missing on the subject's side or its base's, over all seeds."""

    name: str
    claim: str
    readout: str
    num_unscored: int
    num_values: int
    reasons: tuple[tuple[str, int], ...]
    bounds: tuple[float, float] | None
    """The mean shift with all of them at either extreme; None where 2 % or fewer are unscored."""


class Size(NamedTuple):
    """How large a base model is."""

    parameters: int
    layers: int


def costs(done: Sequence[Done]) -> list[Cost]:
    """A row an arm."""
    size = next(filter(None, (model_size(each.root / "base") for each in done)), None)  # of one model all
    return [_cost(arm, own, size) for arm, own in _by_arm(done)]


def _by_arm(done: Sequence[Done]) -> Iterator[tuple[str, list[Done]]]:
    for arm in dict.fromkeys(each.cell.arm for each in done):
        yield arm, [each for each in done if each.cell.arm == arm]


def _cost(arm: str, own: Sequence[Done], size: Size | None) -> Cost:
    config = own[0].cell.config
    return Cost(
        arm=arm,
        stages=tuple(config.named_stages),
        rows=_rows(config),
        num_seeds=len(own),
        spent=fmean(sum(step.spent for log in _logs(each) for step in log) for each in own),
        generated=fmean(sum(step.generated for log in _logs(each) for step in log) for each in own),
        positions=fmean(sum(_positions(each)) for each in own),
        seconds=fmean(sum(read_seconds(folder) or 0.0 for folder in _folders(each)) for each in own),
        flops=fmean(_flops(each, size) for each in own) if size else None,
    )


def _folders(done: Done) -> list[Path]:
    return [done.root / done.manifest.stages[name] for name in done.manifest.config.named_stages]


def _rows(config: RunConfig) -> str:
    """What an arm learns from, in a few words."""
    shown = config.mixture.demonstrated
    told = [
        f"labels {config.mixture.labels}" if config.mixture.labels != "recorded" else "",
        f"of {Path(config.trained_on).stem}" if config.trained_on else "",
        f"showing {', '.join(shown)}" if shown else "",
    ]
    return "; ".join(filter(None, told)) or "as recorded"


def _logs(done: Done) -> list[list[Step]]:
    """Of each stage; steering trains nothing."""
    logs = [folder / LOG for folder in _folders(done)]
    return [read_jsonl(log, Step) if log.exists() else [] for log in logs]


def _positions(done: Done) -> list[int]:
    return [sum(step.tokens for step in log) for log in _logs(done)]


def _flops(done: Done, size: Size) -> float:
    """Two a parameter and position forward, as many backward through the adapted layers, whose weights are frozen."""
    total = 0.0
    for positions, stage in zip(_positions(done), done.manifest.config.stages, strict=True):
        if isinstance(stage, Steering):
            continue
        share = min(stage.lora.top_layers or size.layers, size.layers) / size.layers
        total += 2.0 * size.parameters * positions * (1 + share)
    return total


def model_size(folder: Path) -> Size | None:
    """Parameters and layers of a model folder, from the heads of its files; None where it is not there.

    A safetensors file begins with the length of its head in eight bytes, then the head as JSON: name → shape.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "config.json").exists():
        return None
    parameters = 0
    for path in weights:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            head = json.loads(file.read(length))
        parameters += sum(prod(tensor["shape"]) for name, tensor in head.items() if name != "__metadata__")
    return Size(parameters, json.loads(read_text(folder / "config.json"))["num_hidden_layers"])


def machines(done: Sequence[Done]) -> list[tuple[str, int]]:
    """What cells ran on, with their precision, and how many: the most first."""
    return Counter(_machine(each.manifest.hardware) for each in done).most_common()


def _machine(hardware: Mapping[str, str]) -> str:
    processor = f"{hardware['processor']} ({hardware['vector']})"
    place = processor if hardware["accelerator"] == "none" else hardware["accelerator"]
    return f"{place}, {hardware['dtype']}"


def dropped(done: Sequence[Done]) -> list[Dropped]:
    """Every reason for which rows were refused, by stage."""
    rows: dict[tuple[str, str, tuple[int, ...]], list[str]] = {}
    for arm, own in _by_arm(done):
        counts = [_refused(each) for each in own]
        for stage, reason in dict.fromkeys(key for found in counts for key in found):
            num_rows = tuple(found[stage, reason] for found in counts)
            rows.setdefault((stage, reason, num_rows), []).append(arm)
    return [Dropped(tuple(arms), *row) for row, arms in rows.items()]


def _refused(done: Done) -> Counter[tuple[str, str]]:
    """(stage, reason) → rows. A dialogue that fails is one lost, at whichever turn."""
    found = Counter[tuple[str, str]]()
    for count in traces.dropped(done.root, done.manifest):
        found[count.stage, AT_TURN.sub("", count.what)] += count.num_rows
    return found


def unscored(done: Sequence[Done]) -> list[Unscored]:
    """Every readout of an arm or control that lost items."""
    rows = [row for arm, own in _by_arm(done) for row in _unscored(arm, TRAINED, own)]
    seeds = list({each.cell.seed: each for each in done}.values())  # a control is the same in every arm of a seed
    return rows + [row for control in CONTROLS for row in _unscored(control, control, seeds)]


def _unscored(name: str, subject: str, own: Sequence[Done]) -> Iterator[Unscored]:
    for claim in own[0].manifest.config.bench.claims:
        sides = [(each.scored[BASE][claim], each.scored[subject][claim]) for each in own]
        for readout in dict.fromkeys(readout for _, after in sides for readout, _ in after.values):
            pairs = [pair for before, after in sides for pair in _pairs(before, after, readout)]
            reasons = [pair.reason for pair in pairs if pair.reason]
            if reasons:
                span = CLAIMS[claim].ranges.get(readout)
                bounds = shift_bounds([pair.before for pair in pairs], [pair.after for pair in pairs], span)
                yield Unscored(name, claim, readout, len(reasons), len(pairs), tally(reasons), bounds)


class _Pair(NamedTuple):
    before: float | None
    after: float | None
    reason: str
    """Why there is no shift: the subject's own first, the base's only where the subject was scored."""


def _pairs(before: Scored, after: Scored, readout: str) -> Iterator[_Pair]:
    """Every item and split of a readout on both sides."""
    for (name, split), values in after.values.items():
        if name == readout:
            base = before.values.get((name, split), {})
            for item, value in values.items():
                place, was = (name, split, item), base.get(item)
                reason = "" if was is not None else f"base: {before.reasons.get(place, 'not measured')}"
                yield _Pair(was, value, after.reasons.get(place, reason))
