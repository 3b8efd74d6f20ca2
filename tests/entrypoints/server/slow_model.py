"""A model that answers hundreds of calls at once after the same time each, in the caller's event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from tests.upstream import chat_completion

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


@dataclass
class SlowModel:
    """The running server.

    Attributes:
        url: Base URL for a client.
        delay_s: Time that each answer takes.
        asked: Calls that came in.
        answered: Calls whose answer was sent.
        together: Answers wait until so many calls are here at the same time.
    """

    url: str = ""
    delay_s: float = 0.5
    asked: int = 0
    answered: int = 0
    together: int = 1
    _waiting: list[asyncio.Event] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        body = json.dumps(chat_completion()).encode()
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if head.startswith(b"post"):
                    await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
                    self.asked += 1
                    await self._others()
                    await asyncio.sleep(self.delay_s)
                writer.write(_HEAD % len(body) + body)
                await writer.drain()
                self.answered += head.startswith(b"post")
        writer.close()

    async def _others(self) -> None:
        """Wait until `together` calls are here."""
        here = asyncio.Event()
        self._waiting.append(here)
        if len(self._waiting) >= self.together:
            for waiting in self._waiting:
                waiting.set()
            self._waiting.clear()
        await here.wait()


@asynccontextmanager
async def slow_model(delay_s: float) -> AsyncIterator[SlowModel]:
    """The server for the duration of a block."""
    model = SlowModel(delay_s=delay_s)
    server = await asyncio.start_server(model.serve, "127.0.0.1", 0, backlog=512)
    model.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield model
    finally:
        server.close()
