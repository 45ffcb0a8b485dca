"""Subjects by name: what a user types → weights on disk and one hash."""

from pathlib import Path
from typing import NamedTuple

from ethos import models
from ethos.constitution import Constitution
from ethos.errors import ModelError
from ethos.manifest import MANIFEST, read_manifest
from ethos.models import DEFAULT_MODEL, Subject
from ethos.steering import PLACE
from ethos.train.lora import CONFIG


class Found(NamedTuple):
    """A subject and where its weights are."""

    subject: Subject
    base: Path
    adapter: Path | None

    def without_character(self) -> "Found":
        """The bare base that a subject is compared with."""
        return Found(
            self.subject.model_copy(update={"name": "base", "adapter": None, "system": None, "steering": None}),
            self.base,
            None,
        )


def find_subject(name: str, constitution: Constitution | None = None) -> Found:
    """`base`, a finished run's folder, an adapter's or steering vector's folder, or a transformers model's folder.

    With a constitution, `prompted` is the base with it as system prompt.
    """
    folder = Path(name)
    model, adapter = DEFAULT_MODEL, None
    if (folder / MANIFEST).exists():
        model, adapter = read_manifest(folder).config.model, folder / "adapter"
    elif (folder / CONFIG).exists() or (folder / PLACE).exists():
        adapter = folder
    elif (folder / "config.json").exists():
        model = name
    elif name != "base" and not (name == "prompted" and constitution):
        raise ModelError(
            f"no subject at {name!r}",
            hint="give 'base', a finished run's folder, or a folder with adapter_config.json or config.json",
        )
    base = models.base_folder(model)
    system = constitution.system_prompt() if constitution and name == "prompted" else None
    subject = models.subject(name, models.base_digest(base), models.reading_digest(base), adapter, system=system)
    return Found(subject, base, adapter)
