"""Request bodies: declared as plain JSON in UTF-8, and bounded."""

from __future__ import annotations

from email.message import Message

from starlette.requests import ClientDisconnect, Request

from llm_gateway.errors import BodyTooLarge, CallCancelled, UnsupportedMediaType

_UTF_8 = {"utf-8", "utf8"}


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The body, declared as JSON.

    Raises:
        UnsupportedMediaType: The content type is not JSON in UTF-8, or the body is encoded.
        BodyTooLarge: More than `max_bytes`; no more than that is read.
        CallCancelled: The client went away before the body was complete.
    """
    _check_media_type(request.headers.get("content-type", ""))
    _check_encoding(request.headers.get("content-encoding", ""))
    _check_size(int(declared) if (declared := _declared_length(request)) else 0, max_bytes)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            _check_size(len(body), max_bytes)
    except ClientDisconnect:
        raise CallCancelled("The client went away before its request was complete.") from None
    return bytes(body)


def _check_media_type(value: str) -> None:
    media_type, _, parameters = value.partition(";")
    if media_type.strip().lower() != "application/json":
        raise UnsupportedMediaType("Send the body as JSON, with 'Content-Type: application/json'.")
    if parameters.strip() and _charsets(parameters) - _UTF_8:
        raise UnsupportedMediaType("Send the body in UTF-8, and leave out any other 'charset'.")


def _charsets(parameters: str) -> set[str]:
    """Every character set that the parameters of a content type name, in lower case."""
    parsed = Message()
    parsed["content-type"] = f"application/json;{parameters}"
    named = parsed.get_params(failobj=[])
    return {value.strip().lower() for name, value in named if name.strip().lower() == "charset"}


def _check_encoding(value: str) -> None:
    if value.strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType("Send the body as it is, without 'Content-Encoding'.")


def _declared_length(request: Request) -> str | None:
    value = request.headers.get("content-length", "")
    return value if value.isascii() and value.isdecimal() else None


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise BodyTooLarge(
            f"The body is larger than {max_bytes} bytes; send less.", details={"maximum": max_bytes}
        )
