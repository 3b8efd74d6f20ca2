"""One HTTP/1.1 connection of the process: uvicorn's httptools protocol, with bounds in bytes and time.

The parser (llhttp, through httptools) refuses what is malformed; this module refuses what is well formed and
still ambiguous or endless, and answers all of that in the gateway's one error shape.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import httptools
from starlette.types import Message, Receive, Scope, Send
from typing_extensions import override
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from llm_gateway.entrypoints.server.connection_limits import (
    MOST_HEADERS,
    ConnectionLimits,
    ConnectionObserver,
    Patience,
    no_connection_left,
    refusal,
)
from llm_gateway.entrypoints.server.request_head import Refused, checked_head
from llm_gateway.errors import GatewayError, MalformedHttp

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_LINGER_S = 2.0  # for the peer to read a refusal before a reset could destroy it
_MOST_REFUSED_AT_ONCE = 100  # beyond the bound on connections; further ones are closed without an answer


class HttpConnection(HttpToolsProtocol):
    """One connection; requests on it are answered one after the other, and never queued.

    Args:
        config: Of the server.
        state: What all connections of the server share.
        limits: Bounds of each connection, and of their number.
        observer: Logs and metrics.
    """

    def __init__(
        self, config: Config, state: ServerState, limits: ConnectionLimits, observer: ConnectionObserver
    ) -> None:
        super().__init__(config, state, {})
        self.timeout_keep_alive = limits.idle_timeout_s  # type: ignore[assignment]  # asyncio takes any number
        self.waiting_since: float | None = None
        self._limits = limits
        self._observer = observer
        self._stage: Literal["between", "head", "body"] = "between"
        self._deaf = False
        self._fault: GatewayError | None = None
        self._refusal: GatewayError | None = None
        self._loose_bytes = 0  # received since the parser last completed a part
        self._head_bytes = 0
        self._awaiting = Patience(self.loop)
        self._flushing = Patience(self.loop)

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection; of too many, the one that has kept us waiting longest goes."""
        super().connection_made(transport)
        too_many = len(self.connections) - self._limits.connections
        if too_many > 0 and not self._make_room():
            if too_many > _MOST_REFUSED_AT_ONCE:
                transport.abort()
            else:
                self._refuse(no_connection_left())
            return
        self.waiting_since = self.loop.time()
        self._awaiting.start(self._limits.header_timeout_s, self._head_is_late)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection and its timers."""
        self._awaiting.stop()
        self._flushing.stop()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        """Feed the parser, unless the connection is about to be closed."""
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        if self._stage == "between":
            self._begin_head()
        self._loose_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(self._refusal or MalformedHttp("The request is not valid HTTP/1.1."))
        else:
            if self._loose_bytes > self._limits.head_bytes:
                self._refuse(self._limits.head_too_large())

    @override
    def on_message_begin(self) -> None:
        """Begin a request."""
        self._head_bytes = 0
        super().on_message_begin()

    @override
    def on_url(self, url: bytes) -> None:
        """Count and keep a part of the request target."""
        self._count_head(len(url))
        super().on_url(url)

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        """Count and keep a header; one that follows the body (a trailer) is dropped."""
        self._count_head(len(name) + len(value))
        if self._stage != "head":
            return
        if len(self.headers) >= MOST_HEADERS:
            raise self._refusing(self._limits.head_too_large())
        super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        """Start the application, if the head is one that it can be trusted with."""
        self._loose_bytes = 0
        if self._answering():
            raise self._refusing(MalformedHttp("Wait for an answer before the next request."))
        try:
            checked_head(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
        except GatewayError as error:
            raise self._refusing(error) from None
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self._stage = "body"
            self._awaiting.start(self._limits.body_timeout_s, self._body_is_late)

    @override
    def on_body(self, body: bytes) -> None:
        """Hand a part of the body on."""
        self._loose_bytes = 0
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        """Wait for nothing more: the request is there."""
        self._loose_bytes = 0
        if not self.parser.should_upgrade():
            self._awaiting.stop()
            self._stage = "between"
            self.waiting_since = self.loop.time() if self.cycle.response_complete else None
            super().on_message_complete()

    @override
    def on_response_complete(self) -> None:
        """Wait for the next request, or for the peer to take the answer."""
        super().on_response_complete()
        self.waiting_since = self.loop.time()
        if self.transport.is_closing():
            self._flushing.start(self._limits.write_timeout_s, self.transport.abort)
        elif self._deaf:
            self._linger()

    @override
    def pause_writing(self) -> None:
        """The peer does not read: give it a while."""
        super().pause_writing()
        self._flushing.start(self._limits.write_timeout_s, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        """The peer reads."""
        super().resume_writing()
        self._flushing.stop()

    @override
    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; one whose peer has not even read its answer is cut off."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    @override
    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Let the application hear of a fault of the request where it reads the body."""

        async def served(scope: Scope, receive: Receive, send: Send) -> None:
            async def received() -> Message:
                if self._fault is None:
                    message = await receive()
                if self._fault is not None:
                    raise self._fault
                return message

            async def sent(message: Message) -> None:
                await send(message)
                if self._deaf:  # the answer has told of the end, which comes in on_response_complete
                    cycle.keep_alive = True

            await app(scope, received, sent)

        super()._start_asgi_task(cycle, served)  # type: ignore[arg-type]

    def _feed(self, data: bytes) -> None:
        """Parse; an offer to upgrade is declined by reading the request as if it had none."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            version = self.parser.get_http_version().encode()
            lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
            lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.feed_data(b"\r\n".join([*lines, b"", b""]) + data[offer.args[0] :])

    def _begin_head(self) -> None:
        self._stage = "head"
        if not self._awaiting.running:
            self._awaiting.start(self._limits.header_timeout_s, self._head_is_late)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes:
            raise self._refusing(self._limits.head_too_large())

    def _refusing(self, error: GatewayError) -> Refused:
        """What a callback raises to stop the parser."""
        self._refusal = error
        return Refused()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, error: GatewayError) -> None:
        """Hear no more of this peer, and say why where an answer is still owed."""
        self._deaf = True
        self._awaiting.stop()
        if self._answering():
            self.cycle.keep_alive = False
            if self.cycle.more_body:
                self._fault = error
                self.cycle.message_event.set()
        elif self._stage == "body":  # answered before its end
            self.transport.close()
        else:
            self._answer(error)

    def _answer(self, error: GatewayError) -> None:
        """Write an error without an application, and close once the peer has read it."""
        request_id, answer = refusal(error, self.server_state.default_headers)
        self.transport.write(answer)
        self._observer.refused(error, request_id)
        self._observer.served("other", "unknown", error.status, 0.0, request_id)
        self._linger()

    def _linger(self) -> None:
        """Close our half, and the other once the peer has had the time to read."""
        self._unset_keepalive_if_required()
        if self.transport.can_write_eof():
            with suppress(OSError):  # the peer has left, with a reset, before it read the answer
                self.transport.write_eof()
        self._awaiting.start(_LINGER_S, self.transport.abort)

    def _make_room(self) -> bool:
        """Drop the connection whose request, or the end of it, we wait for the longest; false if none."""
        others = (other for other in self.connections if isinstance(other, HttpConnection))
        waiting = [(other.waiting_since, other) for other in others if other.waiting_since is not None]
        if not waiting:
            return False
        _, longest = min(waiting, key=lambda pair: pair[0])
        longest.give_way()
        return True

    def give_way(self) -> None:
        """Leave the place to another connection."""
        self.connections.discard(self)
        self.waiting_since = None
        if self._answering():
            self._refuse(no_connection_left())
        else:
            self.transport.abort()

    def _head_is_late(self) -> None:
        if self._stage == "between":  # a connection without a request is no error
            self.transport.close()
        else:
            self._refuse(self._limits.head_late())

    def _body_is_late(self) -> None:
        self._refuse(self._limits.body_late())
