"""report_failure, with the records that Lambda sends to a failure destination."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.entrypoints.aws_lambda.conftest import Functions, read_event

FUNCTION = "report_failure"


@pytest.fixture(autouse=True)
def empty_queue(functions: Functions) -> None:
    functions.results("failures")
    functions.lines()


def reported(functions: Functions, record: dict[str, Any]) -> dict[str, Any]:
    functions.run(FUNCTION, record)
    [result] = functions.results("failures")
    return dict(result)


def test_an_error_of_the_gateway_is_told_as_queued_calls_get_it(functions: Functions) -> None:
    record = read_event("report_failure_refused")
    result = reported(functions, record)
    assert result == json.loads(record["responsePayload"]["errorMessage"])
    assert (result["correlation_id"], result["error"]["code"]) == ("ticket-1017", "missing_variables")


def test_a_crash_is_told_as_a_call_that_may_have_been_paid_for(functions: Functions) -> None:
    record = read_event("report_failure_crashed")
    result = reported(functions, record)
    error = result["error"]
    assert (error["code"], error["retryable"]) == ("call_interrupted", False)
    assert error["request_id"] == record["requestContext"]["requestId"]
    assert error["details"] == {"condition": "RetriesExhausted"}
    assert result["correlation_id"] == "ticket-1018"


@pytest.mark.parametrize("event", ["report_failure_refused", "report_failure_crashed"])
def test_nothing_of_the_request_but_its_name_goes_on(functions: Functions, event: str) -> None:
    record = read_event(event)
    record["requestPayload"]["variables"] = {"ticket": "canary-4711"}
    assert "canary-4711" not in json.dumps(reported(functions, record))
    lines = functions.lines()
    assert [line["message"] for line in lines] == ["failure reported"]
    assert "canary-4711" not in json.dumps(lines)


@pytest.mark.parametrize(
    "message",
    [
        "canary-4711",
        json.dumps("canary-4711"),
        json.dumps({"canary-4711": 1}),
        json.dumps({"error": "canary-4711", "correlation_id": None}),
        json.dumps({"error": {"message": "canary-4711"}, "correlation_id": None}),
        json.dumps({"error": {}, "correlation_id": None, "more": "canary-4711"}),
        None,
        4711,
    ],
)
def test_the_message_of_a_crash_is_told_to_nobody(functions: Functions, message: Any) -> None:
    record = read_event("report_failure_crashed")
    record["responsePayload"] = {"errorMessage": message, "errorType": "KeyError"}
    result = reported(functions, record)
    assert result["error"]["code"] == "call_interrupted"
    assert "canary-4711" not in json.dumps(result)


@pytest.mark.parametrize("payload", [None, [], "text", {"correlation_id": "not a name"}])
def test_a_request_without_a_name_has_none_in_its_failure(functions: Functions, payload: Any) -> None:
    record = {**read_event("report_failure_crashed"), "requestPayload": payload, "responsePayload": None}
    assert reported(functions, record)["correlation_id"] is None
