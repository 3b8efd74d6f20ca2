"""Calls that nobody waits for, and calls that are made twice, on the deployed stack."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from local_aws import emulator as local
from local_aws.session import upload_and_wait, wait_until
from local_aws.stack import Stack, deploy, put_openai_key
from tests import upstream as loopback
from tests.upstream import Reply, Upstream, chat_completion, failure

pytestmark = [pytest.mark.aws, pytest.mark.alone]

REQUEST: dict[str, Any] = {"prompt": "hello", "variables": {"name": "Ada"}, "calling_service": "events"}
DUPLICATES = 12  # each at the same time is an environment to start; fifty are raced in test_idempotency.py


@pytest.fixture(scope="module")
def running_upstream() -> Iterator[Upstream]:
    with loopback.running() as server:
        yield server


@pytest.fixture(scope="module")
def stack(running_upstream: Upstream) -> Iterator[Stack]:
    with local.running(f"tests-events-{os.getpid()}") as running:
        deployed = deploy(running, TestMode="false", OpenAIBaseUrl=running_upstream.url)
        put_openai_key(deployed, "sk-test")
        upload_and_wait(deployed, "hello.md", b"Say hello to {{ name }}.")
        yield deployed


@pytest.fixture
def upstream(running_upstream: Upstream) -> Upstream:
    running_upstream.forget()
    return running_upstream


def results(stack: Stack, output: str, count: int = 1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def arrived() -> bool:
        found.extend(stack.results(output))
        return len(found) >= count

    wait_until(arrived, f"{count} results are in {output}")
    return found


def test_many_duplicates_at_once_are_one_call_of_the_vendor(stack: Stack, upstream: Upstream) -> None:
    upstream.answers(Reply(body=chat_completion("Once."), delay_s=1))

    def call(_: int) -> tuple[dict[str, Any], str | None]:
        while True:
            answer = stack.request("POST", "/v1/call", body={**REQUEST, "idempotency_key": "many"})
            if answer.status_code != 409:
                return answer.json(), answer.headers.get("idempotent-replayed")
            assert answer.json()["error"]["code"] == "idempotency_key_in_use"
            time.sleep(float(answer.headers["retry-after"]))

    with ThreadPoolExecutor(DUPLICATES) as pool:
        answers = list(pool.map(call, range(DUPLICATES)))
    assert len(upstream.requests) == 1
    assert {body["text"] for body, _ in answers} == {"Once."}
    assert len({body["call_id"] for body, _ in answers}) == 1
    assert [marked for _, marked in answers].count(None) == 1


def test_a_queued_call_is_answered_into_the_queue_of_answers(stack: Stack, upstream: Upstream) -> None:
    stack.queue_call({**REQUEST, "correlation_id": "queued-1"})
    [answer] = results(stack, "CallAnswersUrl")
    assert (answer["correlation_id"], answer["text"]) == ("queued-1", "Hello.")
    assert len(upstream.requests) == 1


def test_poison_is_told_of_and_does_not_hold_up_what_comes_behind_it(
    stack: Stack, upstream: Upstream
) -> None:
    stack.sqs.send_message(QueueUrl=stack.outputs["CallQueueUrl"], MessageBody="this is no JSON")
    stack.queue_call({**REQUEST, "prompt": "absent", "correlation_id": "queued-2"})
    stack.queue_call({**REQUEST, "correlation_id": "queued-3"})
    assert results(stack, "CallAnswersUrl")[0]["correlation_id"] == "queued-3"
    failures = {f["error"]["code"]: f["correlation_id"] for f in results(stack, "CallFailuresUrl", 2)}
    assert failures == {"malformed_json": None, "prompt_not_found": "queued-2"}
    assert len(upstream.requests) == 1


def test_an_asynchronous_invoke_that_fails_is_told_of_as_a_queued_call_is(
    stack: Stack, upstream: Upstream
) -> None:
    upstream.answers(failure(400, "context_length_exceeded"))
    stack.invoke_async({**REQUEST, "correlation_id": "async-1"})
    [told] = results(stack, "CallFailuresUrl")
    assert (told["correlation_id"], told["error"]["code"]) == ("async-1", "provider_rejected")
    assert told.keys() == {"correlation_id", "error"}  # and nothing of the request


def test_an_asynchronous_invoke_is_answered_and_on_the_ledger(stack: Stack, upstream: Upstream) -> None:
    """The local AWS sends nothing to a success destination, so the log has to do."""
    stack.invoke_async({**REQUEST, "correlation_id": "async-2"})

    def answered() -> bool:
        lines = stack.log_lines("CallPromptAsyncLogGroup")
        return any(line.get("correlation_id") == "async-2" for line in lines)

    wait_until(answered, "the call is answered")
    assert len(upstream.requests) == 1


def test_a_configured_provider_is_called_where_it_is_and_as_it_wants(stack: Stack) -> None:
    """Two OpenAI-compatible servers at once, by configuration alone; keys of both in the one secret."""
    with loopback.running() as ours, loopback.running() as theirs:
        models = {
            "providers": {
                "azure": {"base_url": ours.url, "auth": "api-key", "query": {"api-version": "2024-10-21"}},
                "ollama": {"base_url": theirs.url, "auth": "none"},
            },
            "models": [
                {
                    "provider": "azure",
                    "name": "our-4o",
                    "like": "openai/gpt-4o",
                    "fallbacks": ["ollama/llama"],
                },
                {"provider": "ollama", "name": "llama", "context_tokens": 8192, "max_output_tokens": 1024},
            ],
        }
        with local.running(f"tests-providers-{os.getpid()}") as running:
            deployed = deploy(running, TestMode="false", Models=json.dumps(models))
            put_openai_key(deployed, json.dumps({"openai": "sk-openai", "azure": "azure-key"}))
            upload_and_wait(deployed, "hello.md", b"Say hello to {{ name }}.")
            listed = deployed.request("GET", "/v1/models").json()["models"]
            assert {"azure/our-4o", "ollama/llama"} <= {model["id"] for model in listed}
            call = {**REQUEST, "model": "azure/our-4o"}
            answer = deployed.request("POST", "/v1/call", body=call).json()
            assert (answer["provider"], answer["model"], answer["cost_usd"]) == ("azure", "our-4o", "0.004")
            assert (ours.keys, ours.requests[0]["model"]) == ([None], "our-4o")
            assert (ours.headers[0]["api-key"], ours.paths[0]) == (
                "azure-key",
                "/v1/chat/completions?api-version=2024-10-21",
            )
            ours.answers(*(failure(503) for _ in range(4)))
            fallen = deployed.request("POST", "/v1/call", body=call).json()
            assert (fallen["provider"], fallen["model"], fallen["cost_usd"]) == ("ollama", "llama", None)
            assert theirs.keys == [None]
            wrong = deployed.request("POST", "/v1/call", body={**REQUEST, "model": "azure/our-4"}).json()
            assert wrong["error"]["details"] == {"nearest": ["our-4o"]}
