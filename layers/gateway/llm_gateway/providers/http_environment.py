"""Proxies and certificates that the HTTP client takes from the environment, checked before use."""

from __future__ import annotations

import re
import ssl
import stat
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from llm_gateway.models.endpoint_url import is_host

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_SCHEMES = ("http", "https", "socks5", "socks5h")
_NO_PROXY_URL = "is no URL of a proxy with a host and, if any, a port from 1 to 65535, as in http://proxy.example.com:3128"
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
    set_as = "no_proxy" if environ.get("no_proxy") else "NO_PROXY"
    yield from (f"{set_as} {fault}." for fault in _exception_faults(environ.get(set_as, "")))
    if environ.get("SSL_CERT_FILE"):
        yield from (f"SSL_CERT_FILE {fault}." for fault in _bundle_faults(environ["SSL_CERT_FILE"]))
    elif environ.get("SSL_CERT_DIR"):
        yield from (f"SSL_CERT_DIR {fault}." for fault in _folder_faults(environ["SSL_CERT_DIR"]))


def _proxy_faults(value: str) -> Iterator[str]:
    try:
        proxy = httpx2.URL(value if "://" in value else f"http://{value}")
        port = urlsplit(str(proxy)).port
    except (httpx2.InvalidURL, ValueError):
        yield _NO_PROXY_URL
        return
    if proxy.host and (port == 0 or not is_host(proxy.raw_host.decode())):
        yield _NO_PROXY_URL
    elif proxy.scheme not in _SCHEMES or not proxy.host:
        yield f"must name a proxy by one of {', '.join(f'{scheme}://' for scheme in _SCHEMES)} and its host"
    elif proxy.scheme.startswith("socks") and find_spec("socksio") is None:
        yield "names a SOCKS proxy, which needs the package 'socksio'; install it or use an HTTP proxy"


def _exception_faults(value: str) -> Iterator[str]:
    """The client passes over exceptions that are no URL, and fails at names that it cannot decode."""
    for name in value.split(","):
        try:
            _ = httpx2.URL(f"all://*{name.strip()}").host
        except httpx2.InvalidURL:
            continue
        except ValueError:
            yield "holds a name in xn-- form, which the HTTP client cannot read; give the address instead"
            return


def _bundle_faults(value: str) -> Iterator[str]:
    try:
        if not stat.S_ISREG(Path(value).stat().st_mode):
            raise FileNotFoundError
        ssl.create_default_context(cafile=value)
    except (FileNotFoundError, NotADirectoryError):
        yield "names a file of certificates that is not there"
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
