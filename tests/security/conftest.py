"""The handlers as tests/entrypoints/aws_lambda has them."""

from __future__ import annotations

from tests.entrypoints.aws_lambda.conftest import (
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
