"""The teacher's gap: does the teacher show the character more than the student does? Asked before a stage is trained.

    gap = margin(teacher, which sees more) − margin(student, which sees the prompt alone), nats/token, by contrast

A margin is log p(chosen) − log p(rejected). It is read on the run's own crossed contrasts (both situations of one
together: a liking for words cancels) and on its poles, on the very prompts that the teacher is to teach on. A teacher
whose gap is clearly above zero on one of the two may teach; another stops the run, unless the run file says
`teacher_gap = "measured"`. With two readouts a teacher that shows nothing passes once in twenty at most.

Only a teacher that can be weighed is asked: that of distillation (another model, or the student itself with the
constitution or the clean prompt in sight), the one whose likelihoods reward constitutional_rl, and the student that
samples where introspection learns nothing else. Recorded text is not asked about, since nobody is there to weigh it. A
bag of words tells most poles apart by manner and no crossed contrast at all; and where the student, told of the
constitution, does not find the recorded replies likelier, it may be the student that cannot read. That number stands
in every report as the prompted subject's shift. Sampled rejections are not asked about either: the model that sampled
a reply without the constitution finds it likelier without it, by construction.
"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ethos import models
from ethos.bench.readouts import pair_margins
from ethos.constitution import Constitution
from ethos.data.files import read_rows
from ethos.data.preferences import Contrasts
from ethos.errors import UserError
from ethos.methods import Given, Method, Sees
from ethos.models import Subject, load_subject
from ethos.records import Message, Preference, Record, read_text
from ethos.stats import Estimate, estimate
from ethos.store import write_text

GAP = "teacher-gap.json"
MOST = Contrasts(crossed=32, poles=32, voice=0)
"""The contrasts it is read on, the first in the run's order: a minute or two of a small model on one core."""
LEAST = 8
"""Fewest contrasts that may decide: of fewer a bootstrap sees too little spread, and a teacher passes by chance."""


class NoGap(UserError):
    """A teacher that does not show the character more than its student does."""


class Found(Record):
    """The gap on one kind of contrast, in nats per token."""

    contrast: Literal["crossed", "pole"]
    mean: float
    low: float
    high: float
    num_scored: int
    num_unscored: int


class TeacherGap(Record):
    """What was measured of a stage's teacher."""

    sees: Sees
    found: tuple[Found, ...]
    """Nothing where there are too few contrasts to measure on."""

    @property
    def shown(self) -> bool:
        """Whether the teacher shows the character more than the student, on some kind of contrast."""
        return any(found.low > 0 for found in self.found)

    def __str__(self) -> str:
        """As reports print it."""
        sees = "constitution" if self.sees == "constitution" else "prompt without the push"
        found = ", ".join(f"{found.contrast} {_estimate(found)}" for found in self.found)
        doubt = "" if self.shown else "; not shown to have more of the character"
        return f"a teacher that sees the {sees}, minus its student: {found or 'too few contrasts'}" + (
            f" nats/token{doubt}" if found else doubt
        )


class Question(NamedTuple):
    """One reply against another, as teacher and student are asked."""

    row: Preference
    teacher: list[Message]
    student: list[Message]

    @property
    def replies(self) -> tuple[str, str]:
        """The chosen one and the rejected one, as recorded, whatever labels a control has given them."""
        chosen, rejected = self.row.chosen[0].content, self.row.rejected[0].content
        return (rejected, chosen) if self.row.swapped else (chosen, rejected)


def check_gap(stage: Method, given: Given, folder: Path, *, label: str) -> None:
    """Measure the gap of a stage's teacher once, and write it to `folder`. No teacher that can be weighed, no gap.

    Raises NoGap where it is needed and not there.
    """
    if stage.teacher_sees is None:
        return
    path = folder / GAP
    if not path.exists():
        print(f"teacher's gap · {label}", file=sys.stderr, flush=True)
        write_text(path, measured(stage, stage.teacher_sees, given).model_dump_json(indent=2))
    gap = read_gap(path)
    if given.gap_needed and not gap.shown:
        raise NoGap(
            f"{label} would learn from {gap}",
            hint="take a larger teacher or other contrasts; --set teacher_gap=measured trains all the same",
        )


def read_gap(path: Path) -> TeacherGap:
    """A gap as it lies on disk."""
    return TeacherGap.model_validate_json(read_text(path))


def measured(stage: Method, sees: Sees, given: Given) -> TeacherGap:
    """The gap on the run's contrasts, both models loaded in turn."""
    asked = questions(read_rows(given.data).contrasts, sees, given.constitution)
    if not any(len(found) >= LEAST for found in _by_kind([each.row for each in asked]).values()):
        return TeacherGap(sees=sees, found=())
    student = models.subject("student", given.base_name, models.reading_digest(given.base), given.on)
    teacher, base, adapter = student, given.base, given.on
    if other := stage.elsewhere:
        teacher = models.subject("teacher", models.base_digest(other), models.reading_digest(other), None)
        base, adapter = other, None
    with models.enough_memory("take a smaller teacher, or a machine with more memory"):
        students = _margins(student, given.base, given.on, [(each.student, *each.replies) for each in asked], given)
        teachers = _margins(teacher, base, adapter, [(each.teacher, *each.replies) for each in asked], given)
    return TeacherGap(sees=sees, found=tuple(_found([each.row for each in asked], teachers, students)))


def _margins(
    who: Subject, base: Path, adapter: Path | None, cases: Sequence[tuple[list[Message], str, str]], given: Given
) -> list[float]:
    """How much likelier one finds each first reply."""
    with models.kept_scores(given.scores, who) as cache:
        return pair_margins(load_subject(base, who, adapter)._replace(cache=cache), cases)


def questions(contrasts: Sequence[Preference], sees: Sees, constitution: Constitution) -> list[Question]:
    """What both are asked: contrasts without a thought before the reply, and where the push is gone, pushed ones."""
    rows = [row for row in contrasts if not row.kind.endswith("-deliberated")]
    if sees == "clean":
        return [Question(row, row.clean, row.prompt) for row in MOST.of([row for row in rows if row.clean])]
    system = Message(role="system", content=constitution.system_prompt())
    return [Question(row, [system, *row.prompt], row.prompt) for row in MOST.of(rows)]


def _by_kind(rows: Sequence[Preference]) -> dict[str, dict[str, list[int]]]:
    """Kind of contrast → contrast → places of its rows."""
    groups: dict[str, dict[str, list[int]]] = {"crossed": {}, "pole": {}}
    for place, row in enumerate(rows):
        groups[row.kind.partition("-")[0]].setdefault(row.group, []).append(place)
    return groups


def _found(rows: Sequence[Preference], teacher: Sequence[float], student: Sequence[float]) -> list[Found]:
    """The mean gap of each kind of contrast, a contrast's situations taken together."""
    gaps, found = [above - below for above, below in zip(teacher, student, strict=True)], list[Found]()
    for kind, groups in _by_kind(rows).items():
        means = [sum(gaps[place] for place in places) / len(places) for places in groups.values()]
        scored = [None if math.isnan(mean) else mean for mean in means]  # beyond a model's context
        if sum(mean is not None for mean in scored) >= LEAST:
            found.append(Found.model_validate({"contrast": kind, **estimate(scored)._asdict()}))
    return found


def _estimate(found: Found) -> Estimate:
    return Estimate(found.mean, found.low, found.high, found.num_scored, found.num_unscored)
