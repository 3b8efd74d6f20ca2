"""Request bodies: declared as JSON, bounded, and exactly one JSON object."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from llm_gateway.errors import BodyTooLarge, UnsupportedMediaType
from llm_gateway.validation import decode_json


async def read_json(request: Request, max_bytes: int) -> Any:
    """The body as JSON; see read_body.

    Raises:
        MalformedJson: Not one JSON object.
    """
    return decode_json(await read_body(request, max_bytes))


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body, declared as JSON.

    Raises:
        UnsupportedMediaType: The content type is not JSON.
        BodyTooLarge: More than `max_bytes`; no more than that is read.
    """
    _check_media_type(request.headers.get("content-type", ""))
    _check_size(int(declared) if (declared := _declared_length(request)) else 0, max_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        _check_size(len(body), max_bytes)
    return bytes(body)


def _check_media_type(value: str) -> None:
    media_type = value.partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType("Send the body as JSON, with 'Content-Type: application/json'.")


def _declared_length(request: Request) -> str | None:
    value = request.headers.get("content-length", "")
    return value if value.isascii() and value.isdecimal() else None


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise BodyTooLarge(
            f"The body is larger than {max_bytes} bytes; send less.", details={"maximum": max_bytes}
        )
