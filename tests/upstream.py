"""An OpenAI-compatible server on loopback that does what a test tells it, over real HTTP.

Every way to misbehave is a `Reply`: how much of the answer it sends, how slowly, and what it does
with the connection afterwards. A server that does not even accept is `Upstream.not_accepting()`.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from typing_extensions import override

from tests import sockets

_FOREVER_S = 60.0  # longer than any test waits
Part = Literal["nothing", "head", "half", "all"]
Ending = Literal["keep", "silence", "disconnect", "reset", "shut_reading", "shut_writing"]


@dataclass(frozen=True)
class Reply:
    """One scripted answer.

    Attributes:
        status: HTTP status.
        body: JSON value, or bytes sent as they are.
        headers: More headers.
        delay_s: Silence before the first byte.
        header_pause_s: Pause after each byte of status line and headers.
        body_pause_s: Pause after each byte of the body.
        sends: How much of the answer is sent; the content-length is always that of the whole.
        then: What becomes of the connection: it is kept for the next request; kept in silence; closed;
            reset; or one half is shut down and the other silent. All but the first until the client
            hangs up.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    header_pause_s: float = 0.0
    body_pause_s: float = 0.0
    sends: Part = "all"
    then: Ending = "keep"


@dataclass
class Upstream:
    """The running server: its address, what to answer next, what it was asked, who hung up.

    Attributes:
        url: Base URL for a client.
        not_accepting: While in this context, connections are not accepted and kept ones are closed.
        script: The answers to come; without any, it is a good one.
        models: The answer to every question for the list of models.
        models_asked: Number of those questions.
        requests: Bodies received.
        keys: Authorization headers received, None where there was none.
        headers: All headers received, names in lower case.
        paths: Paths asked for, queries included.
        closed: For each request, set when its client has closed the connection or was cut off by a reset.
        disconnected: Set when a client hung up on an unfinished answer.
    """

    url: str
    not_accepting: Callable[[], AbstractContextManager[None]]
    script: list[Reply] = field(default_factory=list)
    models: Reply = field(default_factory=lambda: Reply(body={"object": "list", "data": []}))
    models_asked: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    closed: list[threading.Event] = field(default_factory=list)
    disconnected: threading.Event = field(default_factory=threading.Event)

    def answers(self, *replies: Reply) -> None:
        self.script[:] = replies

    def forget(self) -> None:
        """Begin anew, for the next test."""
        for seen in (self.script, self.requests, self.keys, self.headers, self.paths, self.closed):
            seen.clear()
        self.disconnected.clear()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].partition("/")[0])


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
    server = _Server()
    server.begin()
    try:
        yield server.upstream
    finally:
        server.end()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = Upstream(f"http://127.0.0.1:{self.server_address[1]}/v1", self.not_accepting)
        self.stop = threading.Event()
        self.connections: set[socket.socket] = set()

    def begin(self) -> None:
        self.stop.clear()
        self._accepting = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._accepting.start()

    def end(self) -> None:
        """Accept no more, and close what is open."""
        self.shutdown()
        self._accepting.join()
        self.stop.set()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def not_accepting(self) -> Iterator[None]:
        self.end()
        try:
            with sockets.full_backlog(self.socket):
                yield
        finally:
            self.socket.listen(self.request_queue_size)
            self.begin()

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is none; keep quiet."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes; the second would wait 40 ms for an ACK
    server: _Server
    connection: socket.socket

    @override
    def setup(self) -> None:
        super().setup()
        self._closed: list[threading.Event] = []
        self.server.connections.add(self.connection)

    @override
    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        for closed in self._closed:
            closed.set()
        with suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        self.server.upstream.models_asked += 1
        self._answer(self.server.upstream.models)

    def do_POST(self) -> None:
        upstream = self.server.upstream
        self._closed.append(threading.Event())
        upstream.closed.append(self._closed[-1])
        upstream.keys.append(self.headers["authorization"])
        upstream.headers.append({name.lower(): value for name, value in self.headers.items()})
        upstream.paths.append(self.path)
        upstream.requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        reply = upstream.script.pop(0) if upstream.script else Reply(body=chat_completion())
        try:
            self._answer(reply)
        except ConnectionError:
            upstream.disconnected.set()
            self.close_connection = True

    def _answer(self, reply: Reply) -> None:
        connection, stop = self.connection, self.server.stop
        sockets.keep_silent(connection, reply.delay_s, stop)
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        if reply.sends != "nothing":
            sockets.send(connection, _head(reply, len(body)), reply.header_pause_s, stop)
        if reply.sends in ("half", "all"):
            sent = body if reply.sends == "all" else body[: len(body) // 2]
            sockets.send(connection, sent, reply.body_pause_s, stop)
        if reply.then != "keep":
            self.close_connection = True
            self._part(reply.then)

    def _part(self, ending: Ending) -> None:
        """Do the last thing, and watch until the client hangs up.

        A disconnect shuts both halves down, which is all that a client sees of a close, and leaves us
        the socket to watch it close its own.
        """
        if ending == "reset":
            sockets.reset(self.connection)
            return
        halves = {
            "disconnect": socket.SHUT_RDWR, "shut_reading": socket.SHUT_RD, "shut_writing": socket.SHUT_WR,
        }  # fmt: skip
        if ending in halves:
            self.connection.shutdown(halves[ending])
        sockets.keep_silent(self.connection, _FOREVER_S, self.server.stop)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def _head(reply: Reply, length: int) -> bytes:
    headers = {"content-type": "application/json", **reply.headers, "content-length": str(length)}
    lines = [f"HTTP/1.1 {reply.status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()
