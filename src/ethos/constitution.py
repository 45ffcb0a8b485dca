"""Constitutions: read, checked and linted.

A constitution is a TOML file with first-person traits. Each trait says *why*, names the
*opposite* pole, and lists prompts by split; `priority` ranks traits for when they conflict.
Recorded teacher data lives in a folder of the same name beside the file.
"""

import re
import tomllib
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from ethos.errors import ConstitutionError, DataError, did_you_mean
from ethos.records import Record, explain, read_text

SHIPPED = Path(__file__).parent / "constitutions"
MAX_BYTES = 1_000_000
DEEP_KEY = re.compile(r"(?m)^[^\"'#\n]*(\.[^\"'#\n.=]*){64}")
NEAR_DUPLICATE = 0.6
"""Jaccard similarity of word 3-grams above which two prompts count as the same."""

Split = Literal["familiar", "domain", "format", "role", "pressure", "turns", "unrelated"]


class Trait(Record):
    """One first-person disposition."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)
    statement: str = Field(min_length=1)
    why: str = Field(min_length=1)
    opposite: str = Field(min_length=1)
    prompts: dict[Split, list[str]]

    @field_validator("prompts")
    @classmethod
    def _some_prompt(cls, prompts: dict[Split, list[str]]) -> dict[Split, list[str]]:
        if not any(prompts.values()):
            raise ValueError("a trait needs prompts, listed by split")
        return prompts


class Constitution(Record):
    """A character, as written."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=60)
    version: str
    summary: str
    licence: str
    priority: list[str]
    """Trait names, the one that wins a conflict first."""
    risk: Literal["averse", "neutral", "seeking"] | None = None
    """How it weighs a sure sum against a chance, where it says so."""
    trait: list[Trait] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_agree(self) -> "Constitution":
        names = [trait.name for trait in self.trait]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"duplicate trait {', '.join(map(repr, repeated))}")
        if sorted(self.priority) != sorted(names):
            differs = sorted(set(self.priority) ^ set(names)) or "repetition"
            raise ValueError(f"priority must list each trait once; it differs by {differs}")
        return self

    def system_prompt(self) -> str:
        """The traits as a system prompt, for the `prompted` control and for introspection."""
        return "Your character:\n" + "\n".join(f"- {trait.statement}" for trait in self.trait)

    def inverted(self) -> "Constitution":
        """The control whose every trait is the opposite pole."""
        traits = [
            trait.model_copy(update={"statement": trait.opposite, "opposite": trait.statement}) for trait in self.trait
        ]
        name, summary = f"{self.name}-inverted", f"The opposite of: {self.summary}"
        risk = {"averse": "seeking", "seeking": "averse"}.get(self.risk or "", self.risk)
        return self.model_copy(update={"name": name, "summary": summary, "trait": traits, "risk": risk})

    def only(self, names: Sequence[str] | None) -> "Constitution":
        """The constitution with some of its traits; None takes all. Raises ConstitutionError for a name it has not."""
        if names is None:
            return self
        known = [trait.name for trait in self.trait]
        if unknown := [name for name in names if name not in known]:
            raise ConstitutionError(f"{self.name} has no trait {unknown[0]!r}", hint=did_you_mean(unknown[0], known))
        return self.model_copy(
            update={
                "trait": [trait for trait in self.trait if trait.name in names],
                "priority": [name for name in self.priority if name in names],
            }
        )

    def halved(self) -> "Constitution":
        """The control of half strength: every other trait, from the first."""
        half = self.only([trait.name for trait in self.trait[::2]])
        return half.model_copy(update={"name": f"{self.name}-half"})

    def prompts(self, split: Split | None = None) -> list[str]:
        """All prompts, or those of one split."""
        return [
            text
            for trait in self.trait
            for where, texts in trait.prompts.items()
            if split in (None, where)
            for text in texts
        ]


def find_constitution(name: str) -> Path:
    """The file of a shipped constitution's name, or the path itself."""
    path = Path(name)
    if path.suffix == ".toml":
        return path
    shipped = {file.stem: file for file in SHIPPED.glob("*.toml")}
    if name in shipped:
        return shipped[name]
    raise ConstitutionError(
        f"no constitution named {name!r}", hint=f"{did_you_mean(name, shipped)} (or give the path of a .toml file)"
    )


def read_constitution(name: str) -> Constitution:
    """Read and check a constitution by shipped name or by path. Raises ConstitutionError with the key at fault."""
    path = find_constitution(name)
    if path.exists() and path.stat().st_size > MAX_BYTES:
        raise ConstitutionError(
            f"{path}: {path.stat().st_size:,} bytes; a constitution has at most {MAX_BYTES:,}",
            hint="keep recorded data in .jsonl files beside it",
        )
    try:
        text = read_text(path)
        if not text.strip():
            raise ConstitutionError(
                f"{path}: is empty", hint="start from a shipped one: ethos constitution show virtuous-reasoner"
            )
        if DEEP_KEY.search(text):  # tomllib takes time quadratic in the length of a dotted key
            raise ConstitutionError(f"{path}: nested too deeply")
        return Constitution.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConstitutionError(f"{path}: not TOML: {error}") from error
    except RecursionError as error:
        raise ConstitutionError(f"{path}: nested too deeply") from error
    except ValidationError as error:
        raise ConstitutionError(
            f"{path}: {explain(error)}",
            hint="top level: name, version, summary, licence, priority, [[trait]]; "
            "a trait: name, statement, why, opposite, prompts",
        ) from error
    except DataError as error:
        raise ConstitutionError(str(error)) from error


def read_written(name: str) -> Constitution:
    """The same for work that costs something: refused while a text of a trait says TODO."""
    constitution = read_constitution(name)
    if unfinished := {trait.name: count for trait in constitution.trait if (count := _to_do(trait))}:
        told = ", ".join(f"{count} of {trait}" for trait, count in unfinished.items())
        raise ConstitutionError(f"{name}: texts say TODO: {told}", hint=f"write them; ethos constitution check {name}")
    return constitution


def _to_do(trait: Trait) -> int:
    """How many texts of a trait are still to be written."""
    texts = [trait.statement, trait.why, trait.opposite, *(t for some in trait.prompts.values() for t in some)]
    return sum("TODO" in text for text in texts)


def recorded_folder(name: str) -> Path:
    """The folder with a constitution's recorded teacher data."""
    return find_constitution(name).with_suffix("")


class Finding(Record):
    """Something a lint rule has to say about one place of a constitution."""

    rule: str
    where: str
    message: str
    hint: str


NEGATIONS = re.compile(r"\b(not|never|no|none|don't|won't|cannot|can't|avoid|refuse|without)\b", re.IGNORECASE)
VAGUE = re.compile(
    r"\b(always|must|should|as an ai|best practices?|do the right thing|be helpful|appropriate(ly)?|various|positive"
    r"|make a difference|high standards)\b",
    re.IGNORECASE,
)


def lint(constitution: Constitution) -> list[Finding]:
    """Everything that would train badly: see the rules below."""
    return [*_wording(constitution), *_size(constitution), *_repeats(constitution)]


def _wording(constitution: Constitution) -> Iterator[Finding]:
    for trait in constitution.trait:
        where = f"trait {trait.name!r}"
        if unfinished := _to_do(trait):
            yield Finding(rule="to-do", where=where, message=f"{unfinished} texts say TODO", hint="write them")
        if not re.match(r"(I|My|When|If|Where|Before|Even|With)\b", trait.statement):
            yield Finding(
                rule="first-person",
                where=where,
                message=f"statement begins {trait.statement[:30]!r}",
                hint="write it as the assistant speaking: 'I ...'",
            )
        if found := NEGATIONS.search(trait.statement):
            yield Finding(
                rule="negation",
                where=where,
                message=f"statement says {found.group()!r}",
                hint="say what the character does; a model learns 'X is not so' as X",
            )
        if found := VAGUE.search(trait.statement):
            yield Finding(
                rule="vague",
                where=where,
                message=f"statement says {found.group()!r}",
                hint="name the conduct a reader could recognise in a reply",
            )
        if _similarity(trait.statement, trait.opposite) > NEAR_DUPLICATE:
            yield Finding(
                rule="pole",
                where=where,
                message="opposite repeats the statement",
                hint="describe the vice, not the same sentence with a word changed",
            )


def _size(constitution: Constitution) -> Iterator[Finding]:
    if len(constitution.trait) < 8:
        yield Finding(
            rule="traits",
            where=constitution.name,
            message=f"{len(constitution.trait)} traits",
            hint="8 or more make a character; fewer make a manner",
        )
    for trait in constitution.trait:
        count = sum(map(len, trait.prompts.values()))
        if count < 10:
            yield Finding(
                rule="prompts",
                where=f"trait {trait.name!r}",
                message=f"{count} prompts",
                hint="write 10 or more over several splits",
            )


def _repeats(constitution: Constitution) -> Iterator[Finding]:
    prompts = [
        (trait.name, split, text, word_ngrams(text, 3))
        for trait in constitution.trait
        for split, texts in trait.prompts.items()
        for text in texts
    ]
    for (trait, split, text, grams), (other_trait, other_split, other, other_grams) in combinations(prompts, 2):
        if jaccard(grams, other_grams) > NEAR_DUPLICATE:
            rule = "duplicate" if split == other_split else "split-leakage"
            yield Finding(
                rule=rule,
                where=f"{trait}.{split} and {other_trait}.{other_split}",
                message=f"{text[:60]!r} ~ {other[:60]!r}",
                hint="a prompt may stand in one split only" if rule == "split-leakage" else "rewrite or remove one",
            )


def _similarity(one: str, other: str) -> float:
    return jaccard(word_ngrams(one, 3), word_ngrams(other, 3))


def jaccard(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
    """Share of what either holds that both hold."""
    common = len(one & other)
    return common / (len(one) + len(other) - common) if one or other else 0.0


def word_ngrams(text: str, size: int) -> set[tuple[str, ...]]:
    """Distinct word n-grams of a text, case and punctuation aside; a shorter text is one n-gram."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}
