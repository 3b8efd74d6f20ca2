"""The deployed stack out of test mode: key from the secret, real HTTP to a loopback upstream."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local_aws import emulator as local
from local_aws.session import upload_and_wait, wait_until
from local_aws.stack import Stack, deploy, put_openai_key
from tests import upstream as loopback
from tests.upstream import Reply, Upstream, chat_completion, failure

pytestmark = pytest.mark.aws

KEY = "sk-CANARY-91ab"
REQUEST = {"prompt": "hello", "variables": {"name": "VARIABLE-CANARY"}, "calling_service": "upstream"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with loopback.running() as server:
        yield server


@pytest.fixture(scope="module")
def stack(upstream: Upstream) -> Iterator[Stack]:
    with local.running(f"tests-upstream-{os.getpid()}") as running:
        deployed = deploy(running, TestMode="false", OpenAIBaseUrl=upstream.url)
        upload_and_wait(deployed, "hello.md", b"PROMPT-CANARY {{ name }}")
        yield deployed


def call(stack: Stack) -> tuple[int, Any]:
    response = stack.request("POST", "/v1/call", body=REQUEST)
    return response.status_code, response.json()


def test_without_a_key_the_gateway_says_that_it_is_set_up_wrongly(stack: Stack, upstream: Upstream) -> None:
    status, body = call(stack)
    assert (status, body["error"]["code"]) == (500, "configuration_error")
    assert upstream.requests == []


def test_with_a_key_in_the_secret_the_next_call_is_answered_by_the_vendor(
    stack: Stack, upstream: Upstream
) -> None:
    put_openai_key(stack, KEY)
    upstream.answers(Reply(body=chat_completion("ANSWER-CANARY")))
    status, body = call(stack)
    assert status == 200
    assert (body["text"], body["test_mode"], body["cost_usd"]) == ("ANSWER-CANARY", False, "0.00024")
    assert body["usage"]["cached_input_tokens"] == 400
    assert upstream.keys == [f"Bearer {KEY}"]
    assert upstream.requests[-1]["messages"] == [{"role": "user", "content": "PROMPT-CANARY VARIABLE-CANARY"}]


def test_a_rate_limit_is_waited_out(stack: Stack, upstream: Upstream) -> None:
    upstream.answers(failure(429, "rate_limit_exceeded", retry_after="1"), Reply(body=chat_completion()))
    status, body = call(stack)
    assert (status, body["attempts"]) == (200, 2)


def test_our_own_bad_key_is_no_callers_401(stack: Stack, upstream: Upstream) -> None:
    upstream.answers(failure(401, "invalid_api_key"))
    status, body = call(stack)
    assert (status, body["error"]["code"]) == (502, "provider_auth_failed")
    assert "SECRET VENDOR TEXT" not in json.dumps(body)


def test_failures_are_counted_and_neither_key_nor_content_is_in_any_log(stack: Stack) -> None:
    today = datetime.now(UTC)
    start, end = (f"{today + timedelta(days=n):%Y-%m-%d}T00:00:00Z" for n in (0, 2))
    query = f"start={start}&end={end}&calling_service=upstream&group_by=status"

    def statuses() -> dict[str, int]:
        buckets = stack.request("GET", f"/v1/usage?{query}").json()["buckets"]
        return {b["group"]["status"]: b["totals"]["requests"] for b in buckets}

    wait_until(lambda: statuses() == {"answered": 2, "failed": 1}, "every call is counted")
    everything = (stack.emulator.folder / "emulator.log").read_text() + json.dumps(list(stack.log_lines()))
    assert "call answered" in everything
    for canary in (KEY, "PROMPT-CANARY", "VARIABLE-CANARY", "ANSWER-CANARY", "SECRET VENDOR TEXT"):
        assert canary not in everything
