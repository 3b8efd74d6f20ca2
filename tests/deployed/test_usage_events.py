"""Each call as an event, negotiated rates, the usage commands: a deployment with a bus and a models file."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
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
RATES = "negotiated"
NEGOTIATED = {
    "models": [{"provider": "openai", "name": "gpt-4o", "price": {"input": "1.25", "output": "5.5"}}]
}
MILLION = Decimal(1_000_000)
ATTACHED = {"team": "checkout ✓", "=1+1": ""}


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
        boto3.client("s3", **running.client_arguments).create_bucket(Bucket=RATES)  # type: ignore[call-overload]
        stack = deploy(
            running, TestLatency="none", UsageEventBus=BUS, ModelsFileBucket=RATES, ModelsFileKey="rates.json"
        )
        stack.s3.put_object(Bucket=RATES, Key="rates.json", Body=json.dumps(NEGOTIATED).encode())
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
    told = told_of(stack, url, answers)
    assert len(told) == 5
    for detail in told:
        assert Decimal(detail["cost_usd"]) == Decimal(answers[detail["call_id"]]["cost_usd"])
    assert "CANARY-77" not in json.dumps(told)


def told_of(stack: Stack, url: str, call_ids: Collection[str]) -> list[dict[str, Any]]:
    """What the subscriber hears until all these calls are among it."""
    told: list[dict[str, Any]] = []

    def all_arrived() -> bool:
        for message in stack.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            stack.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            told.append(json.loads(message["Body"])["detail"])
        return set(call_ids) <= {detail["call_id"] for detail in told}

    wait_until(all_arrived, "every call is told")
    return told


def test_a_call_costs_the_negotiated_rate_of_the_file(subscribed: tuple[Stack, str]) -> None:
    stack, _ = subscribed
    request = {"prompt": "hello", "variables": {"name": "Ada"}, "model": "gpt-4o"}
    for answer in (stack.request("POST", "/v1/call", body=request).json(), stack.invoke(request)):
        tokens = answer["usage"]
        expected = tokens["input_tokens"] * Decimal("1.25") + tokens["output_tokens"] * Decimal("5.5")
        assert Decimal(answer["cost_usd"]) == expected / MILLION > 0
    listed = stack.request("GET", "/v1/models").json()["models"]
    [price] = [model["price"] for model in listed if model["id"] == "openai/gpt-4o"]
    assert (price["input"], price["output"], price["cached_input"]) == ("1.25", "5.5", None)


def test_a_queued_call_costs_the_negotiated_rate_and_keeps_what_was_attached(
    subscribed: tuple[Stack, str],
) -> None:
    stack, url = subscribed
    stack.queue_call(
        {"prompt": "hello", "variables": {"name": "Ada"}, "model": "gpt-4o", "metadata": ATTACHED}
    )
    answers: list[dict[str, Any]] = []

    def answered() -> bool:
        answers.extend(stack.results())
        return bool(answers)

    wait_until(answered, "the queued call is answered")
    tokens = answers[0]["usage"]
    expected = tokens["input_tokens"] * Decimal("1.25") + tokens["output_tokens"] * Decimal("5.5")
    assert Decimal(answers[0]["cost_usd"]) == expected / MILLION
    told = {detail["call_id"]: detail for detail in told_of(stack, url, [answers[0]["call_id"]])}
    assert told[answers[0]["call_id"]]["metadata"] == ATTACHED


def test_no_function_may_read_another_file_of_that_bucket(subscribed: tuple[Stack, str]) -> None:
    stack, _ = subscribed
    stack.s3.put_object(Bucket=RATES, Key="other.json", Body=json.dumps(NEGOTIATED).encode())
    functions = stack.functions.list_functions()["Functions"]
    [name] = [f["FunctionName"] for f in functions if "ListModels" in f["FunctionName"]]
    with stack.settings(name, LLM_GATEWAY_MODELS_FILE=f"s3://{RATES}/other.json"):
        assert stack.request("GET", "/v1/models").status_code >= 500
    assert stack.request("GET", "/v1/models").status_code == 200


def test_the_usage_commands_find_a_stack_by_its_name(
    subscribed: tuple[Stack, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, _ = subscribed
    use_own_credentials(stack, monkeypatch)
    stack.request("POST", "/v1/call", body={"prompt": "hello", "variables": {"name": "Ada"}})
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
    run("recover", lines=json.dumps(lost))
    exported.append(lost)
    wait_until(all_counted, "the recovered call is counted by the stream")


def test_a_rebuild_tells_and_mends_a_disturbed_sum_and_finds_nothing_the_second_time(
    subscribed: tuple[Stack, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, _ = subscribed
    use_own_credentials(stack, monkeypatch)
    stack.request("POST", "/v1/call", body={"prompt": "hello", "variables": {"name": "Ada"}})
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    day = today - timedelta(days=3)
    times = ("--start", day.isoformat(), "--end", (day + timedelta(days=1)).isoformat())
    now = ("--start", today.isoformat(), "--end", (today + timedelta(days=1)).isoformat())
    template = json.loads(run("export", *now, "--format", "jsonl").splitlines()[0])
    old = [
        {**template, "call_id": f"old-{n}", "started_at": (day + timedelta(hours=n)).isoformat()}
        for n in range(4)
    ]
    run("recover", lines="\n".join(json.dumps({**one, "message": "usage not recorded"}) for one in old))

    def totals() -> dict[str, Any]:
        [row] = json.loads(run("show", "--by", "day", *times, "--json"))["by"]["day"] or [{"totals": {}}]
        found: dict[str, Any] = row["totals"]
        return found

    wait_until(lambda: totals().get("requests") == 4, "the old calls are counted")
    before = totals()
    disturb(stack, f"rollup#day#{day:%Y-%m}", day)
    assert totals() != before
    told = run("rebuild", *times, "--dry-run", code=1)
    assert ("1 differ" in told, "found" in told) == (True, True)
    mended = run("rebuild", *times)
    assert ("1 differ" in mended, "repaired" in mended) == (True, True)
    assert "5 sums compared with 4 calls on the ledger: 0 differ" in run("rebuild", *times)
    assert totals() == before


def disturb(stack: Stack, partition: str, day: datetime) -> None:
    """Add to a day's sum what nobody spent."""
    dynamodb = boto3.client("dynamodb", **stack.emulator.client_arguments)  # type: ignore[call-overload]
    table = stack.outputs["UsageTableName"]
    [item] = dynamodb.query(
        TableName=table,
        KeyConditionExpression="pk = :pk AND begins_with(sk, :day)",
        ExpressionAttributeValues={":pk": {"S": partition}, ":day": {"S": day.isoformat()}},
    )["Items"]
    dynamodb.update_item(
        TableName=table,
        Key={"pk": item["pk"], "sk": item["sk"]},
        UpdateExpression="ADD input_tokens :seven, cost_usd :cent",
        ExpressionAttributeValues={":seven": {"N": "7"}, ":cent": {"N": "0.01"}},
    )


def use_own_credentials(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack.command_environment.items():
        if not name.startswith("LLM_GATEWAY_"):
            monkeypatch.setenv(name, value)


def run(*arguments: str, lines: str | None = None, code: int = 0) -> str:
    """What a usage command prints about the stack, which it finds by its name."""
    result = CliRunner().invoke(create_app(), ["--stack", STACK_NAME, "usage", *arguments], input=lines)
    assert result.exit_code == code, result.output
    return result.stdout
