"""Where a provider is: which URLs can be that, said before anything is sent there."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LONGEST_HOST = 253
_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*/*")
_ENDPOINTS = ("/chat/completions", "/completions", "/chat", "/responses", "/embeddings", "/models")
_NO_HOST = "must be a URL with a host and, if any, a port from 1 to 65535"


def checked_url(text: str) -> str:
    """The URL that `/chat/completions` is appended to, without a slash at its end.

    Raises:
        ValueError: The end of a sentence that says what is wrong, without the URL, which may hold a password.
    """
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("must not hold a space, a line end or a control character")
    if not text.isascii():
        raise ValueError("must be plain ASCII; write a name with other letters in its xn-- form")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(_NO_HOST) from None
    if problem := _problem(text, parts, port):
        raise ValueError(problem)
    return text.rstrip("/")


def is_host(text: str) -> bool:
    """True for an IP address without brackets, and for a name that DNS can hold."""
    try:
        ip_address(text)
    except ValueError:
        labels = text.removesuffix(".").split(".")
        numeric = labels[-1].isdigit()  # such a name is read as an IPv4 address, and this one is none
        return len(text) <= _LONGEST_HOST and not numeric and all(map(_LABEL.fullmatch, labels))
    return True


def sends_in_clear(url: str) -> bool:
    """True if what is sent to `url` leaves this machine without TLS."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not is_this_machine(parts.hostname or "")


def _problem(text: str, parts: SplitResult, port: int | None) -> str | None:
    if parts.scheme not in ("https", "http") or "://" not in text:
        return "must begin with https:// (or http://), as in https://api.openai.com/v1"
    if "@" in parts.netloc:
        return "must not hold a user name or password; the key has a setting of its own"
    host = parts.hostname or ""
    bracketed = parts.netloc.startswith("[")
    if port == 0 or parts.netloc.endswith(":") or bracketed != (":" in host) or not is_host(host):
        return _NO_HOST
    if "?" in text or "#" in text:
        return "must not hold '?' or '#'; a provider's 'query' in LLM_GATEWAY_MODELS is added to each request"
    if not _PATH.fullmatch(parts.path):
        return "must not hold '//', a backslash or another character that no path of a URL has"
    ending = next((e for e in _ENDPOINTS if parts.path.rstrip("/").lower().endswith(e)), None)
    return None if ending is None else f"must end before {ending}, which the gateway appends itself"


def is_this_machine(host: str) -> bool:
    """True for an address or a name that only this machine reaches."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
