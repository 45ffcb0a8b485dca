"""Text from a model behind HTTP: any OpenAI-compatible server (vLLM, llama.cpp, Ollama, OpenRouter), or Anthropic.

Every answer is checked before it counts: a reply that is cut in half, empty, or no JSON is asked for again, like a
request that was refused, reset or never answered. Answers are stored as they come, keyed by everything that decides
them, so a killed process asks nothing twice. The key is read from the environment when a request is sent, and is
written nowhere.
"""

import asyncio
import functools
import json
import os
import random
from collections.abc import Sequence
from typing import Any, Literal

import httpx2
from pydantic import Field, ValidationError

from ethos import __version__
from ethos.errors import UserError
from ethos.progress import Meter, meter
from ethos.records import Record, Text, explain
from ethos.samplers.replies import Reply, ReplyCache, Request
from ethos.samplers.thinking import Thinking, with_thoughts

LONGEST_WAIT = 60.0
"""Seconds between two attempts, at most; a server that asks for more patience gets this much."""


parsed = functools.cache(httpx2.URL)
"""An address, taken to pieces once rather than for every request."""


class Teacher(Record):
    """A model behind HTTP."""

    interface: Literal["openai", "anthropic"] = "openai"
    url: str = Field(pattern=r"^https?://")
    """Up to the version, e.g. http://localhost:8000/v1 or https://api.anthropic.com/v1."""
    model: Text
    key_variable: str | None = Field(None, pattern=r"^[A-Z][A-Z0-9_]*$")
    """The environment variable that holds the API key, never the key itself."""
    thinking: Thinking = "strip"
    """What becomes of the thoughts before a reply."""
    thought_tokens: int = Field(0, ge=0, exclude_if=lambda tokens: not tokens)
    """Room for them in every request, beside that for the reply."""
    concurrency: int = Field(16, gt=0)
    timeout: float = Field(120.0, gt=0)
    """Seconds until a request counts as lost."""
    attempts: int = Field(8, gt=0)
    """Times a request is sent before the run gives up; what was answered stays stored."""

    def fingerprint(self) -> str:
        """What decides a reply beside the request: not how patiently it was asked for, nor what requests say."""
        others = {"concurrency": 1, "timeout": 1.0, "attempts": 1, "key_variable": None, "thought_tokens": 0}
        return self.model_copy(update=others).digest()


class TeacherError(UserError):
    """A teacher that cannot be reached, or refuses."""


class _Faulty(Exception):
    """An attempt that may succeed when repeated, after so many seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Said(Record, extra="ignore"):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Some(Record):
    text: Text


class _Choice(Record, extra="ignore"):
    message: _Said
    finish_reason: Literal["stop", "length"]


class _Usage(Record, extra="ignore"):
    prompt_tokens: int | None = None
    completion_tokens: int = 0
    input_tokens: int | None = None
    output_tokens: int = 0


class _OpenAI(Record, extra="ignore"):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class _Block(Record, extra="ignore"):
    type: str
    text: str = ""
    thinking: str = ""


class _Anthropic(Record, extra="ignore"):
    content: list[_Block] = Field(min_length=1)
    stop_reason: Literal["end_turn", "stop_sequence", "max_tokens"]
    usage: _Usage | None = None


def ask(teacher: Teacher, requests: Sequence[Request], cache: ReplyCache, *, label: str) -> list[Reply]:
    """One reply a request, in order; those already stored are not asked again.

    Raises TeacherError when the server refuses for good, or when a request fails `attempts` times.
    """
    name = teacher.fingerprint()
    keys = [cache.key(name, request) for request in requests]
    replies = {key: found for key in dict.fromkeys(keys) if (found := cache.get(key))}
    todo = {key: request for key, request in zip(keys, requests, strict=True) if key not in replies}
    if todo:
        with meter(label, len(todo)) as progress:
            try:
                replies |= asyncio.run(_all(teacher, todo, cache, progress))
            except BaseExceptionGroup as group:
                refused = group.subgroup(TeacherError)
                raise (refused.exceptions[0] if refused else group) from None
    return [replies[key] for key in keys]


async def _all(teacher: Teacher, todo: dict[str, Request], cache: ReplyCache, progress: Meter) -> dict[str, Reply]:
    """Ask for everything, `concurrency` at a time; store each reply as it comes.

    Each worker has a connection of its own: a pool of many is searched from end to end for every request.
    """
    waiting, replies = iter(todo.items()), dict[str, Reply]()
    trusted, one = httpx2.create_ssl_context(), httpx2.Limits(max_connections=1)

    async def worker() -> None:
        async with httpx2.AsyncClient(timeout=None, limits=one, verify=trusted) as client:
            for key, request in waiting:
                replies[key] = reply = await _patiently(teacher, request, client)
                cache.put({key: reply})
                progress.advance(tokens=reply.num_tokens)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(teacher.concurrency, len(todo))):
            group.create_task(worker())
    return replies


async def _patiently(teacher: Teacher, request: Request, client: httpx2.AsyncClient) -> Reply:
    """Ask until there is a sound reply, waiting longer each time or as long as the server says."""
    for attempt in range(teacher.attempts):
        try:
            return await _once(teacher, request, client)
        except _Faulty as fault:
            reason = str(fault)
            wait = fault.wait if fault.wait is not None else random.uniform(0.5, 1) * 0.5 * 2**attempt
        if attempt + 1 < teacher.attempts:
            await asyncio.sleep(min(wait, LONGEST_WAIT))
    raise TeacherError(
        f"{teacher.url}: a request failed {teacher.attempts} times, at last: {reason}",
        hint="run the same command again: what was answered is stored; or raise attempts or timeout",
    )


async def _once(teacher: Teacher, request: Request, client: httpx2.AsyncClient) -> Reply:
    """One attempt."""
    path, headers, body = _posted(teacher, request)
    url = parsed(f"{teacher.url.rstrip('/')}/{path}")
    posted = httpx2.Request("POST", url, headers={"user-agent": f"ethos/{__version__}", **headers}, json=body)
    try:
        async with asyncio.timeout(teacher.timeout):  # for the whole of it: a server may also send a byte at a time
            response = await client.send(posted)
        text = response.content.decode()
    except (httpx2.TransportError, httpx2.DecodingError, TimeoutError) as error:
        raise _Faulty(f"{type(error).__name__} {error}".strip()) from error
    except UnicodeDecodeError as error:
        raise _Faulty("a reply that is not UTF-8") from error
    if response.status_code == 429 or response.status_code >= 500 or response.status_code == 408:
        raise _Faulty(f"HTTP {response.status_code}", _patience(response.headers.get("retry-after")))
    if response.status_code != 200:
        raise TeacherError(
            f"{teacher.url} refused the request: HTTP {response.status_code}: {_hidden(teacher, text)[:300]}",
            hint="check url, model and key_variable",
        )
    try:
        return _read(teacher, json.loads(text))
    except json.JSONDecodeError as error:
        raise _Faulty("a reply that is not JSON") from error
    except ValidationError as error:
        raise _Faulty(f"a reply without text: {explain(error)}") from error


def _posted(teacher: Teacher, request: Request) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Path, headers and body of a request."""
    key = os.environ.get(teacher.key_variable or "", "")
    if teacher.key_variable and not key:
        raise TeacherError(
            f"the environment has no {teacher.key_variable}", hint=f"export {teacher.key_variable}=... and run again"
        )
    if teacher.interface == "openai":
        return (
            "chat/completions",
            {"authorization": f"Bearer {key}"} if key else {},
            openai_body(teacher.model, request),
        )
    headers = {"anthropic-version": "2023-06-01"} | ({"x-api-key": key} if key else {})
    return "messages", headers, _anthropic_body(teacher.model, request)


def openai_body(model: str, request: Request) -> dict[str, Any]:
    """A request as /v1/chat/completions takes it."""
    return {
        "model": model,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "messages": [message.model_dump() for message in request.messages],
        "seed": request.seed,
    }


def _anthropic_body(model: str, request: Request) -> dict[str, Any]:
    """A request as /v1/messages takes it: system prompts apart, no seed."""
    system = "\n\n".join(message.content for message in request.messages if message.role == "system")
    return {
        "model": model,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "messages": [message.model_dump() for message in request.messages if message.role != "system"],
    } | ({"system": system} if system else {})


def _read(teacher: Teacher, answer: Any) -> Reply:
    """A checked answer as a reply. Raises ValidationError where there is no text in it."""
    if teacher.interface == "openai":
        return openai_reply(answer, teacher.thinking)
    told = _Anthropic.model_validate(answer)
    text, usage = "".join(block.text for block in told.content if block.type == "text"), told.usage or _Usage()
    thought = "".join(block.thinking for block in told.content if block.type == "thinking")
    reply = Reply(
        text=text,
        num_tokens=usage.output_tokens,
        finish="length" if told.stop_reason == "max_tokens" else "stop",
        num_prompt_tokens=usage.input_tokens,
    )
    return _said(reply, thought, teacher.thinking)


def openai_reply(answer: Any, thinking: Thinking) -> Reply:
    """The body that /v1/chat/completions answered with as a reply. Raises ValidationError where there is no text."""
    told = _OpenAI.model_validate(answer)
    choice, usage = told.choices[0], told.usage or _Usage()
    message = choice.message
    reply = Reply(
        text=message.content or "",
        num_tokens=usage.completion_tokens,
        finish=choice.finish_reason,
        num_prompt_tokens=usage.prompt_tokens,
    )
    return _said(reply, message.reasoning_content or message.reasoning or "", thinking)


def _said(reply: Reply, thought: str, thinking: Thinking) -> Reply:
    """A reply with its thoughts kept or gone; `thought` is what a server set apart. No text is a ValidationError.

    What was cut off while it thought is a thought without an end.
    """
    if thought and not reply.text.strip() and reply.finish == "length":
        return reply.model_copy(update={"text": f"<think>\n{thought}", "thought": True})
    parted_reply = with_thoughts(reply, thinking, apart=thought)
    _Some(text=parted_reply.text)
    return parted_reply


def _patience(header: str | None) -> float | None:
    """Seconds of a Retry-After header; a date, or nonsense, says nothing."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None


def _hidden(teacher: Teacher, text: str) -> str:
    """A server's words without the key it may have quoted."""
    key = os.environ.get(teacher.key_variable or "", "")
    return text.replace(key, "[key]") if key else text
