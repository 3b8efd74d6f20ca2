"""An ASGI application on a port, in the running event loop; signals are none of its business."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override

from llm_gateway.errors import ConfigurationError
from llm_gateway.settings import Settings

_BACKLOG = 2048
_LAST_WORDS_S = 1.0  # to tell the callers of cancelled requests
_KEEP_ALIVE_S = 75  # longer than load balancers in front keep theirs


class HttpServer:
    """One server, from start to stop.

    Args:
        app: What is served.
        settings: Where, and with which certificate.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._address = (settings.host, settings.http_port)
        self._server = _Server(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="critical",  # whatever is worth a line is told by the application
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                backlog=_BACKLOG,
                ssl_certfile=settings.tls_certificate_file,
                ssl_keyfile=settings.tls_key_file,
            )
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


class _Server(uvicorn.Server):
    @override
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process, which has more to stop than this server."""
        yield
