"""Unit tests reach no network."""

from __future__ import annotations

import pytest
from pytest_socket import disable_socket


@pytest.fixture(autouse=True)
def no_network() -> None:
    # Unix sockets stay: an event loop needs a pair of them to wake itself.
    disable_socket(allow_unix_socket=True)
