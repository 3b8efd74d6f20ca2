"""An ASGI application on a port, in the running event loop; signals are none of its business."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override

from llm_gateway.bootstrap.settings import Settings
from llm_gateway.entrypoints.server.connection_limits import ConnectionLimits, ConnectionObserver
from llm_gateway.entrypoints.server.http_connection import HttpConnection
from llm_gateway.errors import ConfigurationError

_BACKLOG = 2048
_LAST_WORDS_S = 1.0  # to tell the callers of cancelled requests


class HttpServer:
    """One server, from start to stop.

    Args:
        app: What is served.
        settings: Where, with which certificate, and what a client may take up.
        observer: Logs and metrics of requests that the application never sees.
    """

    def __init__(self, app: ASGIApp, settings: Settings, observer: ConnectionObserver) -> None:
        self._address = (settings.host, settings.http_port)
        self._server = _Server(
            uvicorn.Config(
                app,
                http=HttpConnection,
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="critical",  # whatever is worth a line is told by the application
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                ssl_certfile=settings.tls_certificate_file,
                ssl_keyfile=settings.tls_key_file,
            ),
            _limits(settings),
            observer,
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen and serve; the port that is bound.

        Raises:
            ConfigurationError: The address cannot be bound.
        """
        listener = self._bound()
        self._serving = asyncio.create_task(self._server.serve([listener]))
        while not self._server.started and not self._serving.done():
            await asyncio.sleep(0.005)
        port: int = listener.getsockname()[1]
        return port

    @property
    def connections(self) -> Collection[object]:
        """The connections that are open."""
        return self._server.server_state.connections

    async def stop(self, grace_s: float) -> None:
        """Take no new requests, let those under way end for `grace_s` seconds, then cancel them."""
        if self._serving is None:
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True
        await self._serving
        if cut_off := self._server.server_state.tasks:
            await asyncio.wait(cut_off, timeout=_LAST_WORDS_S)

    def _bound(self) -> socket.socket:
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # Of a socket that does not name its protocol asyncio does not know that it is TCP, and leaves
        # Nagle's algorithm on: the second half of each answer would wait 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            return listener
        except OSError as error:
            listener.close()
            raise ConfigurationError(f"HTTP cannot listen on {host}:{port} ({error.strerror}).") from error


def _limits(settings: Settings) -> ConnectionLimits:
    return ConnectionLimits(
        connections=settings.max_connections,
        header_timeout_s=settings.header_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        write_timeout_s=settings.write_timeout_s,
    )


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, limits: ConnectionLimits, observer: ConnectionObserver
    ) -> None:
        super().__init__(config)
        self._limits = limits
        self._observer = observer

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections with limits; uvicorn's own would have the TLS handshake take a minute."""
        tls = self.config.ssl
        handshake_s = None if tls is None else self._limits.header_timeout_s
        self.servers = [
            await asyncio.get_running_loop().create_server(
                self._connection,
                sock=listener,
                ssl=tls,
                backlog=self.config.backlog,
                ssl_handshake_timeout=handshake_s,
            )
            for listener in sockets or ()
        ]
        self.started = True

    def _connection(self) -> HttpConnection:
        return HttpConnection(self.config, self.server_state, self._limits, self._observer)

    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process, which has more to stop than this server."""
        yield
