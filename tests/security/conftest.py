"""The handlers as tests/functions has them."""

from __future__ import annotations

from tests.functions.conftest import (
    fragile,
    functions,
    live,
    loopback_upstream,
    moto_clients,
    out_of_test_mode,
    shared,
    upstream,
)

__all__ = [
    "fragile",
    "functions",
    "live",
    "loopback_upstream",
    "moto_clients",
    "out_of_test_mode",
    "shared",
    "upstream",
]
