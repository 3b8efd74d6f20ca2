"""Fifty duplicates at once: the gateway's own parts, the local AWS's tables, a vendor on loopback."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import pytest

from llm_gateway.access.caller import OPEN
from llm_gateway.api.calls import CallRequest, CallResponse
from llm_gateway.bootstrap.services import Parts
from llm_gateway.bootstrap.settings import Settings
from llm_gateway.deadline import Deadline
from llm_gateway.errors import IdempotencyKeyInUse
from local_aws.session import upload_and_wait
from local_aws.stack import Stack, put_openai_key
from tests import upstream as loopback
from tests.upstream import Reply, Upstream, chat_completion

pytestmark = pytest.mark.aws

DUPLICATES = 50


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with loopback.running() as server:
        yield server


@pytest.fixture
def parts(stack: Stack, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Parts:
    """What call_prompt is made of, on the deployed function's own configuration."""
    put_openai_key(stack, "sk-test")
    upload_and_wait(stack, "once.md", b"Say hello to {{ name }}.")
    for name, value in stack.command_environment.items():
        monkeypatch.setenv(name, value)
    overrides = {"LLM_GATEWAY_TEST_MODE": "false", "LLM_GATEWAY_OPENAI_BASE_URL": upstream.url}
    variables = stack.settings_of(stack.outputs["CallPromptFunctionName"]) | overrides
    return Parts(Settings.from_env(variables), "call_prompt")


def test_fifty_duplicates_at_once_are_one_call_and_one_payment(
    stack: Stack, parts: Parts, upstream: Upstream
) -> None:
    upstream.answers(Reply(body=chat_completion("Once."), delay_s=0.5))
    service = f"race-{uuid.uuid4().hex[:8]}"
    request = CallRequest.model_validate(
        {
            "prompt": "once",
            "variables": {"name": "Ada"},
            "calling_service": service,
            "idempotency_key": "order-1017",
        }
    )

    async def patient(number: int) -> CallResponse:
        while True:
            try:
                return await parts.calls.call_prompt(request, f"request-{number}", Deadline.after(60), OPEN)
            except IdempotencyKeyInUse as error:
                await asyncio.sleep(error.retry_after_s or 1)

    async def race() -> list[CallResponse]:
        try:
            return await asyncio.gather(*(patient(number) for number in range(DUPLICATES)))
        finally:
            await parts.close()

    answers = asyncio.run(race())
    assert len(upstream.requests) == 1
    assert {answer.text for answer in answers} == {"Once."}
    assert len({answer.call_id for answer in answers}) == 1
    assert [answer.replayed for answer in answers].count(False) == 1
