"""Starting and revising constitutions: a scaffold, the import of another project's, what changed between versions."""

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from ethos.constitution import Constitution, Split, Trait
from ethos.errors import ConstitutionError, DataError
from ethos.records import Record, explain, read_text

TODO = "TODO"
"""What stands where only the author can say; `ethos constitution check` finds it."""

SHOWN: tuple[Split, ...] = ("familiar", "domain", "format", "role", "pressure")
SCAFFOLD = """\
# {name}: say in a sentence or two who this character is.
#
# Each trait has four parts (README, "Your own constitution"):
#   statement  what the character does, in the first person, as conduct a reader could spot in a reply
#   why        the honest reasons for it
#   opposite   the other pole, also in the first person
#   prompts    situations that call for the trait without naming it, by split:
#              familiar, domain, format, role, pressure, turns
# Eight traits or more, ten prompts or more each. `ethos constitution check {name}.toml` says what is missing.

"""


ASKS_FIRST = Trait(
    name="asks-first",
    statement="I ask one short question when a wish can be read in two ways, and I say which readings I see.",
    why="A wrong guess costs the reader more than a question does.",
    opposite="I guess what is meant and run with it, and I leave the reader to find out.",
    prompts={split: [f"{TODO}: a {split} prompt"] for split in SHOWN},
)
"""A trait that shows the form."""


def scaffold(name: str) -> str:
    """A constitution to fill in, as TOML: one trait that shows the form."""
    empty = Trait(name="second-trait", statement=TODO, why=TODO, opposite=TODO, prompts={"familiar": [TODO]})
    return SCAFFOLD.format(name=name) + to_toml(begun(name, [ASKS_FIRST, empty]))


def begun(name: str, traits: Sequence[Trait]) -> Constitution:
    """A constitution of which the traits are there and the rest is left to do."""
    try:
        return Constitution(
            name=name,
            version="0.1",
            summary=TODO,
            licence="Apache-2.0",
            priority=[trait.name for trait in traits],
            trait=list(traits),
        )
    except ValidationError as error:
        raise ConstitutionError(
            f"{name!r} cannot name a constitution: {explain(error)}", hint="small letters, digits and hyphens"
        ) from error


def refuse_existing(path: Path) -> None:
    """Raise ConstitutionError where a file is there already."""
    if path.exists():
        raise ConstitutionError(f"{path} exists", hint="choose another name, or remove it first")


def to_toml(constitution: Constitution) -> str:
    """A constitution as the TOML file it would be read from. JSON strings are TOML basic strings."""
    head = [f"{key} = {_string(getattr(constitution, key))}" for key in ("name", "version", "summary", "licence")]
    head.append(f"priority = [{', '.join(map(_string, constitution.priority))}]")
    head += [f"risk = {_string(constitution.risk)}"] if constitution.risk else []
    return "\n".join([*head, *(line for trait in constitution.trait for line in _trait_lines(trait))]) + "\n"


def _trait_lines(trait: Trait) -> Iterator[str]:
    yield from ("", "[[trait]]")
    for key in ("name", "statement", "why", "opposite"):
        yield f"{key} = {_string(getattr(trait, key))}"
    yield from ("", "[trait.prompts]")
    for split, texts in trait.prompts.items():
        yield f"{split} = ["
        yield from (f"  {_string(text)}," for text in texts)
        yield "]"


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


class ImportedTrait(Record):
    """A trait as Open Character Training writes it: hand-written with `questions`, few-shot with more of them."""

    trait: str = Field(min_length=1)
    questions: tuple[str, ...] = ()
    additional_questions: tuple[str, ...] = ()
    clarification: str = ""


def import_oct(path: Path, name: str) -> Constitution:
    """A constitution from OCT's `hand-written/*.txt` (a JSON list) or `few-shot/*.jsonl` (a row a trait).

    What it has no word for (`why`, `opposite`, splits other than the familiar one) is left to do.
    """
    text = read_text(path)
    try:
        lines = [line for line in text.splitlines() if line.strip()]
        rows: Any = [json.loads(line) for line in lines] if path.suffix == ".jsonl" else json.loads(text)
        found = TypeAdapter(list[ImportedTrait]).validate_python(rows)
    except (json.JSONDecodeError, RecursionError, ValidationError) as error:
        reason = explain(error) if isinstance(error, ValidationError) else str(error)
        raise DataError(
            f"{path}: not a constitution of Open Character Training: {reason}",
            hint="expected a JSON list, or a JSONL file, of objects with `trait` and `questions`",
        ) from error
    if not found:
        raise DataError(f"{path}: no traits")
    traits = [
        Trait(
            name=f"trait-{number}",
            statement=row.trait,
            why=row.clarification or TODO,
            opposite=TODO,
            prompts={"familiar": list(dict.fromkeys([*row.questions, *row.additional_questions])) or [TODO]},
        )
        for number, row in enumerate(found, 1)
    ]
    try:
        return Constitution(
            name=name,
            version="0.1",
            summary=f"Imported from {path.name}.",
            licence=TODO,
            priority=[trait.name for trait in traits],
            trait=traits,
        )
    except ValidationError as error:
        raise ConstitutionError(f"{name!r} cannot name a constitution: {explain(error)}") from error


def diff(old: Constitution, new: Constitution) -> list[str]:
    """What changed, trait by trait, a line each; empty when nothing did."""
    lines = [
        f"{key}: {getattr(old, key)!r} -> {getattr(new, key)!r}"
        for key in ("name", "version", "summary", "licence", "priority", "risk")
        if getattr(old, key) != getattr(new, key)
    ]
    before, after = ({trait.name: trait for trait in each.trait} for each in (old, new))
    lines += [f"- trait {name}" for name in before if name not in after]
    lines += [f"+ trait {name}" for name in after if name not in before]
    for name in [name for name in after if name in before]:
        lines += [f"trait {name}: {line}" for line in _trait_diff(before[name], after[name])]
    return lines


def _trait_diff(old: Trait, new: Trait) -> Iterator[str]:
    for key in ("statement", "why", "opposite"):
        if getattr(old, key) != getattr(new, key):
            yield f"{key}\n{_quoted('- ', getattr(old, key))}\n{_quoted('+ ', getattr(new, key))}"
    for split in dict.fromkeys([*old.prompts, *new.prompts]):
        before, after = old.prompts.get(split, []), new.prompts.get(split, [])
        changes = [*_only("- ", before, after), *_only("+ ", after, before)]
        if changes:
            yield "\n".join([f"{split} prompts", *changes])


def _only(mark: str, texts: Sequence[str], others: Sequence[str]) -> list[str]:
    return [_quoted(mark, text) for text in texts if text not in others]


def _quoted(mark: str, text: str) -> str:
    return textwrap.fill(re.sub(r"\s+", " ", text), 100, initial_indent=f"    {mark}", subsequent_indent="      ")
