"""The rows that a run learns from, each with what is known of where it comes from.

Enters a finished run's folder, or the folder of a data stage (`out/NAME/data/DIGEST`); leaves the rows by kind, with
the stage that made them and what they are about. A row on disk names its source; what that source is about stands in
the recorded data, which is asked only while it is still what the run was made from.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from ethos.bench.derived import hold_out
from ethos.constitution import read_constitution
from ethos.data.files import PREFERENCES, read_drops, read_rows
from ethos.data.recorded import Recorded, read_recorded
from ethos.errors import UserError
from ethos.manifest import Manifest, read_manifest
from ethos.records import Conversation, Document, Drop, Preference, digest_of, read_text
from ethos.store import KEY

R = TypeVar("R", bound=Preference | Conversation | Document)

DATA = "data"
"""The stage that turns recorded data into rows."""
KINDS = {
    "crossed": "one of two situations that call for opposite replies; both are one group",
    "crossed-pushed": "a crossed contrast where the user pushes for a reply",
    "crossed-deliberated": "a crossed contrast where the user asks for a thought first, the same in both replies",
    "pole": "a reply in character against the opposite pole, matched in length",
    "pole-deliberated": "a pole contrast where the user asks for a thought first, the same in both replies",
    "voice": "a reply in character against a plain one",
    "voice-deliberated": "a voice contrast where the user asks for a thought first, the same in both replies",
    "reflection": "an introspective question answered in character",
    "interaction": "the character in conversation with itself",
    "replay": "an ordinary request with an ordinary answer, against forgetting",
    "document": "a plain text about the assistant and what it values",
}
"""Kind → what its rows are."""


class Traced(NamedTuple, Generic[R]):
    """A training row with its provenance."""

    row: R
    stage: str
    """`data` for recorded rows, else the stage that sampled them, or their rejected replies."""
    about: str
    """Its traits, or what decides a crossed item; empty where that is not known."""

    @property
    def kind(self) -> str:
        """A key of KINDS."""
        return "document" if isinstance(self.row, Document) else self.row.kind


AnyRow = Traced[Preference] | Traced[Conversation] | Traced[Document]


class Trained(NamedTuple):
    """All rows of a run, and what its filters refused."""

    preferences: list[Traced[Preference]]
    conversations: list[Traced[Conversation]]
    replay: list[Traced[Conversation]]
    documents: list[Traced[Document]]
    dropped: dict[str, list[Drop]]
    """Stage → refused rows; a stage that refused none is not in it."""
    key: str
    """Digest of all that decided the recorded part."""
    remarks: list[str]
    """What a reader should know of these rows."""
    manifest: Manifest | None
    """None where the folder is a data stage's own."""

    @property
    def by_kind(self) -> tuple[Sequence[AnyRow], ...]:
        """Preferences, conversations, replay, documents."""
        return self.preferences, self.conversations, self.replay, self.documents


def read_trained(folder: Path) -> Trained:
    """The rows of a finished run, or of one data stage. Raises StoreError or DataError where there are none."""
    manifest = None if (folder / PREFERENCES).exists() else read_manifest(folder)
    stages = {DATA: folder}
    if manifest:
        stages = {name: folder / manifest.stages[name] for name in (DATA, *manifest.config.named_stages)}
    rows, (about, remarks) = read_rows(stages[DATA]), _subjects(stages[DATA], manifest)
    documents = rows.documents
    if documents and manifest and not any(stage.method == "documents" for stage in manifest.config.stages):
        remarks.append(f"{len(documents)} documents are left out: no stage of this run reads them")
        documents = []
    remarks += _ablations(manifest) if manifest else []
    remarks += [f"a control: {swaps_told(rows.contrasts)}"] if any(row.swapped for row in rows.contrasts) else []
    made_by = {name: read_rows(made) for name, made in stages.items()}
    return Trained(
        preferences=[
            Traced(row, name, about.get(_origin(row.source), ""))
            for name, own in made_by.items()
            for row in own.contrasts
        ],
        conversations=[Traced(row, name, "") for name, own in made_by.items() for row in own.conversations],
        replay=[Traced(row, DATA, "") for row in rows.replay],
        documents=[Traced(row, DATA, about.get(row.source, "")) for row in documents],
        dropped={name: drops for name, made in stages.items() if (drops := read_drops(made))},
        key=stages[DATA].resolve().name,
        remarks=remarks,
        manifest=manifest,
    )


def swaps_told(rows: Sequence[Preference]) -> str:
    """How many contrasts stand the other way round than recorded."""
    swapped, groups = len({row.group for row in rows if row.swapped}), len({row.group for row in rows})
    return f"{swapped} of {groups} contrasts have chosen and rejected swapped"


def _ablations(manifest: Manifest) -> Iterator[str]:
    """Stages that learn otherwise than the recorded rows stand."""
    for name, stage in manifest.config.named_stages.items():
        changed = stage.model_dump(mode="json", include={"ablation", "bugs"}, exclude_defaults=True)
        if changed:
            yield f"{name} does not learn all recorded conversations as they stand: {json.dumps(changed)}"


def _subjects(data: Path, manifest: Manifest | None) -> tuple[dict[str, str], list[str]]:
    """Source → what it is about; nothing, and why, where the recorded data is not what the rows were made from."""
    unknown = "what rows are about is not known: "
    if manifest is None:
        return {}, [unknown + "a data stage does not name its constitution, give the run's folder for that"]
    try:
        other = manifest.config.trained_on
        constitution = read_constitution(other) if other else manifest.constitution
        rows = read_recorded(other or manifest.config.constitution)
        recorded = hold_out(manifest.config.bench.items, constitution, rows).trainable
    except UserError as error:
        return {}, [unknown + str(error).splitlines()[0]]
    made_from = json.loads(read_text(data / KEY)).get("recorded")
    if made_from != digest_of([row for rows in recorded for row in rows]):
        return {}, [unknown + "the recorded data has changed since this run"]
    return dict(_about(recorded)), []


def _about(recorded: Recorded) -> Iterator[tuple[str, str]]:
    """Each recorded source with its traits, or what decides it."""
    yield from ((f"crossed:{row.id}", row.kind) for row in recorded.crossed)
    yield from ((f"pole:{row.id}", row.trait) for row in recorded.poles)
    yield from ((f"voice:{row.id}", row.trait) for row in recorded.voice)
    yield from ((f"document:{row.id}", ", ".join(row.traits)) for row in recorded.documents)


def _origin(source: str) -> str:
    """The source as it is recorded: a variant's is that of the plain contrast."""
    kind, _, name = source.partition(":")
    return f"{kind.partition('-')[0]}:{name}"
