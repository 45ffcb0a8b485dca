"""Requests that go out as files: nothing is mixed up, nothing unsound is stored, and a kill loses nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ethos.errors import DataError
from ethos.records import user
from ethos.samplers.api import openai_body
from ethos.samplers.batch import BatchRequest, merge, write_shards
from ethos.samplers.replies import Reply, ReplyCache, Request
from served import batch_result, batch_results

SOURCE = Path(__file__).parents[2] / "src"
ASKED = [Request(messages=[user(f"question {i}")], max_tokens=8) for i in range(20)]
KEYS = [ReplyCache.key("teacher", request) for request in ASKED]
LINES = [BatchRequest(custom_id=key, body=openai_body("m", request)) for key, request in zip(KEYS, ASKED, strict=True)]


def echo(body: dict[str, Any]) -> str:
    return f"echo: {body['messages'][-1]['content']}"


def sound(place: int, **changes: Any) -> dict[str, Any]:
    """The result of one request, changed at will."""
    return batch_result(LINES[place].model_dump(), echo) | changes


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ReplyCache]:
    """A store from which all the requests went out."""
    with closing(ReplyCache(tmp_path / "replies.sqlite")) as opened:
        opened.hand_out(KEYS, "strip")
        yield opened


def stored(cache: ReplyCache) -> dict[str, Reply]:
    return {key: reply for key in KEYS if (reply := cache.get(key))}


def merged(cache: ReplyCache, folder: Path, *lines: Any) -> tuple[int, Counter[str]]:
    """Merge lines, given as records or as bytes."""
    file = folder / "results.jsonl"
    file.write_bytes(b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return merge([file], cache)


def test_what_went_out_comes_back_to_its_own_request(cache: ReplyCache, tmp_path: Path) -> None:
    results = []
    for path in write_shards(tmp_path, "voice", LINES, 3):
        results.append(path.with_suffix(".out"))
        results[-1].write_text(batch_results(path.read_text(), echo))
    assert merge(results[::-1], cache) == (20, Counter())
    assert {key: reply.text for key, reply in stored(cache).items()} == {
        key: f"echo: question {i}" for i, key in enumerate(KEYS)
    }
    assert {reply.num_prompt_tokens for reply in stored(cache).values()} == {2}


@given(st.integers(1, 40), st.integers(1, 12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shards_hold_every_request_once_and_are_alike_in_size(tmp_path: Path, count: int, shards: int) -> None:
    lines = [LINES[0].model_copy(update={"custom_id": str(i)}) for i in range(count)]
    paths = write_shards(tmp_path, "voice", lines, shards)
    assert set(paths) == set(tmp_path.glob("voice-*"))  # those of the example before are gone
    texts = [path.read_text().splitlines() for path in paths]
    assert [BatchRequest.model_validate_json(line) for lines in texts for line in lines] == lines
    assert max(map(len, texts)) - min(map(len, texts)) <= 1
    assert len(paths) == min(shards, count)


def test_a_line_that_goes_out_is_what_a_batch_server_reads() -> None:
    assert json.loads(LINES[3].model_dump_json()) == {
        "custom_id": KEYS[3],
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "m",
            "max_tokens": 8,
            "temperature": 0.7,
            "seed": 0,
            "messages": [{"role": "user", "content": "question 3"}],
        },
    }


def body(**choice: Any) -> dict[str, Any]:
    """A response with one choice."""
    whole = {"message": {"content": "Yes."}, "finish_reason": "stop"} | choice
    return {"status_code": 200, "body": {"choices": [whole]}}


REFUSED: dict[str, tuple[Any, str]] = {
    "an unknown id": (sound(0, custom_id="f" * 64), "an id that no shard"),
    "no id": ({"response": sound(0)["response"]}, "not a line of a result file"),
    "an empty id": (sound(0, custom_id=""), "not a line of a result file"),
    "a failed status": (sound(0, response={"status_code": 500, "body": {}}), "failed with HTTP 500"),
    "a refused request": (sound(0, response={"status_code": 400, "body": None}, error={"message": "no"}), "HTTP 400"),
    "an error beside a reply": (sound(0, error={"code": "batch_expired"}), "failed without a response"),
    "no response": (sound(0, response=None), "failed without a response"),
    "an empty reply": (sound(0, response=body(message={"content": " "})), "a response without text"),
    "no text": (sound(0, response=body(message={"content": None})), "a response without text"),
    "a thought alone": (sound(0, response=body(message={"content": "<think>hm</think>"})), "a response without text"),
    "a filtered reply": (sound(0, response=body(finish_reason="content_filter")), "a response without text"),
    "no choice": (sound(0, response={"status_code": 200, "body": {"choices": []}}), "a response without text"),
    "error text": (sound(0, response={"status_code": 200, "body": "Bad gateway"}), "a response without text"),
    "half a line": (json.dumps(sound(0)).encode()[:150], "not JSON, or cut short"),
    "another encoding": ('{"custom_id": "caf\xe9"}'.encode("latin-1"), "not JSON, or cut short"),
    "a list": ([sound(0)], "not a line of a result file"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_an_unsound_line_is_counted_with_its_reason_and_nothing_is_stored(
    fault: str, cache: ReplyCache, tmp_path: Path
) -> None:
    line, reason = REFUSED[fault]
    count, refused = merged(cache, tmp_path, line, sound(1))
    assert count == 1
    assert [reason in told for told in refused.elements()] == [True]
    assert list(stored(cache)) == [KEYS[1]]


def test_the_first_sound_answer_counts_and_later_ones_are_told_apart(cache: ReplyCache, tmp_path: Path) -> None:
    failed, other = sound(0, response={"status_code": 429}), sound(0, response=body())
    assert merged(cache, tmp_path, failed, sound(0), other)[1] == Counter(
        {"failed with HTTP 429": 1, "a second answer to the same request": 1}
    )
    assert merged(cache, tmp_path, other) == (0, Counter({"stored before": 1}))
    assert stored(cache)[KEYS[0]].text == "echo: question 0"


def test_thoughts_are_kept_where_they_were_asked_for(cache: ReplyCache, tmp_path: Path) -> None:
    cache.hand_out(KEYS[:1], "keep")
    thinking = body(message={"content": "<think>hm</think> Yes."})
    merged(cache, tmp_path, sound(0, response=thinking), sound(1, response=thinking))
    assert [stored(cache)[key].text for key in KEYS[:2]] == ["<think>hm</think> Yes.", "Yes."]


def test_a_missing_result_file_is_named(cache: ReplyCache, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.jsonl: cannot be read"):
        merge([tmp_path / "absent.jsonl"], cache)


@given(st.lists(st.binary(max_size=80), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_at_all_are_taken_for_a_reply(cache: ReplyCache, tmp_path: Path, lines: list[bytes]) -> None:
    count, refused = merged(cache, tmp_path, *lines)
    assert (count, stored(cache)) == (0, {})
    assert refused.total() == sum(bool(line.strip()) for line in b"\n".join(lines).split(b"\n"))


ANYTHING = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.none(), max_size=1)
ENDINGS = st.sampled_from(["stop", "length", "tool_calls", None])


@given(st.text(max_size=5) | ANYTHING, ENDINGS, st.sampled_from([200, 500]), st.none() | ANYTHING)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_response_is_stored_just_where_it_has_text_and_a_sound_end(
    cache: ReplyCache, tmp_path: Path, said: Any, ending: Any, status: int, usage: Any
) -> None:
    cache.database.execute("DELETE FROM replies")
    told = {"choices": [{"message": {"content": said}, "finish_reason": ending}], "usage": usage}
    count, refused = merged(cache, tmp_path, sound(0, response={"status_code": status, "body": told}))
    is_sound = isinstance(said, str) and said.strip() and ending in ("stop", "length") and usage is None
    assert (count, refused.total()) == ((1, 0) if is_sound and status == 200 else (0, 1))
    assert [reply.text for reply in stored(cache).values()] == ([said.strip()] if count else [])


@given(st.integers(0, len(json.dumps(sound(0))) - 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_line_cut_anywhere_is_no_reply(cache: ReplyCache, tmp_path: Path, length: int) -> None:
    count, refused = merged(cache, tmp_path, json.dumps(sound(0)).encode()[:length])
    assert (count, refused.total()) == (0, min(length, 1))


SHARDING = """
import sys
from pathlib import Path
from ethos.records import user
from ethos.samplers.api import openai_body
from ethos.samplers.batch import BatchRequest, write_shards
from ethos.samplers.replies import Request
body = openai_body("m", Request(messages=[user("question")], max_tokens=8))
lines = [BatchRequest(custom_id=str(i), body=body) for i in range(2000)]
while True:
    write_shards(Path(sys.argv[1]), "voice", lines, 20)
"""


def test_shards_of_a_killed_process_are_whole_each(tmp_path: Path) -> None:
    command, environment = [sys.executable, "-c", SHARDING, str(tmp_path)], os.environ | {"PYTHONPATH": str(SOURCE)}
    for number in range(3):
        process = subprocess.Popen(command, env=environment)
        while not list(tmp_path.glob("voice-*")) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(random.Random(number).uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        left = sorted(tmp_path.glob("voice-*"))
        for path in left:
            assert len([BatchRequest.model_validate_json(line) for line in path.read_text().splitlines()]) == 100
    assert write_shards(tmp_path, "voice", LINES, 2) == sorted(tmp_path.iterdir())


KILLED = """
import sys
from contextlib import closing
from pathlib import Path
from ethos.samplers import batch
from ethos.samplers.replies import ReplyCache
batch.STORED_AT_ONCE = 5
with closing(ReplyCache(Path(sys.argv[1]))) as cache:
    print(batch.merge([Path(name) for name in sys.argv[2:]], cache).stored)
"""


def test_a_merge_killed_again_and_again_stores_every_reply_once(tmp_path: Path) -> None:
    store, count = tmp_path / "replies.sqlite", 1500
    requests = [Request(messages=[user(f"question {i}")], max_tokens=8) for i in range(count)]
    keys = [ReplyCache.key("teacher", request) for request in requests]
    lines = [BatchRequest(custom_id=key, body=openai_body("m", r)) for key, r in zip(keys, requests, strict=True)]
    with closing(ReplyCache(store)) as cache:
        cache.hand_out(keys, "strip")
    results = [path.with_suffix(".out") for path in write_shards(tmp_path, "voice", lines, 2)]
    for path in results:
        path.write_text(batch_results(path.with_suffix(".jsonl").read_text(), echo))
    command = [sys.executable, "-c", KILLED, str(store), *map(str, results)]
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    killed = 0
    for least in (100, 400, 800):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            with closing(ReplyCache(store)) as cache:
                done = cache.database.execute("SELECT count(*) FROM replies").fetchone()[0]
            if done >= least:
                process.send_signal(signal.SIGKILL)
                killed += process.wait() == -signal.SIGKILL
            time.sleep(0.005)
    assert killed >= 2
    last = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert 0 < int(last.stdout) < count - 500  # what was stored before the kills is not stored again
    with closing(ReplyCache(store)) as cache:
        assert [reply.text for key in keys if (reply := cache.get(key))] == [
            f"echo: question {i}" for i in range(count)
        ]
