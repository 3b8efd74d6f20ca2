"""Proxies and certificates that the HTTP client takes from the environment, checked before use."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import httpx2

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_SCHEMES = ("http", "https", "socks5", "socks5h")
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")


def environment_faults(environ: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each variable that the HTTP client cannot use, without its value: it may be secret.

    Args:
        environ: The environment. Of a proxy's variable the lower case form counts, if both are set.
    """
    for name in _PROXIES:
        set_as = name.lower() if environ.get(name.lower()) else name
        if value := environ.get(set_as, ""):
            yield from (f"{set_as} {fault}." for fault in _proxy_faults(value))
    if environ.get("SSL_CERT_FILE"):
        yield from (f"SSL_CERT_FILE {fault}." for fault in _bundle_faults(environ["SSL_CERT_FILE"]))
    elif environ.get("SSL_CERT_DIR"):
        yield from (f"SSL_CERT_DIR {fault}." for fault in _folder_faults(environ["SSL_CERT_DIR"]))


def _proxy_faults(value: str) -> Iterator[str]:
    try:
        proxy = httpx2.URL(value if "://" in value else f"http://{value}")
    except (httpx2.InvalidURL, ValueError):
        yield "is no URL of a proxy, as in http://proxy.example.com:3128"
        return
    if proxy.scheme not in _SCHEMES or not proxy.host:
        yield f"must name a proxy by one of {', '.join(f'{scheme}://' for scheme in _SCHEMES)} and its host"
    elif proxy.scheme.startswith("socks") and find_spec("socksio") is None:
        yield "names a SOCKS proxy, which needs the package 'socksio'; install it or use an HTTP proxy"


def _bundle_faults(value: str) -> Iterator[str]:
    if not Path(value).is_file():
        yield "names a file of certificates that is not there"
        return
    try:
        ssl.create_default_context(cafile=value)
    except OSError as error:  # ssl.SSLError among them
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "it holds no certificate in PEM"
        yield f"names a file of certificates that cannot be used: {reason}"


def _folder_faults(value: str) -> Iterator[str]:
    folders = [Path(part) for part in value.split(":") if part]
    try:
        hashed = any(
            _HASHED.fullmatch(file.name) for folder in folders if folder.is_dir() for file in folder.iterdir()
        )
    except OSError as error:
        yield f"names a folder of certificates that cannot be read: {error.strerror}"
        return
    if not hashed:
        yield "names no folder of certificates as 'openssl rehash' makes it"
