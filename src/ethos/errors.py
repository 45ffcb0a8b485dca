"""What can go wrong by a user's hand, and nothing else.

    UserError                 printed bare, exit code 2, never a traceback
    ├── ConfigError           a run file, an override, a command-line value
    ├── ConstitutionError     a constitution that cannot be read or trained from
    ├── DataError             records that are malformed, empty or unusable
    ├── ModelError            base weights or adapters that are missing, damaged or mismatched
    ├── StoreError            the run folder: in use, read-only, full
    └── NothingScored         a claim left without a single scored item

A message says what is wrong, where, and what is allowed; `hint` says the way out.
Anything else that escapes is a bug and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A mistake the user can mend. `str(error)` is the whole message, hint included."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(f"{message}\nhint: {hint}" if hint else message)


class ConfigError(UserError):
    """A run file, an override or a command-line value is wrong."""


class ConstitutionError(UserError):
    """A constitution cannot be read, or cannot be trained from."""


class DataError(UserError):
    """Records are malformed, empty, or unusable."""


class ModelError(UserError):
    """Base weights or an adapter are missing, damaged, or do not fit together."""


class StoreError(UserError):
    """A run folder is in use, read-only, or on a full disk."""


class NothingScored(UserError):
    """No item of a claim could be scored, so there is no number to show."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word, or all of them when none is near."""
    choices = sorted(known)
    close = get_close_matches(name, choices, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(choices)}"
