"""How fast requests go out and stored replies come back, whatever else this machine is doing meanwhile.

A server's busy share is measured on a clock that runs while this process computes, jumps over the time in which it
would wait, and stands still while other processes have the processor: what a processor of its own would show. Client
and server share it here, which is harder than a server elsewhere. Waiting for the disk is not on that clock; the store
is built not to wait.
"""

import asyncio
import json
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ethos.progress import Meter
from ethos.records import user
from ethos.samplers import api
from ethos.samplers.api import Teacher
from ethos.samplers.replies import ReplyCache, Request

CONCURRENCY, LATENCY = 64, 0.2


class Clock(selectors.DefaultSelector):
    """A selector that never waits: time in which nothing is ready is skipped.

    What the server is to read comes first, and the client's events one by one: a server elsewhere does not wait until
    a client is through with all that it has to read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.skipped, self.servers = 0.0, set[int]()

    def time(self) -> float:
        return time.process_time() + self.skipped

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.skipped += timeout
        return [event for event in ready if event[0].fd in self.servers] or ready[:1]


class Loop(asyncio.SelectorEventLoop):
    """An event loop on such a clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.time()


class Server(asyncio.Protocol):
    """One connection to a server that answers everything after `LATENCY`; `log` has each arrival and answer."""

    TOLD = json.dumps(
        {"choices": [{"message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}]}
    ).encode()

    def __init__(self, log: list[tuple[float, int]]) -> None:
        self.log, self.loop, self.read = log, asyncio.get_running_loop(), b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        assert isinstance(self.loop, Loop)
        self.transport = transport
        self.loop.clock.servers.add(transport.get_extra_info("socket").fileno())

    def data_received(self, data: bytes) -> None:
        self.read += data
        head, found, body = self.read.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0) if found else 0
        if found and len(body) == length:
            self.read = b""
            self.log.append((self.loop.time(), 1))
            self.loop.call_later(LATENCY, self.answer)

    def answer(self) -> None:
        self.log.append((self.loop.time(), -1))
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(self.TOLD), self.TOLD))


async def asked(count: int, cache: ReplyCache) -> list[tuple[float, int]]:
    """Ask for so many replies; the server's log."""
    log = list[tuple[float, int]]()
    server = await asyncio.get_running_loop().create_server(lambda: Server(log), "127.0.0.1", 0, backlog=256)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    teacher = Teacher(url=url, model="m", concurrency=CONCURRENCY, timeout=60)
    todo = {str(i): Request(messages=[user(f"question {i}")], max_tokens=8) for i in range(count)}
    replies = await api._all(teacher, todo, cache, Meter("teacher", count, 0, None, shown=False))
    assert len(replies) == count
    server.close()
    return log


def busy(log: list[tuple[float, int]]) -> float:
    """Share of `CONCURRENCY` places that were taken, from when all were until the last request came."""
    inside, taken, began, before = 0, 0.0, None, 0.0
    last = max(place for place, (_, step) in enumerate(log) if step == 1)
    for when, step in log[: last + 1]:
        if began is not None:
            taken += inside * (when - before)
        inside, before = inside + step, when
        began = when if began is None and inside == CONCURRENCY else began
    assert began is not None
    return taken / (before - began) / CONCURRENCY


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ReplyCache]:
    with closing(ReplyCache(tmp_path / "replies.sqlite")) as opened:
        yield opened


def test_the_share_by_hand() -> None:
    steps = [(0.0, 1)] * CONCURRENCY + [(1.0, -1)] * (CONCURRENCY // 2) + [(3.0, 1)]
    assert busy(steps) == (1.0 + 2 * 0.5) / 3


def test_many_requests_at_a_time_keep_a_server_busy(cache: ReplyCache) -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        log = runner.run(asked(10 * CONCURRENCY, cache))
    assert busy(log) >= 0.9


def test_a_reply_is_stored_without_waiting_for_the_disk(cache: ReplyCache) -> None:
    """What a killed process wrote is there all the same: tests/samplers/test_api.py kills some."""
    assert cache.database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert cache.database.execute("PRAGMA synchronous").fetchone() == (1,)  # NORMAL


RECORDED = """
import json, sys, time
from contextlib import closing
from pathlib import Path
from ethos.records import user
from ethos.samplers.api import Teacher, ask
from ethos.samplers.replies import Reply, ReplyCache, Request

store, count = Path(sys.argv[1]), int(sys.argv[2])
teacher = Teacher(url="http://127.0.0.1:9/v1", model="m")  # nobody listens there
requests = [Request(messages=[user(f"question {i} " + "word " * 40)], max_tokens=8) for i in range(count)]
with closing(ReplyCache(store)) as cache:
    for start in range(0, count, 1000):
        part = requests[start : start + 1000]
        reply = Reply(text="word " * 60, num_tokens=60, finish="stop")
        cache.put({cache.key(teacher.fingerprint(), request): reply for request in part})
began = time.monotonic()
with closing(ReplyCache(store)) as cache:
    cache.get("none")
    opened = time.monotonic() - began
    began = time.process_time()
    replies = ask(teacher, requests, cache, label="teacher")
    seconds = time.process_time() - began
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = int(status["VmHWM"].split()[0]) / 1024  # of this program alone; what getrusage says began before it did
print(json.dumps({"count": len(replies), "opened": opened, "rate": count / seconds, "peak": peak}))
"""


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_recorded_replies_come_back_fast_from_a_store_that_opens_at_once(count: int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RECORDED, str(tmp_path / "replies.sqlite"), str(count)]
    environment = {"PYTHONPATH": str(Path(api.__file__).parents[2])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["count"] == count
    assert told["opened"] < 1.0  # seconds
    assert told["rate"] >= 5000  # requests a second of this processor
    assert told["peak"] <= 300  # MiB, requests and replies included
