"""The HTTP client that providers share: one pool, one TLS context, no redirects, no endless answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
from typing_extensions import override

MAX_BODY_BYTES = 16_777_216
"""Largest answer of a vendor; the longest completion has well under a tenth of it."""


class BodyTooLong(httpx2.HTTPError):
    """A vendor sends more than any answer can have."""


def http_client() -> httpx2.AsyncClient:
    """A client for vendors.

    It follows no redirect: a prompt goes to the host that was configured and to no other.
    """
    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)
    return httpx2.AsyncClient(limits=limits, follow_redirects=False, event_hooks={"response": [_bound]})


async def _bound(response: httpx2.Response) -> None:
    stream = response.stream
    if isinstance(stream, httpx2.AsyncByteStream):
        response.stream = _BoundedStream(stream)


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise BodyTooLong("The vendor's answer is too long.")
            yield chunk

    @override
    async def aclose(self) -> None:
        await self._stream.aclose()
