"""What a finished run says of itself: the one file the report starts from."""

from pathlib import Path

from pydantic import Field, ValidationError

from ethos.bench.baseline import BaselineScore
from ethos.bench.claim import Score
from ethos.config import RunConfig
from ethos.constitution import Constitution
from ethos.errors import DataError, StoreError
from ethos.measuring import SCORES
from ethos.models import Subject
from ethos.records import Record, explain, read_jsonl, read_text

MANIFEST = "manifest.json"
BASE, PROMPTED, NEUTRAL, TRAINED = "base", "prompted", "neutral", "trained"
"""The subjects of a run: the one that shifts are taken from, the same with the constitution as system prompt, the
control trained on ordinary requests, and the one the run is about."""


class Manifest(Record):
    """A finished run. Paths are relative to the run folder."""

    config: RunConfig
    fingerprint: str = ""
    """One hash of everything that decided its artefacts: settings, data, items, claims, weights."""
    constitution: Constitution
    ethos: str
    versions: dict[str, str]
    hardware: dict[str, str]
    stages: dict[str, str]
    """Stage name → its artefact's folder."""
    subjects: dict[str, Subject]
    items_note: str = ""
    """What a reader must know of the items and of how they were put; empty where they are hand-written, and the model
    has a chat template."""
    traits: dict[str, str] = Field({})
    """Item → the trait it is about, of the contrasts that were written for one."""
    measured: dict[str, dict[str, str]]
    """Subject → claim → folder with its scores."""


def read_manifest(root: Path) -> Manifest:
    """The manifest of a finished run; an unfinished one is a StoreError that says how to finish it."""
    path = root / MANIFEST
    if not path.exists():
        raise StoreError(
            f"{root}: no finished run here (no {MANIFEST})", hint="run it to the end first: ethos run FILE --out FOLDER"
        )
    try:
        return Manifest.model_validate_json(read_text(path))
    except ValidationError as error:
        raise StoreError(
            f"{path} is damaged or of another version of ethos: {explain(error)}",
            hint="run the same `ethos run` again: finished stages are kept and the manifest is written anew",
        ) from error


def read_scores(root: Path, manifest: Manifest, subject: str, claim: str) -> list[Score]:
    """One subject's scores on one claim."""
    try:
        folder = manifest.measured[subject][claim]
    except KeyError as error:
        raise DataError(f"{root}: no scores of {subject!r} on {claim!r}") from error
    return read_jsonl(root / folder / SCORES, Score)


def read_baseline(root: Path, manifest: Manifest) -> list[BaselineScore]:
    """The bag of words' accuracy on every contrast and split."""
    folder = manifest.stages.get("baseline")
    return read_jsonl(root / folder / "baseline.jsonl", BaselineScore) if folder else []
