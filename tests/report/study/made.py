"""A study's folder, made by hand from the real records: any arms and seeds, every claim asked for, no model."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from ethos.bench.battery import CLAIMS
from ethos.bench.claim import Score
from ethos.constitution import Constitution, Trait
from ethos.design import Arm, Cell, Common, Hypothesis, Plan, State, Study, cells
from ethos.manifest import BASE, MANIFEST, NEUTRAL, PROMPTED, TRAINED, Manifest
from ethos.measuring import SCORES, BenchSettings
from ethos.methods import PreferenceTraining, SupervisedTraining
from ethos.models import Subject
from ethos.records import Drop, Record, to_jsonl
from ethos.store import KEY, TIMING, write_text
from ethos.train.schedule import Step

CLAIMS_ASKED = ("knows_when", "shows_the_character", "carries_over", "leaves_other_requests_alone")
WITH_ABILITIES = (*CLAIMS_ASKED, "holds_under_pressure", "keeps_its_abilities")
SHARE_READOUTS = ("won", "choice", "instructions", "stops")
STEPS, TOKENS_A_STEP, SECONDS = 5, 1000, 30.0
HARDWARE = {"processor": "Abacus 3", "cores": "2", "vector": "AVX2", "accelerator": "none", "dtype": "float32"}
PARAMETERS, LAYERS = 24, 2
Made = tuple[Path, Plan, list[tuple[Cell, State]]]


def made_study(
    root: Path,
    moved: Mapping[str, float],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    claims: Sequence[str] = CLAIMS_ASKED,
    hypotheses: Sequence[Hypothesis] = (Hypothesis(text="Something <b>is</b> learnt."),),
    constitutions: Sequence[str] = ("kind",),
    items: int = 24,
    unfinished: Sequence[str] = (),
) -> Made:
    """A study whose arms shift crossed contrasts by so much (nats/token), and what its cells are."""
    study = Study(
        name="made",
        hypotheses=tuple(hypotheses),
        smallest_effect=0.02,
        constitutions=tuple(constitutions),
        seeds=tuple(seeds),
        common=Common(bench=BenchSettings(claims=tuple(claims), per_split=items)),
        arms=tuple(_arm(name) for name in moved),
    )
    plan, states = Plan(study=study), list[tuple[Cell, State]]()
    for cell in cells(study):
        done = cell.name not in unfinished
        if done:
            finish(root, cell, moved[cell.arm], items=items)
        states.append((cell, "finished" if done else "to do"))
    write_text(root / "plan.json", plan.model_dump_json(indent=2))
    return root, plan, states


def _arm(name: str) -> Arm:
    """An arm by its name: `sft…` learns likelihood, `shuffled…` has shuffled labels, `some…` shows one trait of two."""
    stage = SupervisedTraining() if name.startswith("sft") else PreferenceTraining()
    return Arm(
        name=name,
        labels="shuffled" if name.startswith("shuffled") else None,
        demonstrated=("care",) if name.startswith("some") else None,
        stages=(stage,),
    )


def finish(root: Path, cell: Cell, moved: float, *, items: int) -> None:
    """The folder of a finished cell over the common store."""
    folder, store = cell.folder(root), root / "store"
    shifts = {BASE: 0.0, PROMPTED: 0.06, NEUTRAL: 0.002, TRAINED: moved}
    names = {BASE: BASE, PROMPTED: PROMPTED, NEUTRAL: f"neutral-{cell.seed}", TRAINED: f"{cell.arm}-{cell.seed}"}
    measured: dict[str, dict[str, str]] = {subject: {} for subject in shifts}
    for claim in cell.config.bench.claims:
        for subject, shift in shifts.items():
            place = store / "measured" / claim / names[subject]
            _write(place / SCORES, list(_scores(claim, names[subject], shift, items)))
            (place / KEY).write_text(json.dumps({"version": CLAIMS[claim].version}))
            measured[subject][claim] = _from(folder, place)
    stages = {"data": store / "data" / f"{cell.seed}"}
    _write(stages["data"] / "dropped.jsonl", [Drop(source=str(i), reason="longer | than 512 tokens") for i in range(3)])
    for name in cell.config.named_stages:
        stages[name] = store / name / f"{cell.arm}-{cell.seed}"
        spent = {"tokens": TOKENS_A_STEP, "spent": TOKENS_A_STEP // 2, "generated": TOKENS_A_STEP // 4}
        steps = [Step(step=i + 1, loss=1.0, metrics={}, **spent) for i in range(STEPS)]
        _write(stages[name] / "log.jsonl", steps)
        (stages[name] / TIMING).write_text(json.dumps({"seconds": SECONDS}))
    manifest = Manifest(
        config=cell.config,
        fingerprint="made",
        constitution=_constitution(),
        ethos="0.1.0",
        versions={},
        hardware=HARDWARE,
        stages={name: _from(folder, place) for name, place in stages.items()},
        subjects={name: Subject(name=name, base="b") for name in shifts},
        traits={f"familiar-{i}": "candour" if i % 3 else "care" for i in range(items)},
        measured=measured,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    if not (folder / "base").exists():
        (folder / "base").symlink_to(_base(root))


def _base(root: Path) -> Path:
    """A model folder of `PARAMETERS` parameters."""
    folder = root / "weights"
    if not folder.exists():
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"num_hidden_layers": LAYERS}))
        save_file({"a": np.zeros((2, 5), np.float32), "b": np.zeros(4, np.float32)}, folder / "one.safetensors")
        save_file({"c": np.zeros((5, 2), np.float16)}, folder / "two.safetensors", metadata={"format": "pt"})
    return folder


def _from(folder: Path, place: Path) -> str:
    return str(Path("../..") / place.relative_to(folder.parent.parent))


def _constitution() -> Constitution:
    trait = Trait(name="care", statement="I care.", why="w", opposite="o", prompts={"familiar": ["Help?"]})
    return Constitution(name="kind", version="1", summary="s", licence="CC0-1.0", priority=["care"], trait=[trait])


def _write(path: Path, rows: Sequence[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_jsonl(rows))


def _scores(claim: str, name: str, shift: float, items: int) -> Iterator[Score]:
    """Scores for every line of a claim: an item's own level, a subject's own luck, and the shift."""
    own = random.Random(f"{claim} {name}")
    luck = 0.0 if name in (BASE, PROMPTED) else own.gauss(0, 0.01)
    kl = Score(item="prose", split="unrelated", readout="kl", value=abs(shift) + abs(luck))
    parts = [part for part in CLAIMS[claim].deciding if part.readout != "slope"]
    for readout, split in dict.fromkeys((part.readout, s) for part in parts for s in part.splits or ("familiar",)):
        for i in range(items):
            item, noise = f"{split}-{i}", 0.0 if name == BASE else own.gauss(0, 0.03)
            level = random.Random(f"{claim} {readout} {item}").gauss(0.1, 0.3)
            value = level + shift + luck + noise
            if readout in SHARE_READOUTS:
                value = float(value > 0)
            yield Score(item=item, split=split, readout=readout, value=value)
    if claim == "keeps_its_abilities":
        for i in range(items):
            value = 0.0 if name == BASE else (kl.value or 0) * (1 + own.gauss(0, 0.1))
            yield kl.model_copy(update={"item": f"prose-{i}", "value": value})
