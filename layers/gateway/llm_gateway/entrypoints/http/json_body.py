"""Request bodies: declared as plain JSON in UTF-8, and bounded."""

from __future__ import annotations

import re

from starlette.requests import ClientDisconnect, Request

from llm_gateway.errors import BodyTooLarge, CallCancelled, UnsupportedMediaType

_UTF_8 = {"utf-8", "utf8"}
_WORD = r"[\w!#$%&'*+.^`|~-]++"
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_PARAMETER = re.compile(
    rf"[ \t]*+(?:(?P<name>{_WORD})[ \t]*+=[ \t]*+(?P<value>{_WORD}|{_QUOTED})[ \t]*+)?(?:;|\Z)", re.ASCII
)


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
    if _charsets(parameters) - _UTF_8:
        raise UnsupportedMediaType("Send the body in UTF-8, and leave out any other 'charset'.")


def _charsets(parameters: str) -> set[str]:
    """Every character set that the parameters of a content type name, in lower case.

    `charset*` and `charset*0` name one as well: they are mail's way to encode and to continue a parameter.

    Raises:
        UnsupportedMediaType: The parameters are none in HTTP's grammar.
    """
    found, end = set(), 0
    while end < len(parameters):
        parameter = _PARAMETER.match(parameters, end)
        if parameter is None:
            raise UnsupportedMediaType("The parameters of 'Content-Type' cannot be read; leave them out.")
        if (parameter["name"] or "").lower().partition("*")[0] == "charset":
            found.add(parameter["value"].strip('"').lower())
        end = parameter.end()
    return found


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
