"""Budgets as callers and operators see them, by the real handlers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.entrypoints.aws_lambda.conftest import Functions, read_event

LIMITS = {"shop": {"month_tokens": 17_000}, "billing": {"day_usd": "0.000000001"}}


@pytest.fixture
def limited(fragile: Functions) -> Iterator[Functions]:
    fragile.settings = {"LLM_GATEWAY_BUDGETS": json.dumps(LIMITS)}
    with pytest.MonkeyPatch.context() as patch:
        fragile.attend(fragile.capture, patch)
        fragile.upload("support/reply.prompt", "{{ user.name }}: {{ ticket }}")
        fragile.lines()
        yield fragile


def test_over_budget_is_a_429_over_http_with_a_reset_time_and_a_metric(limited: Functions) -> None:
    first = limited.run("call_prompt", "call_prompt_http")
    assert first["statusCode"] == 200
    spent = json.loads(first["body"])["usage"]["total_tokens"]
    [item] = limited.dynamodb.scan(TableName=limited.budget_table)["Items"]
    assert item["used#month#tokens"] == {"N": str(spent)}
    assert not [name for name in item if name.startswith("hold#")]
    limited.dynamodb.update_item(
        TableName=limited.budget_table,
        Key={"pk": item["pk"], "sk": item["sk"]},
        UpdateExpression="SET #used = :most",
        ExpressionAttributeNames={"#used": "used#month#tokens"},
        ExpressionAttributeValues={":most": {"N": "17000"}},
    )
    limited.lines()
    answer = limited.run("call_prompt", "call_prompt_http")
    error = json.loads(answer["body"])["error"]
    assert (answer["statusCode"], error["code"], error["type"], error["retryable"]) == (
        429,
        "budget_exceeded",
        "budget_error",
        False,
    )
    now = datetime.now(UTC)
    reset = datetime.fromisoformat(error["details"].pop("resets_at"))
    assert error["details"] == {"window": "month", "unit": "tokens", "limit": 17_000}
    assert (reset.day, reset.hour, reset - now < timedelta(days=31)) == (1, 0, True)
    assert abs(int(answer["headers"]["retry-after"]) - (reset - now).total_seconds()) < 60
    assert error["request_id"] == read_event("call_prompt_http")["requestContext"]["requestId"]
    lines = limited.lines()
    reached = [line for line in lines if line.get("message") == "budget reached"]
    assert [(line["budget"], line["percent"]) for line in reached] == [("shop", 80), ("shop", 100)]
    assert {line["spent"] for line in reached} == {"17000"}
    assert [line["BudgetsReached100"] for line in lines if "BudgetsReached100" in line] == [[1.0]]
    assert len(limited.dynamodb.scan(TableName=limited.usage_table)["Items"]) == 1


def test_over_budget_is_the_same_error_by_invoke(limited: Functions) -> None:
    answer = limited.run("call_prompt", "call_prompt_direct")
    assert answer["error"]["code"] == "budget_exceeded"
    assert answer["error"]["details"]["limit"] == "0.000000001"
    assert limited.dynamodb.scan(TableName=limited.budget_table)["Items"] == []


def test_an_answer_that_is_given_again_costs_the_budget_nothing(limited: Functions) -> None:
    event = {**read_event("call_prompt_direct"), "calling_service": "shop", "idempotency_key": "order-1017"}
    limited.run("call_prompt", event)
    [before] = limited.dynamodb.scan(TableName=limited.budget_table)["Items"]
    assert limited.run("call_prompt", event)["replayed"] is True
    assert limited.dynamodb.scan(TableName=limited.budget_table)["Items"] == [before]


def test_a_service_without_a_budget_leaves_no_trace_in_the_table(limited: Functions) -> None:
    event = {**read_event("call_prompt_direct"), "calling_service": "other"}
    assert limited.run("call_prompt", event)["text"]
    assert limited.dynamodb.scan(TableName=limited.budget_table)["Items"] == []
