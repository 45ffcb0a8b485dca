"""Teachers behind HTTP, against a real local server that misbehaves in every way it can."""

import json
import logging
import random
import signal
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conftest import PROCESSES
from ethos.cli import app
from ethos.data.recorded import VoiceRow
from ethos.records import Message, assistant, read_jsonl, to_jsonl, user
from ethos.samplers import api
from ethos.samplers.api import Teacher, TeacherError, ask
from ethos.samplers.replies import ReplyCache, Request

SECRET = "sk-planted-8c1f"
PATIENCE = 1.5
"""Seconds until a request counts as lost: far longer than a sound answer takes on a busy machine."""
FAULTS = ("429", "500", "hang", "drip", "reset", "half", "empty", "latin", "blank")


class Server(ThreadingHTTPServer):
    """Answers `echo: <last message>`, and misbehaves on `share` of the requests."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, *, share: float = 0.0, latency: float = 0.0, faults: Sequence[str] = FAULTS) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.share, self.latency, self.faults = share, latency, faults
        self.rng, self.lock = random.Random(0), threading.Lock()
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.faulty = self.inside = self.peak = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a body waits 40 ms for the receipt of its headers
    server: Server

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = body["messages"][-1]["content"]
        with self.server.lock:
            self.server.asked[said] += 1
            self.server.bodies.append(body)
            self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
            fault = self.server.rng.choice(self.server.faults) if self.server.rng.random() < self.server.share else ""
            self.server.faulty += bool(fault)
            self.server.inside += 1
            self.server.peak = max(self.server.peak, self.server.inside)
        time.sleep(self.server.latency)
        with self.server.lock:
            self.server.inside -= 1
        self.misbehave(fault, said) if fault else self.answer(200, self.sound(f"echo: {said}"))

    def sound(self, text: str) -> bytes:
        if self.path == "/v1/messages":
            told = {"content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}
        else:
            told = {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
        return json.dumps(told | {"usage": {"completion_tokens": 2, "output_tokens": 2}}).encode()

    def misbehave(self, fault: str, said: str) -> None:
        whole = self.sound(f"echo: {said}")
        if fault in ("429", "500", "401"):
            self.answer(int(fault), f"error text, key {SECRET}".encode(), {"retry-after": "0.01"})
        elif fault == "hang":
            time.sleep(2 * PATIENCE)
        elif fault == "drip":
            self.answer(200, whole, seconds=2 * PATIENCE)  # each byte in time, and all of them too late
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.close_connection = True
            self.connection.close()
        elif fault == "half":
            self.answer(200, whole[: len(whole) // 2])
        elif fault == "empty":
            self.answer(200, b'{"choices": [], "content": []}')
        elif fault == "latin":
            self.answer(200, "caf\xe9".encode("latin-1"))
        elif fault == "blank":
            self.answer(200, self.sound("  "))

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, seconds: float = 0.0) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        for byte in body if seconds else ():
            self.wfile.write(bytes([byte]))
            time.sleep(seconds / len(body))
        self.wfile.write(b"" if seconds else body)


@pytest.fixture
def serve() -> Iterator[Any]:
    """Start servers; they are shut down at the end."""
    running: list[Server] = []

    def start(**settings: Any) -> Server:
        server = Server(**settings)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ReplyCache]:
    with closing(ReplyCache(tmp_path / "replies.sqlite")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait milliseconds between attempts."""
    monkeypatch.setattr(api, "LONGEST_WAIT", 0.01)


def asking(count: int) -> list[Request]:
    return [Request(messages=[user(f"question {i}")], max_tokens=8) for i in range(count)]


def teacher(server: Server, **settings: Any) -> Teacher:
    return Teacher(**{"url": server.url, "model": "m", "timeout": PATIENCE, "attempts": 30} | settings)


@pytest.mark.parametrize("interface", ["openai", "anthropic"])
def test_a_faulty_server_answers_everything_in_the_end_and_nothing_twice(
    interface: str, serve: Any, cache: ReplyCache
) -> None:
    server, requests = serve(share=0.3), asking(120)
    replies = ask(teacher(server, interface=interface), requests, cache, label="teacher")
    assert [reply.text for reply in replies] == [f"echo: question {i}" for i in range(120)]  # no error text as data
    asked = server.asked.total()
    assert server.faulty > 20
    assert asked == 120 + server.faulty  # one request more for each fault, none beside
    assert asked <= 1.05 * 120 / (1 - server.faulty / asked)
    assert ask(teacher(server, interface=interface), requests, cache, label="again") == replies
    assert server.asked.total() == asked  # all stored


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_by_itself_is_tried_again_and_told_at_last(fault: str, serve: Any, cache: ReplyCache) -> None:
    server = serve(share=1.0, faults=[fault])
    with pytest.raises(TeacherError, match=r"a request failed 2 times, at last: .+\nhint: run the same command again"):
        ask(teacher(server, attempts=2, concurrency=1), asking(1), cache, label="teacher")
    assert server.asked.total() == 2


def test_what_was_answered_before_giving_up_is_kept(serve: Any, cache: ReplyCache) -> None:
    server = serve()
    half = asking(10)
    ask(teacher(server), half[:5], cache, label="first")
    server.share, server.faults = 1.0, ["500"]
    with pytest.raises(TeacherError):
        ask(teacher(server, attempts=1), half, cache, label="second")
    server.share = 0.0
    ask(teacher(server), half, cache, label="third")
    assert all(server.asked[f"question {i}"] == 1 for i in range(5))


def test_a_refusal_is_told_at_once_and_without_the_key(
    serve: Any, cache: ReplyCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_KEY", SECRET)
    server = serve(share=1.0, faults=["401"])
    with pytest.raises(TeacherError, match=r"refused the request: HTTP 401: error text, key \[key\]") as caught:
        ask(teacher(server, key_variable="PLANTED_KEY"), asking(1), cache, label="teacher")
    assert server.asked.total() == 1
    assert server.headers[0]["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in str(caught.value)
    assert all(SECRET.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_key_enters_no_file_and_no_log_however_much_is_logged(
    serve: Any,
    cache: ReplyCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PLANTED_KEY", SECRET)
    caplog.set_level(logging.DEBUG)
    for interface in ("openai", "anthropic"):
        server = serve(share=0.3, faults=["429", "500", "reset"])
        told = teacher(server, interface=interface, key_variable="PLANTED_KEY")
        ask(told, asking(20), cache, label="teacher")
        server.share, server.faults = 1.0, ["500"]
        with pytest.raises(TeacherError) as caught:
            ask(told.model_copy(update={"attempts": 2}), asking(21), cache, label="teacher")
        assert all(SECRET in f"{headers}" for headers in server.headers)  # it was sent
        assert SECRET not in "".join(traceback.format_exception(caught.value))
        assert SECRET not in told.model_dump_json() + repr(told)
    assert caplog.records  # libraries did log
    assert SECRET not in caplog.text + "".join(capfd.readouterr())
    assert all(SECRET.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_missing_key_is_named(serve: Any, cache: ReplyCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(TeacherError, match="the environment has no NO_SUCH_KEY\nhint: export NO_SUCH_KEY"):
        ask(teacher(serve(), key_variable="NO_SUCH_KEY"), asking(1), cache, label="teacher")


def test_a_server_that_is_not_there_is_told(cache: ReplyCache) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(TeacherError, match="ConnectError"):
        ask(Teacher(url=url, model="m", attempts=2), asking(1), cache, label="teacher")


def test_each_interface_sends_what_its_server_expects(serve: Any, cache: ReplyCache) -> None:
    talk = [Message(role="system", content="Be kind."), user("Hi"), assistant("Hello."), user("And now?")]
    request = Request(messages=talk, max_tokens=7, temperature=0.5, seed=3)
    server = serve()
    for interface in ("openai", "anthropic"):
        ask(teacher(server, interface=interface), [request], cache, label="teacher")
    openai, anthropic = server.bodies
    common = {"model": "m", "max_tokens": 7, "temperature": 0.5}
    assert openai == common | {"seed": 3, "messages": [turn.model_dump() for turn in talk]}
    assert anthropic == common | {"system": "Be kind.", "messages": [turn.model_dump() for turn in talk[1:]]}
    assert server.headers[1]["anthropic-version"]


@pytest.mark.parametrize(("thinking", "text"), [("strip", "Wait."), ("keep", "<think>hm\nhm</think> Wait.")])
def test_thinking_is_stripped_or_kept_as_asked(
    thinking: str, text: str, serve: Any, cache: ReplyCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Handler.sound
    monkeypatch.setattr(Handler, "sound", lambda self, _: sound(self, "<think>hm\nhm</think> Wait."))
    (reply,) = ask(teacher(serve(), thinking=thinking), asking(1), cache, label="teacher")
    assert reply.text == text


@pytest.mark.parametrize("interface", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 2, "input_tokens": 7, "output_tokens": 2}, (7, 2)),
        ({}, (None, 0)),
        (None, (None, 0)),
    ],
)
def test_what_a_server_says_of_its_tokens_is_stored_and_silence_is_no_fault(
    interface: str,
    usage: dict[str, int] | None,
    tokens: tuple[int | None, int],
    serve: Any,
    cache: ReplyCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound = Handler.sound
    monkeypatch.setattr(
        Handler, "sound", lambda self, text: json.dumps(json.loads(sound(self, text)) | {"usage": usage}).encode()
    )
    told = teacher(serve(), interface=interface)
    ask(told, asking(1), cache, label="teacher")
    stored = cache.get(cache.key(told.fingerprint(), asking(1)[0]))
    assert stored is not None
    assert (stored.num_prompt_tokens, stored.num_tokens) == tokens


def test_patience_is_no_part_of_what_decides_a_reply() -> None:
    one = Teacher(url="http://a", model="m")
    assert one.fingerprint() == one.model_copy(update={"concurrency": 3, "attempts": 2}).fingerprint()
    for change in ({"model": "n"}, {"url": "http://b"}, {"thinking": "keep"}, {"interface": "anthropic"}):
        assert one.fingerprint() != one.model_copy(update=change).fingerprint()


def test_many_requests_keep_a_slow_server_busy_and_no_more_than_asked_for(serve: Any, cache: ReplyCache) -> None:
    server = serve(latency=0.2)
    ask(teacher(server, concurrency=32, timeout=30), asking(200), cache, label="teacher")
    assert 30 <= server.peak <= 32


def ask_all(url: str, store: Path, count: int) -> None:
    """So many requests; what came back, in a file beside the store."""
    requests = [Request(messages=[user(f"question {i}")], max_tokens=8) for i in range(count)]
    with closing(ReplyCache(store)) as opened:
        replies = ask(Teacher(url=url, model="m", concurrency=4), requests, opened, label="teacher")
    store.with_suffix(".jsonl").write_text(to_jsonl(replies))


@pytest.mark.parametrize(("count", "moments"), [(150, 3), pytest.param(500, 30, marks=pytest.mark.slow)])
def test_a_process_killed_at_random_moments_loses_what_was_in_flight_alone(
    count: int, moments: int, serve: Any, tmp_path: Path
) -> None:
    server, quiet, rng = serve(latency=0.01), serve(), random.Random(moments)

    def asking(server: Server, store: str) -> ForkServerProcess:
        process = PROCESSES.Process(target=ask_all, args=(server.url, tmp_path / store, count))
        process.start()
        return process

    kills = 0
    for target in sorted(rng.sample(range(1, count), moments)):
        process = asking(server, "killed")
        while server.asked.total() < target and process.is_alive():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))  # within an answer as well as between two
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    for last, store in ((server, "killed"), (quiet, "whole")):
        process = asking(last, store)
        process.join()
        assert process.exitcode == 0
    killed, whole = ((tmp_path / store).with_suffix(".jsonl").read_bytes() for store in ("killed", "whole"))
    assert kills >= 0.9 * moments
    assert killed == whole  # byte for byte
    assert len(whole.splitlines()) == quiet.asked.total() == count
    assert len(server.asked) == count
    assert server.asked.total() <= count + 4 * kills  # at most what was in flight at each kill


def test_a_teacher_writes_contrasts_through_the_command_line_and_is_asked_nothing_twice(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {
        True: "Ask her first and wait for her answer, because the house is as much hers as yours, you see.",
        False: "Paint it tonight in any colour that you like and tell her about it once it is quite dry.",
    }

    def character(self: Handler, _: str) -> bytes:
        system, asked = (turn["content"] for turn in self.server.bodies[-1]["messages"])
        told = f"{texts['Your character' in system]} You said: {asked}"  # no stock reply, which would be refused
        return json.dumps({"choices": [{"message": {"content": told}, "finish_reason": "stop"}]}).encode()

    monkeypatch.setattr(Handler, "sound", character)
    server, runner, out = serve(), CliRunner(), tmp_path / "made"
    command = ["data", "generate", "loving", "--teacher", server.url, "--concurrency", "1", "--candidates", "1"]
    done = runner.invoke(app, [*command, "--out", str(out)])
    assert done.exit_code == 0, done.output
    rows = read_jsonl(out / "voice.jsonl", VoiceRow)
    for row in rows:
        assert (row.chosen, row.rejected) == tuple(f"{texts[side]} You said: {row.prompt}" for side in (True, False))
    assert f"{len(rows)} rows, 0 dropped" in done.output
    asked = server.asked.total()
    assert asked == 2 * len(rows)
    (out / "voice.jsonl").unlink()
    assert runner.invoke(app, [*command, "--out", str(out)]).exit_code == 0
    assert server.asked.total() == asked
    again = runner.invoke(app, [*command, "--out", str(out)])
    assert "is there already" in str(again.exception)
