"""RPCs that need no key (health, reflection): so many at once that callers keep their places."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

MOST_KEYLESS = 50
"""How many may be open; a few dozen balancers and sidecars watch a server's health at most."""


class KeylessRpcs:
    """Those that are open, the oldest first; it gives way to the next one beyond the bound.

    The newest is never refused: a probe that comes now is answered, however many streams strangers hold.

    Args:
        message_timeout_s: Longest that a single request may take after its headers.
        most: How many may be open at once.
    """

    def __init__(self, message_timeout_s: float, most: int = MOST_KEYLESS) -> None:
        self._message_timeout_s = message_timeout_s
        self._most = most
        self._open: dict[asyncio.Task[None], None] = {}

    def bounded(self, handler: Any) -> Handler:
        """The same method, counted while it is answered."""

        async def answered(requests: AsyncIterator[Any], context: Context) -> None:
            work = asyncio.create_task(self._served(handler, requests, context))
            self._admit(work)
            try:
                await asyncio.wait([work])
            finally:
                work.cancel()
            if work.cancelled():
                await context.abort(grpc.StatusCode.UNAVAILABLE, "Too many streams are open without a key.")
            work.result()

        # On the wire one message and a stream of one are the same, in both directions.
        return grpc.stream_stream_rpc_method_handler(
            answered, handler.request_deserializer, handler.response_serializer
        )

    def _admit(self, work: asyncio.Task[None]) -> None:
        self._open[work] = None
        work.add_done_callback(self._forget)
        if len(self._open) > self._most:
            oldest = next(iter(self._open))
            self._forget(oldest)
            oldest.cancel()

    def _forget(self, work: asyncio.Task[None]) -> None:
        self._open.pop(work, None)

    async def _served(self, handler: Any, requests: AsyncIterator[Any], context: Context) -> None:
        if handler.stream_stream is not None:
            async for answer in handler.stream_stream(requests, context):
                await context.write(answer)
        elif handler.unary_stream is not None:
            await handler.unary_stream(await self._request(context), context)
        else:
            await context.write(await handler.unary_unary(await self._request(context), context))

    async def _request(self, context: Context) -> Any:
        try:
            async with asyncio.timeout(self._message_timeout_s):
                request = await context.read()
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "The message did not come in time.")
        if request is grpc.aio.EOF:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "There is no message; send one.")
        return request
