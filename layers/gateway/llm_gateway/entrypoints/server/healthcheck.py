"""Asks the process on this machine whether it is ready; `python -m` on this module ends with 0 if so."""

from __future__ import annotations

import http.client
import ssl
import sys

from llm_gateway.bootstrap.settings import Settings

_TIMEOUT_S = 4.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


def ready(settings: Settings) -> bool:
    """True if GET /health/ready says so; the certificate is our own and not checked."""
    host = _ANY.get(settings.host, settings.host)
    if settings.tls_certificate_file is None:
        connection = http.client.HTTPConnection(host, settings.http_port, timeout=_TIMEOUT_S)
    else:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            host, settings.http_port, timeout=_TIMEOUT_S, context=context
        )
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> int:
    """0 if the process that this environment configures is ready, 1 if not."""
    return 0 if ready(Settings.from_env()) else 1


if __name__ == "__main__":
    sys.exit(main())
