"""Environments that start from a snapshot share nothing that was made when it was taken."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import snapshot_restore_py

from llm_gateway.bootstrap.services import Parts
from llm_gateway.entrypoints.aws_lambda.event_loop import event_loop
from llm_gateway.entrypoints.aws_lambda.function import LambdaHandler, loaded
from tests.entrypoints.aws_lambda.conftest import Functions, LambdaContext


@pytest.fixture
def hooks() -> Iterator[list[Any]]:
    registered = snapshot_restore_py.get_after_restore()
    before = len(registered)
    yield registered
    del registered[before:]


def restore(hook: Any) -> None:
    """What Lambda's runtime does in each environment."""
    function, arguments, keywords = hook
    function(*arguments, **keywords)


def test_a_restored_environment_has_parts_a_loop_and_a_seed_of_its_own(hooks: list[Any]) -> None:
    seen: list[tuple[Parts, Any, float]] = []

    def build(parts: Parts) -> LambdaHandler:
        seen.append((parts, event_loop(), random.random()))
        return lambda event, _context: {"made": len(seen), "event": event}

    random.seed(7)
    _, handler = loaded("snapshot", build)
    assert handler("first", LambdaContext()) == {"made": 1, "event": "first"}
    random.seed(7)  # as it is in memory when the snapshot is taken
    restore(hooks[-1])
    assert handler("second", LambdaContext()) == {"made": 2, "event": "second"}
    (parts, loop, number), (parts_again, loop_again, number_again) = seen
    assert parts is not parts_again
    assert loop is not loop_again
    assert number != number_again


def test_a_snapshot_forgets_the_prompts_it_was_taken_with(
    fragile: Functions, hooks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_GATEWAY_PROMPT_CACHE_TTL_S", "3600")

    def served() -> str:
        answer = fragile.run("call_prompt", {"prompt": "hello", "variables": {"name": "Ada"}})
        return str(answer["prompt"]["version"])

    first = fragile.upload("hello.md", "Hi {{ name }}")
    registered = len(hooks)
    assert served() == first
    second = fragile.upload("hello.md", "Hello {{ name }}", sequencer="02")
    assert served() == first  # for an hour
    restore(hooks[registered])
    assert served() == second
