"""What the process makes of hostile bytes and slow clients: raw sockets against the real server."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llm_gateway.bootstrap.settings import Settings
from llm_gateway.entrypoints.http.app import create_app
from llm_gateway.entrypoints.http.json_body import read_body
from llm_gateway.entrypoints.server.http_connection import HttpConnection
from llm_gateway.entrypoints.server.http_server import HttpServer
from llm_gateway.validation import decode_json
from tests.fakes import RecordingObserver

PATIENCE_S = 20.0
HOST = b"Host: gateway\r\n"
JSON = HOST + b"Content-Type: application/json\r\n"
CHUNKED = b"POST /echo HTTP/1.1\r\n" + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
GOOD = b"POST /echo HTTP/1.1\r\n" + JSON + b'Content-Length: 8\r\n\r\n{"a": 1}'


@dataclass
class Edge:
    """The running server, what it was told, and a gate that endpoints wait at."""

    server: HttpServer
    port: int
    observer: RecordingObserver
    gate: asyncio.Event
    reached: asyncio.Event
    peers: list[Peer] = field(default_factory=list)

    @property
    def open(self) -> int:
        return len(self.server.connections)

    async def connect(self) -> Peer:
        self.peers.append(Peer(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.peers[-1]

    async def ask(self, data: bytes) -> list[Answer]:
        """All answers until the server closes, or until it has answered and we do."""
        peer = await self.connect()
        peer.send(data)
        return await peer.answers()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)["error"]
        return found


@dataclass
class Peer:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> Answer:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return Answer(int(first.split()[1]), headers, body)

    async def answers(self) -> list[Answer]:
        found = [await self.answer()]
        while found[-1].headers.get("connection") != "close":
            try:
                found.append(await asyncio.wait_for(self.answer(), 0.2))
            except (TimeoutError, asyncio.IncompleteReadError):
                break
        return found

    async def closed(self) -> bool:
        """True once the server has closed, with nothing more to say."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENCE_S) == b""
        except ConnectionError:
            return True

    async def cut_off(self) -> bytes:
        """What there was to read until the server closed, gently or not."""
        found = b""
        try:
            while data := await asyncio.wait_for(self.reader.read(65_536), PATIENCE_S):
                found += data
        except ConnectionError:
            pass
        return found


def routes(gate: asyncio.Event, reached: asyncio.Event) -> APIRouter:
    router = APIRouter()

    @router.post("/echo")
    async def echo(request: Request) -> Any:
        return decode_json(await read_body(request, 5_000_000))

    @router.get("/headers")
    async def headers(request: Request) -> list[list[str]]:
        return [[name, value] for name, value in request.headers.items()]

    @router.get("/large")
    async def large() -> Response:
        return Response(b"x" * 20_000_000)

    @router.get("/wait")
    async def wait() -> str:
        reached.set()
        await gate.wait()
        return "waited"

    return router


@asynccontextmanager
async def edge(**settings: Any) -> AsyncIterator[Edge]:
    observer, gate, reached = RecordingObserver(), asyncio.Event(), asyncio.Event()
    app = create_app(routes(gate, reached), observer=observer)
    server = HttpServer(app, Settings(http_port=0, **settings), observer)
    port = await server.start()
    running = Edge(server, port, observer, gate, reached)
    try:
        yield running
    finally:
        gate.set()
        for peer in running.peers:
            peer.writer.transport.abort()
            with suppress(OSError):
                await peer.writer.wait_closed()
        await server.stop(1)


def play(scene: Callable[[Edge], Coroutine[Any, Any, None]], **settings: Any) -> Edge:
    async def played() -> Edge:
        async with edge(**settings) as running:
            await asyncio.wait_for(scene(running), PATIENCE_S)
            return running

    return asyncio.run(played())


async def eventually(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not look():
            await asyncio.sleep(0.01)


MALFORMED: dict[str, bytes] = {
    "a length that is none": b"POST /echo HTTP/1.1\r\n" + JSON + b"Content-Length: abc\r\n\r\n",
    "two lengths": b"POST /echo HTTP/1.1\r\n" + JSON + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "the same length twice": b"POST /echo HTTP/1.1\r\n" + JSON + b"Content-Length: 2\r\n" * 2 + b"\r\n{}",
    "a list of lengths": b"POST /echo HTTP/1.1\r\n" + JSON + b"Content-Length: 2, 2\r\n\r\n{}",
    "a signed length": b"POST /echo HTTP/1.1\r\n" + JSON + b"Content-Length: +2\r\n\r\n{}",
    "an endless length": b"POST /echo HTTP/1.1\r\n" + JSON + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "a length and chunks": b"POST /echo HTTP/1.1\r\n" + JSON
    + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": b"POST /echo HTTP/1.1\r\n" + JSON
    + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "chunks within gzip": b"POST /echo HTTP/1.1\r\n" + JSON
    + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "another transfer encoding": b"POST /echo HTTP/1.1\r\n" + JSON + b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunks of HTTP/1.0": b"POST /echo HTTP/1.0\r\n" + JSON
    + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "NUL in a header": b"GET /headers HTTP/1.1\r\n" + HOST + b"A: a\0b\r\n\r\n",
    "NUL in a header's name": b"GET /headers HTTP/1.1\r\n" + HOST + b"A\0: a\r\n\r\n",
    "NUL in a path": b"GET /headers\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a bare carriage return": b"GET /headers HTTP/1.1\r\n" + HOST + b"A: a\rB: b\r\n\r\n",
    "bare line feeds": b"GET /headers HTTP/1.1\nHost: a\n\n",
    "an escape in a header": b"GET /headers HTTP/1.1\r\n" + HOST + b"A: \x1b[31m\r\n\r\n",
    "a folded header": b"GET /headers HTTP/1.1\r\n" + HOST + b"A: a\r\n b\r\n\r\n",
    "a blank before a colon": b"GET /headers HTTP/1.1\r\nHost : a\r\n\r\n",
    "a header without a name": b"GET /headers HTTP/1.1\r\n" + HOST + b": a\r\n\r\n",
    "no host": b"GET /headers HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /headers HTTP/1.1\r\n" + HOST * 2 + b"\r\n",
    "HTTP/0.9": b"GET /headers\r\n\r\n",
    "HTTP/3.7": b"GET /headers HTTP/3.7\r\n" + HOST + b"\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an invented method": b"BREW /headers HTTP/1.1\r\n" + HOST + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a fragment": b"GET /headers#a HTTP/1.1\r\n" + HOST + b"\r\n",
    "an address without a host": b"GET http:// HTTP/1.1\r\n" + HOST + b"\r\n",
    "a path without a slash": b"GET headers HTTP/1.1\r\n" + HOST + b"\r\n",
    "a chunk of no size": CHUNKED + b"zz\r\nab\r\n0\r\n\r\n",
    "a chunk of endless size": CHUNKED + b"f" * 20 + b"\r\nab\r\n",
    "a chunk longer than it says": CHUNKED + b"1\r\n{}\r\n0\r\n\r\n",
    "chunks that end with line feeds": CHUNKED + b"2\n{}\n0\n\n",
}  # fmt: skip


def test_malformed_http_is_answered_once_in_the_one_shape_and_the_connection_closed() -> None:
    async def refused(running: Edge, name: str) -> None:
        peer = await running.connect()
        peer.send(MALFORMED[name])
        answer = await peer.answer()
        assert (answer.status, answer.error["code"]) == (400, "malformed_http"), name
        assert answer.error["request_id"] == answer.headers["x-request-id"], name
        assert answer.headers["connection"] == "close", name
        assert answer.headers["content-type"] == "application/json", name
        assert await peer.closed(), name

    async def scene(running: Edge) -> None:
        for name in MALFORMED:
            await refused(running, name)

    told = play(scene).observer
    assert [error.code for error in told.refusals] == ["malformed_http"] * len(MALFORMED)
    assert told.crashes == []
    assert {facts["method"] for _, facts in told.notes} <= {"other", "POST"}


LARGE: dict[str, bytes] = {
    "a target": b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a header": b"GET /headers HTTP/1.1\r\n" + HOST + b"A: " + b"a" * 40_000 + b"\r\n\r\n",
    "a header without an end": b"GET /headers HTTP/1.1\r\n" + HOST + b"A: " + b"a" * 40_000,
    "101 headers": b"GET /headers HTTP/1.1\r\n" + HOST + b"A: a\r\n" * 100 + b"\r\n",
    "what follows the body": CHUNKED + b"2\r\n{}\r\n0\r\n" + b"A: a\r\n" * 20_000,
    "the extension of a chunk": CHUNKED + b"2;" + b"a" * 600_000,
}


def test_a_head_is_bounded_wherever_it_grows() -> None:
    async def scene(running: Edge) -> None:
        for name, data in LARGE.items():
            (answer,) = await running.ask(data)
            assert (answer.status, answer.error["code"]) == (431, "headers_too_large"), name

    play(scene)


WELL_FORMED: tuple[tuple[bytes, int], ...] = (
    (GOOD, 200),
    (b"GET http://elsewhere/headers HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    (b"GET /headers HTTP/1.0\r\n\r\n", 200),
    (b"\r\n\r\nGET /headers HTTP/1.1\r\n" + HOST + b"\r\n", 200),
    (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    (b"CONNECT a:443 HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    (CHUNKED + b'8;ext=1\r\n{"a": 1}\r\n0\r\n\r\n', 200),
)


def test_well_formed_http_is_served() -> None:
    async def scene(running: Edge) -> None:
        for request, status in WELL_FORMED:
            peer = await running.connect()
            peer.send(request)
            assert (await peer.answer()).status == status, request

    play(scene)


def test_a_request_that_offers_an_upgrade_is_answered_with_its_body() -> None:
    """As the HTTP client of Java 11 and later sends it."""

    async def scene(running: Edge) -> None:
        offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
        peer = await running.connect()
        for _ in range(2):
            peer.send(GOOD.replace(b"Host", offer + b"Host", 1))
            answer = await peer.answer()
            assert (answer.status, json.loads(answer.body)) == (200, {"a": 1})

    play(scene)


def test_an_upgrade_offered_over_http_1_0_is_declined_as_http_1_0() -> None:
    """Which needs no `Host`, and after the answer has no connection left."""

    async def scene(running: Edge) -> None:
        offer = b"GET /headers HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        (answer,) = await running.ask(offer)
        assert answer.status == 200

    play(scene)


def test_a_header_behind_the_body_is_no_header() -> None:
    async def scene(running: Edge) -> None:
        request = b"GET /headers HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n"
        (answer,) = await running.ask(request + b"Authorization: Bearer x\r\n\r\n")
        assert "authorization" not in dict(json.loads(answer.body))

    play(scene)


def test_a_connection_serves_one_request_after_the_other() -> None:
    async def scene(running: Edge) -> None:
        peer = await running.connect()
        for _ in range(3):
            peer.send(GOOD)
            assert (await peer.answer()).status == 200

    assert len(play(scene).observer.notes) == 3


@pytest.mark.parametrize("follower", [GOOD, b"nonsense\r\n\r\n"])
def test_what_comes_before_an_answer_is_not_answered_and_does_not_spoil_it(follower: bytes) -> None:
    async def scene(running: Edge) -> None:
        peer = await running.connect()
        peer.send(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n")
        await running.reached.wait()
        peer.send(follower * 3)
        await asyncio.sleep(0.05)
        running.gate.set()
        answer = await peer.answer()
        assert (answer.body, answer.headers["connection"]) == (b'"waited"', "close")
        assert await peer.closed()

    play(scene)


SLOW: dict[str, tuple[bytes, dict[str, float]]] = {
    "a head": (b"GET /headers HTTP/1.1\r\nHost: ", {"header_timeout_s": 0.2}),
    "empty lines": (b"\r\n", {"header_timeout_s": 0.2}),
    "a body": (b"POST /echo HTTP/1.1\r\n" + JSON + b"Content-Length: 1000\r\n\r\n", {"body_timeout_s": 0.2}),
    "a body in chunks": (CHUNKED + b"3e8\r\n", {"body_timeout_s": 0.2}),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_client_that_drips_is_told_that_its_time_is_up(name: str) -> None:
    beginning, limits = SLOW[name]

    async def scene(running: Edge) -> None:
        peer = await running.connect()
        peer.send(beginning)

        async def drip() -> None:
            while True:
                await asyncio.sleep(0.02)
                peer.send(b"\r" if name == "empty lines" else b" ")

        dripping = asyncio.create_task(drip())
        answer = await peer.answer()
        dripping.cancel()
        assert (answer.status, answer.error["code"]) == (408, "request_timed_out")
        assert answer.error["request_id"] == answer.headers["x-request-id"]
        assert answer.headers["connection"] == "close"

    told = play(scene, **limits).observer
    assert ([error.code for error in told.refusals], told.crashes) == (["request_timed_out"], [])


@pytest.mark.parametrize("first", [b"", GOOD])
def test_a_connection_without_a_request_is_closed_without_a_word(first: bytes) -> None:
    async def scene(running: Edge) -> None:
        peer = await running.connect()
        if first:
            peer.send(first)
            await peer.answer()
        assert await peer.closed()

    told = play(scene, header_timeout_s=0.2, idle_timeout_s=0.2).observer
    assert told.refusals == []


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_client_that_does_not_read_is_cut_off(version: bytes) -> None:
    async def scene(running: Edge) -> None:
        peer = await running.connect()
        connection: socket.socket = peer.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        peer.send(b"GET /large HTTP/" + version + b"\r\n" + HOST + b"\r\n")
        await eventually(lambda: len(running.observer.notes) == 1)
        await eventually(lambda: running.open == 0)

    play(scene, write_timeout_s=0.2, idle_timeout_s=0.2)


def test_a_client_that_leaves_in_mid_body_is_a_cancelled_request_and_no_defect() -> None:
    async def scene(running: Edge) -> None:
        peer = await running.connect()
        peer.send(b"POST /echo HTTP/1.1\r\n" + JSON + b"Content-Length: 1000\r\n\r\n{")
        await eventually(lambda: running.open == 1)
        await asyncio.sleep(0.05)
        peer.writer.close()
        await eventually(lambda: bool(running.observer.notes))

    told = play(scene).observer
    assert [error.code for error in told.refusals] == ["cancelled"]
    assert told.notes == [("served", {"method": "POST", "path": "/echo", "status": 499})]
    assert told.crashes == []


async def waiting_requests(running: Edge, number: int) -> list[Peer]:
    """Clients whose requests are under way."""
    peers = []
    for _ in range(number):
        running.reached.clear()
        peers.append(await running.connect())
        peers[-1].send(b"GET /wait HTTP/1.1\r\n" + HOST + b"\r\n")
        await running.reached.wait()
    return peers


def test_one_connection_too_many_is_refused_at_once_while_all_are_in_use() -> None:
    async def scene(running: Edge) -> None:
        peers = await waiting_requests(running, 2)
        refused = await running.connect()
        answer = await refused.answer()
        assert (answer.status, answer.error["code"]) == (503, "overloaded")
        assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
        assert answer.error["retryable"] is True
        running.gate.set()
        assert [(await peer.answer()).status for peer in peers] == [200, 200]

    play(scene, max_connections=2)


def test_connections_that_only_wait_make_room_the_longest_first() -> None:
    """A client that opens all connections there are, and holds them, keeps out none that has a request."""

    async def scene(running: Edge) -> None:
        idle, half = [await running.connect() for _ in range(2)]
        half.send(b"POST /echo HTTP/1.1\r\n" + JSON + b"Content-Length: 1000\r\n\r\n{")
        await eventually(lambda: running.open == 2)
        (answer,) = await running.ask(GOOD)
        assert answer.status == 200
        running.peers[-1].writer.close()
        assert await idle.cut_off() == b""
        await eventually(lambda: running.open == 1)
        (waiting,) = await waiting_requests(running, 1)
        late = await running.connect()
        late.send(GOOD)
        assert (await half.answer()).status == 503
        assert (await late.answer()).status == 200
        running.gate.set()
        assert (await waiting.answer()).status == 200

    play(scene, max_connections=2)


def test_the_parser_and_the_hooks_of_its_protocol_are_those_that_this_was_written_for() -> None:
    hooks = {name for name in vars(HttpConnection) if callable(vars(HttpConnection)[name])}
    overridden = {name for name in hooks if hasattr(HttpToolsProtocol, name)}
    assert overridden >= {
        "on_headers_complete",
        "on_header",
        "_start_asgi_task",
        "timeout_keep_alive_handler",
    }
    assert issubclass(HttpConnection, HttpToolsProtocol)
