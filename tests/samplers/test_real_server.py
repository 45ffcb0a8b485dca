"""The happy path against a server that others wrote: `transformers serve`, where it is installed (a minute: slow).

pip install "transformers[serving]"; pytest -m slow tests/samplers/test_real_server.py
"""

import json
import os
import shutil
import socket
import string
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from transformers.utils.import_utils import is_serve_available

from conftest import byte_tokenizer
from ethos.models import load_tokenizer_chat
from ethos.records import Message, user
from ethos.samplers.api import Teacher, TeacherError, ask
from ethos.samplers.replies import ReplyCache, Request

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_serve_available(), reason='needs pip install "transformers[serving]"'),
]
SECONDS_TO_START = 300
STOP = 2
"""Token of <|im_end|>."""


@pytest.fixture(scope="module")
def babbler(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, held to letters and its stop token: every reply is a word that a test can read."""
    folder = tmp_path_factory.mktemp("babbler") / "model"
    shutil.copytree(tiny_base, folder)
    path = folder / "generation_config.json"
    letters = set(byte_tokenizer().convert_tokens_to_ids(list(string.ascii_letters)))
    silent = [token for token in range(259) if token not in letters | {STOP}]
    settings = json.loads(path.read_text()) | {"do_sample": True}  # without it the server takes the likeliest token
    settings |= {"suppress_tokens": silent, "begin_suppress_tokens": [STOP]}
    path.write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def url(babbler: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where it is served."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(babbler)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = tmp_path_factory.mktemp("log") / "served.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()
            process.wait()


def _wait(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    began = time.monotonic()
    while time.monotonic() - began < SECONDS_TO_START:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"not up after {SECONDS_TO_START} seconds: {log.read_text()}")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ReplyCache]:
    with closing(ReplyCache(tmp_path / "replies.sqlite")) as opened:
        yield opened


def test_replies_are_read_as_the_server_means_them(babbler: Path, url: str, cache: ReplyCache) -> None:
    teacher, chat = Teacher(url=url, model=str(babbler), concurrency=4), load_tokenizer_chat(babbler)
    system = Message(role="system", content="Be brief.")
    requests = [
        Request(messages=[system, user(f"Question {i}?")], max_tokens=limit, temperature=1.0, seed=i)
        for i, limit in enumerate((2, 200) * 6)
    ]
    replies = ask(teacher, requests, cache, label="teacher")
    for request, reply in zip(requests, replies, strict=True):
        assert set(reply.text) <= set(string.ascii_letters)
        assert reply.num_prompt_tokens == len(chat.prompt(request.messages))  # it saw what we would have shown
        assert len(reply.text) <= reply.num_tokens <= request.max_tokens
        assert (reply.finish == "length") == (reply.num_tokens == request.max_tokens)  # it counts the stop token
    assert {reply.finish for reply in replies} == {"stop", "length"}
    assert len({reply.text for reply in replies}) > 6
    assert ask(teacher, requests, cache, label="again") == replies


def test_a_request_that_it_refuses_is_told_at_once(url: str, cache: ReplyCache) -> None:
    began = time.monotonic()
    with pytest.raises(TeacherError, match=r"refused the request: HTTP 4\d\d"):
        ask(Teacher(url=f"{url}/nowhere", model="m"), [Request(messages=[user("Hi")])], cache, label="teacher")
    assert time.monotonic() - began < 10
