"""What every method is: settings of a training, where its rows come from, and what it minimises."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from peft import PeftModel
from pydantic import Field

from ethos.chat import Chat
from ethos.constitution import Constitution
from ethos.data.files import Rows
from ethos.persona import Persona
from ethos.samplers.replies import ReplyCache
from ethos.train.fit import Training
from ethos.train.loop import Objective, Unit

OVERLAP = "shares eight words in a row with a benchmark item"
Sees = Literal["constitution", "clean"]
"""What a teacher has that the student has not: the constitution as system prompt, or the prompt without the push."""


class Writing(NamedTuple):
    """What a stage lets a model write before or while it trains."""

    requests: int = 0
    tokens: int = 0
    """At most: every reply at its limit."""


class Given(NamedTuple):
    """What a stage starts from, beside its settings and its rows."""

    base: Path
    base_name: str
    constitution: Constitution
    data: Path
    """The folder of the run's rows."""
    on: Path | None
    """The adapter of all stages before."""
    cache: ReplyCache
    seed: int
    gap_needed: bool = True
    """Whether a teacher that does not show the character stops the run (see gap.py)."""
    scores: Path | None = None
    """The file that keeps log-probabilities for whoever asks for them again."""


class Method(Training, ABC):
    """One stage: what every method adds to the settings of a training."""

    method: str
    prevent: Persona | None = Field(None, exclude_if=lambda persona: persona is None)
    """A push away from the character in every forward pass of the training, gone afterwards (preventative steering)."""

    def gathered(self, rows: Rows, given: Given, folder: Path) -> Rows:
        """The rows with those that this method makes itself; what it makes and drops is written to `folder`."""
        return rows

    def fingerprint(self) -> str:
        """What decides the result and is not in the settings: a hash of weights that they name by path."""
        return ""

    @abstractmethod
    def units(self, rows: Rows, constitution: Constitution, chat: Chat, *, seed: int) -> list[Unit]:
        """What to learn from, nothing sampled yet."""

    @abstractmethod
    def objective(self, model: PeftModel, given: Given, chat: Chat) -> Objective:
        """What to minimise."""

    def written(self, rows: Rows, units: Sequence[Unit]) -> Writing:
        """What it lets a model write, known from its settings, rows and units."""
        return Writing()

    @property
    def needs_reference(self) -> bool:
        """Whether log-probabilities before training enter the loss."""
        return False

    @property
    def reads_labels(self) -> bool:
        """Whether it matters which reply of a contrast is the chosen one; to a vaccine it does."""
        return self.prevent is not None

    @property
    def teacher_sees(self) -> Sees | None:
        """What a teacher has in sight whose replies can be weighed; None where no model teaches, or none alone."""
        return None

    @property
    def elsewhere(self) -> Path | None:
        """The folder of another model that takes part."""
        return None

    @property
    def adds_factors(self) -> bool:
        """Whether it is put together with the stages before by adding factors, which is a mistake to be studied."""
        return False
