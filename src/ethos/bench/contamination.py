"""No benchmark item in training: rows that share eight words in a row with one are refused.

Every string of every item file counts, sealed and development, at any depth.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ethos.bench.item_files import DEVELOPMENT, ITEMS
from ethos.constitution import word_ngrams
from ethos.records import Conversation, Document, Preference, Record, jsonl_lines, read_text

OVERLAP_WORDS = 8
"""Words in a row that, shared between training and an item, count as contamination."""


def texts_of(record: Record) -> list[str]:
    """Every string of a record."""
    return _strings(record.model_dump())


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for inner in value.values() for text in _strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _strings(inner)]
    return []


def sealed_runs(*folders: Path) -> frozenset[tuple[str, ...]]:
    """Every run of eight words of every item; the development split is as untouchable as the sealed one."""
    return frozenset(gram for texts in item_texts(*folders) for gram in _runs(texts))


def item_texts(*folders: Path) -> list[list[str]]:
    """The texts of every item, item by item."""
    files = [path for folder in folders or (ITEMS, DEVELOPMENT) for path in sorted(folder.rglob("*.jsonl"))]
    return [_strings(json.loads(line)) for path in files for line in jsonl_lines(read_text(path))[1:]]


def _runs(texts: list[str]) -> set[tuple[str, ...]]:
    long_enough = [text for text in texts if len(text.split()) >= OVERLAP_WORDS]
    return {gram for text in long_enough for gram in word_ngrams(text, OVERLAP_WORDS)}


def contaminated(rows: Sequence[Preference | Conversation | Document]) -> list[str]:
    """Sources of the training rows that share eight words in a row with an item."""
    sealed = sealed_runs()
    return [row.source for row in rows if contamination(texts_of(row), sealed)]


def contamination(texts: list[str], sealed: frozenset[tuple[str, ...]]) -> list[str]:
    """Texts that share eight words in a row with a sealed item."""
    return [text for text in texts if _runs([text]) & sealed]
