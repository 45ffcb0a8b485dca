"""Strict `{slot}` filling: an unknown or a missing slot is an error, never silence.

The reference implementation passed guidance to a template without a slot for it and left
`{NAME}` literal in two thousand dialogues; both are impossible here.
"""

import string

from ethos.errors import DataError


def slots(template: str) -> set[str]:
    """Names of the `{slots}` in a template; `{{` and `}}` are literal braces."""
    try:
        return {slot for _, slot, _, _ in string.Formatter().parse(template) if slot is not None}
    except ValueError as error:
        raise DataError(f"template has unbalanced braces: {template[:80]!r}", hint="write {{ for a brace") from error


def fill(template: str, **values: str) -> str:
    """Fill every slot. A slot without a value, or a value without a slot, raises DataError."""
    wanted = slots(template)
    if wanted != values.keys():
        raise DataError(f"template has slots {sorted(wanted)} but was given {sorted(values)}: {template[:80]!r}")
    return template.format(**values)
