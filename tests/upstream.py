"""An OpenAI-compatible server on loopback that does what a test tells it, over real HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import override


@dataclass(frozen=True)
class Reply:
    """One scripted answer.

    Attributes:
        status: HTTP status.
        body: JSON value, or bytes sent as they are.
        headers: More headers.
        delay_s: Silence before the first byte.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass
class Upstream:
    """The running server: its address, what to answer next, what it was asked, who hung up."""

    url: str
    script: list[Reply] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    disconnected: threading.Event = field(default_factory=threading.Event)

    def answers(self, *replies: Reply) -> None:
        self.script[:] = replies


def chat_completion(content: str | None = "Hello.", **changes: Any) -> dict[str, Any]:
    """A body of the shape OpenAI sends."""
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1795428000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 1000,
            "completion_tokens": 200,
            "total_tokens": 1200,
            "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 50, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }
    return {**body, **changes}


def failure(status: int, code: str | None = None, **headers: str) -> Reply:
    """An error of the shape OpenAI sends; its message must never reach a caller or a log."""
    error = {"message": "SECRET VENDOR TEXT", "type": "some_error", "param": None, "code": code}
    return Reply(status, {"error": error}, {name.replace("_", "-"): value for name, value in headers.items()})


@contextmanager
def running() -> Iterator[Upstream]:
    """A server for the duration of a block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    upstream = Upstream(f"http://127.0.0.1:{server.server_address[1]}/v1")
    server.upstream = upstream  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield upstream
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes; the second would wait 40 ms for an ACK

    def do_POST(self) -> None:
        upstream: Upstream = self.server.upstream  # type: ignore[attr-defined]
        upstream.requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        upstream.keys.append(self.headers["authorization"])
        reply = upstream.script.pop(0) if upstream.script else Reply(body=chat_completion())
        if self._hung_up_while_waiting(reply.delay_s):
            upstream.disconnected.set()
            self.close_connection = True
            return
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"content-type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _hung_up_while_waiting(self, delay_s: float) -> bool:
        """Wait, and notice if the client closes its end meanwhile."""
        give_up = time.monotonic() + delay_s
        self.connection.settimeout(0.05)
        while time.monotonic() < give_up:
            try:
                if self.connection.recv(1) == b"":
                    return True
            except TimeoutError:
                continue
        self.connection.settimeout(None)
        return False

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""
