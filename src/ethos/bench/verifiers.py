"""Programs that check whether a reply does what was asked."""

import json
import re
from collections.abc import Callable, Mapping

from ethos.bench.items import Check


def fulfils(reply: str, check: Check) -> bool:
    """Whether the reply meets the check; an empty reply meets none."""
    return bool(reply.strip()) and VERIFIERS[check.kind](reply.strip(), check)


def _words(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower())


def _has(reply: str, phrase: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(phrase.lower())}(?!\w)", reply.lower()) is not None


def _sentences(reply: str) -> int:
    return len([part for part in re.split(r"[.!?]+(?:\s|$)", reply) if part.strip()])


def _items(reply: str) -> int:
    return len(re.findall(r"^\s*(?:[-*•]|\d+[.)])\s+\S", reply, flags=re.MULTILINE))


def _numbers(reply: str) -> set[float]:
    return {float(found.replace(",", "")) for found in re.findall(r"-?\d[\d,]*(?:\.\d+)?", reply)}


def _keys(reply: str) -> set[str]:
    found = re.search(r"\{.*\}", reply, flags=re.DOTALL)
    try:
        value = json.loads(found.group()) if found else None
    except json.JSONDecodeError:
        return set()
    return set(value) if isinstance(value, dict) else set()


VERIFIERS: Mapping[str, Callable[[str, Check], bool]] = {
    "contains": lambda reply, check: all(_has(reply, word) for word in check.words),
    "excludes": lambda reply, check: not any(_has(reply, word) for word in check.words),
    "starts_with": lambda reply, check: reply.lower().startswith(check.text.lower()),
    "ends_with": lambda reply, check: reply.lower().rstrip(" .!?\"'").endswith(check.text.lower().rstrip(" .!?\"'")),
    "max_words": lambda reply, check: len(_words(reply)) <= check.n,
    "min_words": lambda reply, check: len(_words(reply)) >= check.n,
    "one_sentence": lambda reply, _: _sentences(reply) == 1,
    "list_items": lambda reply, check: _items(reply) == check.n,
    "lowercase": lambda reply, _: reply == reply.lower(),
    "uppercase": lambda reply, _: reply == reply.upper(),
    "json_keys": lambda reply, check: set(check.keys) <= _keys(reply),
    "number": lambda reply, check: check.value in _numbers(reply),
}
