"""Constitutions with a teacher's help: one drafted from a description, one with more prompts than were written by hand.

Both become new files; a file that is there is never written to. What a teacher says is parsed and linted as anybody's
constitution is, its replies are stored beside the new file, and a killed run asks nothing twice.
"""

import tomllib
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from ethos.authoring import ASKS_FIRST, begun, refuse_existing, to_toml
from ethos.constitution import DEEP_KEY, Constitution, Finding, Split, lint, read_written
from ethos.data.answers import follow_up, longest, unfenced
from ethos.data.widening import ALIKE, ROUNDS, Widened, widen
from ethos.errors import ConstitutionError
from ethos.records import explain, to_jsonl, user
from ethos.samplers.api import Teacher
from ethos.samplers.budget import Prices, Unasked
from ethos.samplers.replies import CUT_OFF, Ask, Reply, ReplyCache, Request
from ethos.store import explained, write_text
from ethos.teachers import AnyTeacher, asked, foreseen, stored, with_room
from ethos.teaching import REPLIES, barred, counted
from ethos.templates import fill

DRAFT = """\
Write the constitution of a language model's character as a TOML file. The character, described by its author:

{description}

The file has this form; TODO stands for what you write:

{example}
It needs at least eight traits that differ from one another and together make this character, and for each at least \
ten prompts: four familiar, two domain, two format, one role, one pressure.
- A statement says in the first person what the character does, as conduct that a reader could spot in a reply. It \
begins with I, and does without: not, never, no, avoid, without, always, must, should, various, appropriate.
- `why` gives the honest reasons for it. `opposite` describes the vice, in the first person and in other words.
- A prompt is one message of 8 to 30 words that a user might send. It calls for the trait and names neither the trait \
nor a word of its statement. familiar: everyday life. domain: unusual places and trades. format: asks for a short \
piece of writing. role: gives the assistant a job. pressure: pushes for the opposite. No two prompts are alike.
- `priority` lists every trait once, the one that wins a conflict first.
The name is {name}. Reply with the TOML file and nothing else."""
MEND = """\
This is what a checker says of it:
{findings}
Mend it, and reply with the whole TOML file and nothing else."""
DRAFT_TOKENS, TEMPERATURE = 8000, 0.7
PATIENCE = 900.0
"""Seconds that a whole constitution may take to write."""


def draft_constitution(description: str, name: str, teacher: AnyTeacher) -> str:
    """The TOML of a constitution by a teacher; what is left to mend stands in comments at its head.

    Raises ConstitutionError where the teacher's second attempt is no constitution either.
    """
    example = to_toml(begun(name, [ASKS_FIRST]))
    refuse_existing(Path(f"{name}.toml"))
    patient = teacher.model_copy(update={"timeout": PATIENCE}) if isinstance(teacher, Teacher) else teacher
    folder = Path(name)
    with explained(folder):
        folder.mkdir(exist_ok=True)
        with asked(patient, folder / REPLIES) as ask:
            constitution, findings = drafted(description, name, example, ask)
    todo = [f"# TODO {_line(finding)}" for finding in findings]
    return "\n".join(
        [f"# {name}: drafted by a model from a description. Read it line by line.", *todo, "", ""]
    ) + to_toml(constitution)


def drafted(description: str, name: str, example: str, ask: Ask) -> tuple[Constitution, list[Finding]]:
    """The better of two attempts, the second with what is wrong with the first in sight, and what is wrong with it."""
    text = fill(DRAFT, description=description, example=example, name=name)
    request = Request(messages=[user(text)], max_tokens=DRAFT_TOKENS, temperature=TEMPERATURE)
    (reply,) = ask([request])
    first = read_draft(reply, name)
    findings = [f"- {first}"] if isinstance(first, str) else [f"- {_line(finding)}" for finding in lint(first)]
    if not findings and isinstance(first, Constitution):
        return first, []
    (reply,) = ask([follow_up(request, reply, fill(MEND, findings="\n".join(findings)), max_tokens=DRAFT_TOKENS)])
    second = read_draft(reply, name)
    sound = [attempt for attempt in (second, first) if isinstance(attempt, Constitution)]
    if not sound:
        raise ConstitutionError(
            f"the teacher wrote no constitution, and did not mend it: {second}",
            hint="describe the character in more words, or take a larger teacher",
        )
    best = min(sound, key=lambda attempt: len(lint(attempt)))
    return best, lint(best)


def read_draft(reply: Reply, name: str) -> Constitution | str:
    """A reply as a constitution of that name, or why it is none."""
    if reply.finish == "length":
        return CUT_OFF
    text = unfenced(reply.text)
    if DEEP_KEY.search(text):
        return "not TOML: nested too deeply"
    try:
        return Constitution.model_validate(tomllib.loads(text) | {"name": name})
    except tomllib.TOMLDecodeError as error:
        return f"not TOML: {error}"
    except RecursionError:
        return "not TOML: nested too deeply"
    except ValidationError as error:
        return explain(error)


def _line(finding: Finding) -> str:
    return " ".join(f"{finding.rule}: {finding.where}: {finding.message}; {finding.hint}".split())


def foresee_draft(description: str, name: str, teacher: AnyTeacher, prices: Prices | None) -> str:
    """What `draft_constitution` would ask, in words. Writes nothing."""
    refuse_existing(Path(f"{name}.toml"))
    example, store = to_toml(begun(name, [ASKS_FIRST])), Path(name) / REPLIES
    with closing(ReplyCache(store if store.exists() else Path(":memory:"))) as cache:
        try:
            drafted(description, name, example, stored(teacher, cache))
        except Unasked as gap:
            (request,) = gap.requests.values()
            mending = follow_up(request, longest(request), MEND, max_tokens=DRAFT_TOKENS)
            later = with_room([mending], teacher.thought_tokens) if gap.number == 0 else []
            return foreseen(gap, later, teacher, prices)
    return "nothing is left to ask the teacher: `ethos constitution draft` finishes from what is stored"


class Wish(NamedTuple):
    """More prompts that are wanted."""

    splits: Sequence[Split]
    per_trait: int
    seed: int


def foresee_widening(name: str, wish: Wish, teacher: AnyTeacher, *, out: Path, prices: Prices | None) -> str:
    """What `widen_constitution` would ask, in words; every refusal asked about again. Writes nothing."""
    constitution, store = _renamed(read_written(name), out), out.with_suffix("") / REPLIES
    with closing(ReplyCache(store if store.exists() else Path(":memory:"))) as cache:
        try:
            _widened(constitution, wish, stored(teacher, cache))
        except Unasked as gap:
            again = [request for request in gap.requests.values() for _ in range(ROUNDS - gap.number - 1)]
            return foreseen(gap, again, teacher, prices)
    return "nothing is left to ask the teacher: `ethos data widen` finishes from what is stored"


def _widened(constitution: Constitution, wish: Wish, ask: Ask) -> Widened:
    return widen(constitution, wish.splits, wish.per_trait, ask, barred(alike=ALIKE), seed=wish.seed)


def widen_constitution(name: str, wish: Wish, teacher: AnyTeacher, *, out: Path) -> str:
    """Write a constitution with more prompts to `out`, a new file; what was added and refused, in words."""
    constitution = _renamed(read_written(name), out)
    folder = out.with_suffix("")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with asked(teacher, folder / REPLIES) as ask:
            made = _widened(constitution, wish, ask)
        reasons = Counter(drop.reason for drop in made.refused)
        if not made.added:
            raise ConstitutionError(
                f"no proposal was accepted: {reasons.most_common(1)[0][0]}",
                hint="take another teacher, or other splits",
            )
        head = f"# {constitution.name}: {name} with {len(made.added)} more prompts, proposed by a model.\n\n"
        write_text(out, head + to_toml(made.constitution))
        write_text(folder / "prompts.dropped.jsonl", to_jsonl(made.refused))
    return "\n".join([_told(out, made), *counted(reasons)])


def _told(out: Path, made: Widened) -> str:
    findings = len(lint(made.constitution))
    return (
        f"{out}: {len(made.added)} prompts added, {made.open} slots left open, {len(made.refused)} proposals refused; "
        f"ethos constitution check: {findings} findings"
    )


def _renamed(constitution: Constitution, out: Path) -> Constitution:
    """The constitution under the name of its new file, which must not be there."""
    if out.suffix != ".toml":
        raise ConstitutionError(f"{out}: a constitution is a .toml file", hint="--out my-character.toml")
    refuse_existing(out)
    try:
        return Constitution.model_validate(constitution.model_dump() | {"name": out.stem})
    except ValidationError as error:
        raise ConstitutionError(f"{out.stem!r} cannot name a constitution: {explain(error)}") from error
