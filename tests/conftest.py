"""Fixtures of every suite: a clean environment, and one local AWS for those that ask for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from local_aws.emulator import Emulator
    from local_aws.stack import Stack


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's own AWS or OpenAI settings reaches a test."""
    for name in os.environ:
        if name.startswith(("AWS_", "OPENAI_", "LLM_GATEWAY_", "POWERTOOLS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """One AWS emulator for the whole run, permissions enforced."""
    from local_aws import emulator as local  # unit tests need not wait for it

    with local.running(f"tests-{os.getpid()}") as running:
        yield running


@pytest.fixture(scope="session")
def stack(emulator: Emulator) -> Stack:
    """The deployed gateway, in test mode, without prompts."""
    from local_aws.stack import deploy

    return deploy(emulator, TestLatency="none")
