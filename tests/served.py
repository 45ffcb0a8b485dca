"""A teacher behind HTTP that is a small function: what it is asked decides what it says."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Say = Callable[[dict[str, Any]], str]
"""A request's body → the text of the reply."""


class TeacherServer(ThreadingHTTPServer):
    """Answers every request soundly, and remembers them all."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, say: Say) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.say, self.lock = say, threading.Lock()
        self.bodies: list[dict[str, Any]] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def asked(self) -> Counter[str]:
        """How often each request came."""
        return Counter(json.dumps(body, sort_keys=True) for body in self.bodies)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed hangs up."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a body waits 40 ms for the receipt of its headers
    server: TeacherServer

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.bodies.append(body)
        told = json.dumps(completion(body, self.server.say(body))).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)


def completion(body: dict[str, Any], text: str) -> dict[str, Any]:
    """What /v1/chat/completions answers: a token is a word."""
    read = sum(len(turn["content"].split()) for turn in body["messages"])
    return {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": read, "completion_tokens": len(text.split())},
    }


def batch_results(requests: str, say: Say) -> str:
    """A file of batch requests as a batch server would answer it, the last one first."""
    lines = [json.loads(line) for line in requests.splitlines()]
    return "".join(json.dumps(batch_result(line, say)) + "\n" for line in reversed(lines))


def batch_result(line: dict[str, Any], say: Say) -> dict[str, Any]:
    """One line as vLLM and OpenAI answer it."""
    assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
    response = {"status_code": 200, "request_id": "r", "body": completion(line["body"], say(line["body"]))}
    return {"id": f"batch-{line['custom_id'][:8]}", "custom_id": line["custom_id"], "response": response, "error": None}
