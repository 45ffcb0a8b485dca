"""Requests that go out as files and come back as files: OpenAI's Batch format.

`vllm run-batch` and OpenAI's batch API read the one and write the other. A line's `custom_id` is the request's key in
the reply store, so an answer cannot land beside another request. Every line that comes back is checked before it
counts; whatever is wrong with one is counted by its reason and is never data.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from ethos.errors import DataError
from ethos.records import Record, Text, to_jsonl
from ethos.samplers.api import openai_reply
from ethos.samplers.replies import Reply, ReplyCache
from ethos.samplers.thinking import Thinking
from ethos.store import write_text

MOST_LINES = 50_000
"""What OpenAI takes in one file; vLLM knows no limit."""
STORED_AT_ONCE = 500
"""Replies to a transaction: what a kill while merging can cost."""


class BatchRequest(Record):
    """A line that goes out."""

    custom_id: str
    method: Literal["POST"] = "POST"
    url: Literal["/v1/chat/completions"] = "/v1/chat/completions"
    body: dict[str, Any]


class BatchResponse(Record, extra="ignore"):
    """What the server said to one line."""

    status_code: int
    body: Any = None


class BatchResult(Record, extra="ignore"):
    """A line that comes back."""

    custom_id: Text
    response: BatchResponse | None = None
    error: Any = None


class Merged(NamedTuple):
    """Replies stored, and the lines that were not, by reason."""

    stored: int
    refused: Counter[str]


def write_shards(folder: Path, name: str, requests: Sequence[BatchRequest], shards: int) -> list[Path]:
    """`<name>-<i>-of-<n>.jsonl` in `folder`, alike in size, each written whole; those of an earlier round go.

    Fewer files where there are fewer requests than shards.
    """
    shards = min(shards, len(requests))
    for stale in [*folder.glob(f"{name}-*-of-*.jsonl"), *folder.glob(f".{name}-*")]:  # and what a kill cut short
        stale.unlink()
    paths = []
    for number, (start, end) in enumerate(pairwise(round(i * len(requests) / shards) for i in range(shards + 1)), 1):
        paths.append(folder / f"{name}-{number}-of-{shards}.jsonl")
        write_text(paths[-1], to_jsonl(requests[start:end]))
    return paths


def merge(paths: Sequence[Path], cache: ReplyCache) -> Merged:
    """Store the sound replies of result files, one for each request that went out.

    The first sound line of a request counts. Raises DataError when a file cannot be read.
    """
    expected, seen = cache.handed_out(), set[str]()
    refused, waiting, stored = Counter[str](), dict[str, Reply](), 0
    for line in (line for path in paths for line in _lines(path)):
        result = _result(line)
        if isinstance(result, str):
            refused[result] += 1
        elif reason := _unwanted(result.custom_id, expected, seen, cache):
            refused[reason] += 1
        elif isinstance(reply := _reply(result, expected), str):
            refused[reply] += 1
        else:
            seen.add(result.custom_id)
            waiting[result.custom_id], stored = reply, stored + 1
            if len(waiting) == STORED_AT_ONCE:
                cache.put(waiting)
                waiting = {}
    cache.put(waiting)
    return Merged(stored, refused)


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that hold something."""
    try:
        with path.open("rb") as file:
            yield from (line for line in file if line.strip())
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror})", hint="give the files that the batch server wrote"
        ) from error


def _result(line: bytes) -> BatchResult | str:
    """A line as a record, or why it is none."""
    try:
        return BatchResult.model_validate_json(line)
    except ValidationError as error:
        broken = any(fault["type"] == "json_invalid" for fault in error.errors())
        return "not JSON, or cut short" if broken else "not a line of a result file"


def _unwanted(name: str, expected: Mapping[str, str], seen: set[str], cache: ReplyCache) -> str | None:
    """Why a line's reply is not asked for."""
    if name not in expected:
        return "an id that no shard of this folder has"
    if name in seen:
        return "a second answer to the same request"
    return "stored before" if cache.get(name) else None


def _reply(result: BatchResult, expected: Mapping[str, str]) -> Reply | str:
    """The reply of a line, or why it has none. What a server says of its failure is left out: it may quote anything."""
    response = result.response
    if response is not None and response.status_code != 200:
        return f"failed with HTTP {response.status_code}"
    if result.error or response is None:
        return "failed without a response"
    thinking: Thinking = "keep" if expected[result.custom_id] == "keep" else "strip"
    try:
        return openai_reply(response.body, thinking)
    except ValidationError:
        return "a response without text, or one that did not end by itself or at its limit"
