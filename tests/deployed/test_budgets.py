"""Budgets on the local AWS: fifty calls at once on the deployed tables, and the deployed function itself."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import boto3
import pytest

from llm_gateway.access.caller import OPEN
from llm_gateway.api.calls import CallRequest, CallResponse
from llm_gateway.bootstrap.services import Parts
from llm_gateway.bootstrap.settings import Settings
from llm_gateway.deadline import Deadline
from llm_gateway.errors import BudgetExceeded
from local_aws.session import upload_and_wait, wait_until
from local_aws.stack import Stack, put_openai_key
from tests import upstream as loopback
from tests.contract.tables import create_queue
from tests.upstream import Reply, Upstream, chat_completion

pytestmark = pytest.mark.aws

CALLS = 50
PROMPT = b"---\nconfig: {maxOutputTokens: 100}\n---\nSay hello."

USAGE = {"prompt_tokens": 40, "completion_tokens": 100, "total_tokens": 140}  # as many as it may be at most


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with loopback.running() as server:
        yield server


def item_of(stack: Stack, budget: str) -> dict[str, Any]:
    dynamodb = boto3.client("dynamodb", **stack.emulator.client_arguments)  # type: ignore[call-overload]
    table = stack.settings_of(stack.outputs["CallPromptFunctionName"])["LLM_GATEWAY_BUDGET_TABLE"]
    items = dynamodb.scan(TableName=table)["Items"]
    [item] = [item for item in items if item["pk"]["S"] == budget]
    return dict(item)


def test_fifty_at_once_do_not_cross_a_limit_together(
    stack: Stack, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_openai_key(stack, "sk-test")
    upload_and_wait(stack, "limited.md", PROMPT)
    upstream.answers(*[Reply(body=chat_completion("Hello.", usage=USAGE), delay_s=0.3)] * CALLS)
    service, limit = f"race-{uuid.uuid4().hex[:8]}", Decimal("0.001")
    for name, value in stack.command_environment.items():
        monkeypatch.setenv(name, value)
    overrides = {
        "LLM_GATEWAY_TEST_MODE": "false",
        "LLM_GATEWAY_OPENAI_BASE_URL": upstream.url,
        "LLM_GATEWAY_BUDGETS": json.dumps({service: {"day_usd": str(limit), "month_usd": "1"}}),
    }
    variables = stack.settings_of(stack.outputs["CallPromptFunctionName"]) | overrides
    parts = Parts(Settings.from_env(variables), "call_prompt")
    request = CallRequest.model_validate({"prompt": "limited", "calling_service": service})

    async def call(number: int) -> CallResponse | BudgetExceeded:
        try:
            return await parts.calls.call_prompt(request, f"request-{number}", Deadline.after(60), OPEN)
        except BudgetExceeded as error:
            return error

    async def race() -> list[CallResponse | BudgetExceeded]:
        with ThreadPoolExecutor(CALLS) as threads:
            asyncio.get_running_loop().set_default_executor(threads)
            try:
                return await asyncio.gather(*(call(number) for number in range(CALLS)))
            finally:
                await parts.close()

    ends = asyncio.run(race())
    answers = [end for end in ends if isinstance(end, CallResponse)]
    assert 1 <= len(answers) < CALLS
    assert len(upstream.requests) == len(answers)
    spent = sum((answer.cost_usd for answer in answers if answer.cost_usd is not None), Decimal(0))
    assert 0 < spent <= limit
    item = item_of(stack, service)
    assert Decimal(item["used#month#usd"]["N"]) == spent
    assert not [name for name in item if name.startswith("hold#")]


def test_the_deployed_function_keeps_budgets_and_tells_the_bus_when_one_is_used_up(stack: Stack) -> None:
    """With the function's own permissions and layers."""
    upload_and_wait(stack, "limited.md", PROMPT)
    url = create_queue(stack.sqs, "told")
    [arn] = stack.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"].values()
    events = boto3.client("events", **stack.emulator.client_arguments)  # type: ignore[call-overload]
    events.put_rule(Name="budgets", EventPattern=json.dumps({"source": ["llm-gateway"]}))
    events.put_targets(Rule="budgets", Targets=[{"Id": "queue", "Arn": arn}])
    service, name = f"shop-{uuid.uuid4().hex[:8]}", stack.outputs["CallPromptFunctionName"]
    with stack.settings(name, LLM_GATEWAY_BUDGETS=json.dumps({service: {"day_tokens": 230}})):
        call = {"prompt": "limited", "calling_service": service}
        ends = [stack.invoke(call) for _ in range(5)]
    codes = [end["error"]["code"] if "error" in end else "answered" for end in ends]
    assert (codes[0], codes[-1]) == ("answered", "budget_exceeded")
    told: list[dict[str, Any]] = []

    def exhausted() -> bool:
        for message in stack.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            told.append(json.loads(message["Body"]))
        return any(event["detail"]["percent"] == 100 for event in told)

    wait_until(exhausted, "the bus has told of the budget", within_s=15)
    [event] = [event for event in told if event["detail"]["percent"] == 100]
    assert (event["source"], event["detail-type"]) == ("llm-gateway", "Budget threshold reached")
    assert (event["detail"]["budget"], event["detail"]["limit"]) == (service, "230")
