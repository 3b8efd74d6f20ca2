"""What a peer of the HTTP port may take up (bytes, time, connections), and how it is told of too much."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from llm_gateway.entrypoints.http.boundary import error_headers
from llm_gateway.errors import GatewayError, HeadersTooLarge, Overloaded, RequestTimedOut

MOST_HEADERS = 100
_RETRY_AFTER_S = 1.0


class ConnectionObserver(Protocol):
    """Is told of requests that no application saw."""

    def served(self, method: str, path: str, status: int, duration_ms: float, request_id: str) -> None:
        """The request was answered."""
        ...

    def refused(self, error: GatewayError, request_id: str | None) -> None:
        """The request was answered with `error`."""
        ...


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a peer may take up.

    Attributes:
        connections: Most that are open at once.
        head_bytes: Largest request line and headers together, trailers included.
        header_timeout_s: From the first byte, or the connection, to the end of the headers; seconds.
        body_timeout_s: From there to the end of the body.
        idle_timeout_s: Between two requests.
        write_timeout_s: How long an answer may wait for a peer that does not read.
    """

    connections: int = 1_000
    head_bytes: int = 32_768
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 30.0

    def head_too_large(self) -> HeadersTooLarge:
        """What a peer is told whose request line and headers do not end."""
        return HeadersTooLarge(
            f"The request line and headers are larger than {self.head_bytes} bytes, or more than "
            f"{MOST_HEADERS} lines; send less.",
            details={"maximum": self.head_bytes},
        )

    def head_late(self) -> RequestTimedOut:
        """What a peer is told that drips its headers."""
        return RequestTimedOut(f"The headers did not come within {self.header_timeout_s:g} s.")

    def body_late(self) -> RequestTimedOut:
        """What a peer is told that drips its body."""
        return RequestTimedOut(f"The body did not come within {self.body_timeout_s:g} s.")


def no_connection_left() -> Overloaded:
    """What a peer is told that finds all connections in use."""
    return Overloaded(
        "The gateway has as many connections open as it can; come back in a moment.",
        retry_after_s=_RETRY_AFTER_S,
    )


def refusal(error: GatewayError, headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, bytes]:
    """A request id, and the whole answer that tells of an error under it.

    Args:
        error: What is wrong.
        headers: Those that every answer of the server has.
    """
    request_id = uuid.uuid4().hex
    body = json.dumps(error.to_wire(request_id)).encode()
    told = [
        *headers,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
        *((name.encode(), value.encode()) for name, value in error_headers(error).items()),
    ]
    lines = [b"%b: %b\r\n" % header for header in told]
    return request_id, b"".join([STATUS_LINE[error.status], *lines, b"\r\n", body])


class Patience:
    """One timer that is started anew, or stopped.

    Args:
        loop: Where it runs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        """True until it is stopped, or its time is up."""
        return self._timer is not None

    def start(self, seconds: float, late: Callable[[], None]) -> None:
        """Call `late` in so many seconds, instead of what was to be called before."""

        def fire() -> None:
            self._timer = None
            late()

        self.stop()
        self._timer = self._loop.call_later(seconds, fire)

    def stop(self) -> None:
        """Call nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
