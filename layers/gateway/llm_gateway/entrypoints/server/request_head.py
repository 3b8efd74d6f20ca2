"""What a request's head must have beyond HTTP's grammar, so that no two readers of it can disagree."""

from __future__ import annotations

from collections.abc import Sequence

from llm_gateway.errors import MalformedHttp, MethodNotAllowed

_VERSIONS = ("1.0", "1.1")


class Refused(Exception):
    """Stops the parser; the reason is kept by the connection."""


def checked_head(method: bytes, target: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Check a head that the parser found well formed.

    Args:
        method: As it was sent.
        target: The request target, as it was sent.
        version: Of HTTP, `1.1`.
        headers: Names in lower case.

    Raises:
        MalformedHttp: The head may mean two things, or nothing that is served here.
        MethodNotAllowed: It asks for a tunnel.
    """
    if method == b"CONNECT":
        raise MethodNotAllowed("The gateway is no proxy; it does not take CONNECT.")
    if version not in _VERSIONS:
        raise MalformedHttp("The gateway speaks HTTP/1.1 and HTTP/1.0 only.")
    if b"#" in target:
        raise MalformedHttp("A request target has no fragment; leave out '#' and what follows.")
    _check_host(version, headers)
    _check_transfer(version, headers)


def _check_host(version: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
    hosts = sum(name == b"host" for name, _ in headers)
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise MalformedHttp("A request has exactly one 'Host' header.")


def _check_transfer(version: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    if codings and (codings != [b"chunked"] or version == "1.0"):
        raise MalformedHttp("The gateway reads 'Transfer-Encoding: chunked' of HTTP/1.1, and no other.")
