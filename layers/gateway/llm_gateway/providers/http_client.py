"""The HTTP client that providers share: one pool, one TLS context, no redirects, no endless answers."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import httpx2
from typing_extensions import override

if TYPE_CHECKING:
    from zlib import _Decompress

MAX_BODY_BYTES = 16_777_216
"""Largest answer of a vendor once it is decoded; the longest completion has well under a tenth of it."""

_PIECE_BYTES = 262_144  # what is decoded before other calls get their turn
_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


class BodyTooLong(httpx2.HTTPError):
    """A vendor sends more than any answer can have."""


class BodyNotDecodable(httpx2.HTTPError):
    """A vendor encodes its answer in a way that was not asked for, or not as it says."""


def http_client() -> httpx2.AsyncClient:
    """A client for vendors.

    It follows no redirect: a prompt goes to the host that was configured and to no other. It asks for
    answers as they are: they are small, and decoding them costs more than their transport.
    """
    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)
    return httpx2.AsyncClient(
        limits=limits,
        follow_redirects=False,
        headers={"Accept-Encoding": "identity"},
        event_hooks={"response": [_bound]},
    )


async def _bound(response: httpx2.Response) -> None:
    """Bound the body before and after decoding, which is done here and no more by the client."""
    stream = response.stream
    if isinstance(stream, httpx2.AsyncByteStream):
        response.stream = _BoundedStream(stream, _codings(response.headers))
        response.headers.pop("content-encoding", None)


def _codings(headers: httpx2.Headers) -> list[str]:
    named = (name.strip().lower() for name in headers.get("content-encoding", "").split(","))
    return [name for name in named if name not in ("", "identity")]


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, codings: list[str]) -> None:
        self._stream = stream
        self._codings = codings

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = decoded = 0
        decoder = _decoder(self._codings)
        async for chunk in self._stream:
            received += len(chunk)
            _check_length(received)  # here as well: what follows the encoded text decodes to no piece
            for piece in _pieces(decoder, chunk):
                decoded += len(piece)
                _check_length(decoded)
                yield piece
                if decoder is not None:
                    await asyncio.sleep(0)
        if decoder is not None and received and not decoder.eof:
            raise BodyNotDecodable("The vendor's answer ends in the middle.")

    @override
    async def aclose(self) -> None:
        await self._stream.aclose()


def _check_length(size: int) -> None:
    if size > MAX_BODY_BYTES:
        raise BodyTooLong("The vendor's answer is too long.")


def _decoder(codings: list[str]) -> _Decompress | None:
    """What decodes an answer, although none was asked to be encoded.

    Raises:
        BodyNotDecodable: It is encoded in a way that is not bounded here, or twice.
    """
    if not codings:
        return None
    if len(codings) > 1 or codings[0] not in _WINDOWS:
        raise BodyNotDecodable("The vendor's answer is encoded in a way that was not asked for.")
    return zlib.decompressobj(_WINDOWS[codings[0]])


def _pieces(decoder: _Decompress | None, chunk: bytes) -> Iterator[bytes]:
    """The chunk decoded, never more at once than a piece."""
    if decoder is None:
        yield chunk
        return
    while chunk and not decoder.eof:
        try:
            piece = decoder.decompress(chunk, _PIECE_BYTES)
        except zlib.error as error:
            raise BodyNotDecodable("The vendor's answer is not encoded as it says.") from error
        yield piece
        chunk = decoder.unconsumed_tail
