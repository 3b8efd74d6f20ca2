"""Each call as an event, and the usage commands by the name of a stack, on a deployment with a bus."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import boto3
import pytest
from typer.testing import CliRunner

from llm_gateway.entrypoints.command_line.app import create_app
from local_aws import emulator as local
from local_aws.session import upload_and_wait, wait_until
from local_aws.stack import STACK_NAME, Stack, deploy

pytestmark = pytest.mark.aws

BUS = "calls"


@pytest.fixture(scope="module")
def subscribed() -> Iterator[tuple[Stack, str]]:
    """A stack with a bus, and a queue that subscribes to it."""
    with local.running(f"events-{os.getpid()}") as running:
        events = boto3.client("events", **running.client_arguments)  # type: ignore[call-overload]
        sqs = boto3.client("sqs", **running.client_arguments)  # type: ignore[call-overload]
        url = sqs.create_queue(QueueName="subscriber")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        events.create_event_bus(Name=BUS)
        pattern = {"source": ["llm-gateway"], "detail-type": ["llm-gateway call"]}
        events.put_rule(Name="calls", EventBusName=BUS, EventPattern=json.dumps(pattern))
        events.put_targets(Rule="calls", EventBusName=BUS, Targets=[{"Id": "queue", "Arn": arn}])
        stack = deploy(running, TestLatency="none", UsageEventBus=BUS)
        upload_and_wait(stack, "hello.md", b"Say hello to {{ name }}.")
        yield stack, url


def test_every_call_reaches_a_subscriber_with_its_id_and_its_cost_and_without_content(
    subscribed: tuple[Stack, str],
) -> None:
    stack, url = subscribed
    request = {"prompt": "hello", "variables": {"name": "CANARY-77"}, "calling_service": "shop"}
    answers = {
        a["call_id"]: a for a in (stack.request("POST", "/v1/call", body=request).json() for _ in range(5))
    }
    told: list[dict[str, Any]] = []

    def all_arrived() -> bool:
        for message in stack.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            stack.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            told.append(json.loads(message["Body"]))
        return answers.keys() <= {event["detail"]["call_id"] for event in told}

    wait_until(all_arrived, "every call is told")
    assert len(told) == 5
    for event in told:
        answer = answers[event["detail"]["call_id"]]
        assert Decimal(event["detail"]["cost_usd"]) == Decimal(answer["cost_usd"])
    assert "CANARY-77" not in json.dumps(told)


def test_the_usage_commands_find_a_stack_by_its_name(
    subscribed: tuple[Stack, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, _ = subscribed
    stack.request("POST", "/v1/call", body={"prompt": "hello", "variables": {"name": "Ada"}})
    for name, value in stack.command_environment.items():
        if not name.startswith("LLM_GATEWAY_"):
            monkeypatch.setenv(name, value)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(create_app(), ["--stack", STACK_NAME, "usage", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    now = datetime.now(UTC)
    times = (
        "--start",
        (now - timedelta(days=1)).isoformat(),
        "--end",
        (now + timedelta(hours=1)).isoformat(),
    )
    exported = [json.loads(line) for line in run("export", *times, "--format", "jsonl").splitlines()]

    def all_counted() -> bool:
        found = json.loads(run("show", "--by", "model", "--json"))["by"]["model"]
        return bool(sum(row["totals"]["requests"] for row in found) == len(exported))

    wait_until(all_counted, "every call is counted")
    lost = {**exported[0], "message": "usage not recorded", "call_id": "lost-1"}
    result = CliRunner().invoke(
        create_app(), ["--stack", STACK_NAME, "usage", "recover"], input=json.dumps(lost)
    )
    assert result.exit_code == 0, result.output
    exported.append(lost)
    wait_until(all_counted, "the recovered call is counted by the stream")
