"""call_prompt_async: asynchronous invokes and the queue of calls, with the events that AWS sends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_gateway.usage.record import UsageRecord
from tests.entrypoints.aws_lambda.conftest import Functions, LambdaContext, read_event
from tests.entrypoints.aws_lambda.test_call_prompt import REPLY, ledger

FUNCTION = "call_prompt_async"


@pytest.fixture(autouse=True)
def stored_prompt(functions: Functions) -> None:
    functions.upload("support/reply.prompt", REPLY)
    functions.results("answers")
    functions.results("failures")
    functions.lines()


def paid(functions: Functions) -> list[UsageRecord]:
    return [record for record in ledger(functions) if record.status != "replayed"]


def batch(*bodies: str) -> dict[str, Any]:
    record = read_event("call_prompt_async_queue")["Records"][0]
    return {
        "Records": [{**record, "messageId": f"message-{n}", "body": body} for n, body in enumerate(bodies)]
    }


def request(**changes: Any) -> str:
    return json.dumps({**read_event("call_prompt_async_invoke"), **changes})


def test_an_asynchronous_invoke_returns_what_goes_to_the_success_destination(functions: Functions) -> None:
    result = functions.run(FUNCTION, "call_prompt_async_invoke")
    assert (result["correlation_id"], result["prompt"]["path"]) == ("ticket-1017", "support/reply.prompt")
    json.dumps(result)
    [record] = ledger(functions)
    assert (record.call_id, record.correlation_id) == (result["call_id"], "ticket-1017")


@pytest.mark.parametrize(
    ("event", "code", "correlation_id"),
    [
        ({"prompt": "absent", "correlation_id": "c-1"}, "prompt_not_found", "c-1"),
        ({"prompt": "support/reply", "correlation_id": "c 1"}, "invalid_parameter", None),
        ({"prompt": "x", "wrong": 1, "correlation_id": "c-1"}, "unknown_field", "c-1"),
        ([], "invalid_request", None),
        (None, "invalid_request", None),
    ],
)
def test_an_error_is_raised_so_that_it_goes_to_the_failure_destination(
    functions: Functions, event: Any, code: str, correlation_id: str | None
) -> None:
    with pytest.raises(Exception, match=code) as caught:
        functions.run(FUNCTION, event)
    result = json.loads(str(caught.value))
    assert type(caught.value).__name__ == "CallFailed"
    assert (result["error"]["code"], result["correlation_id"]) == (code, correlation_id)


def test_an_invoke_that_lambda_delivers_twice_is_paid_for_once(functions: Functions) -> None:
    context = LambdaContext()
    first, again = (functions.run(FUNCTION, "call_prompt_async_invoke", context) for _ in range(2))
    assert (first["call_id"], again["replayed"]) == (again["call_id"], True)
    assert len(paid(functions)) == 1


def test_a_batch_is_answered_message_by_message_and_poison_is_told_of_and_done_with(
    functions: Functions,
) -> None:
    assert functions.run(FUNCTION, "call_prompt_async_queue") == {"batchItemFailures": []}
    [answer] = functions.results("answers")
    assert (answer["correlation_id"], bool(answer["text"])) == ("ticket-1017", True)
    failures = {f["error"]["code"]: f["correlation_id"] for f in functions.results("failures")}
    assert failures == {"missing_variables": "ticket-1018", "malformed_json": None}
    assert len(paid(functions)) == 1


def test_a_message_delivered_again_is_answered_again_and_paid_for_once(functions: Functions) -> None:
    for delivery in ("first", "second"):
        functions.run(FUNCTION, batch(request(metadata={"delivery": delivery})))
    assert sorted((r.status, r.metadata["delivery"]) for r in ledger(functions)) == [
        ("answered", "first"),
        ("replayed", "second"),
    ]
    first, again = functions.results("answers")
    assert (first["call_id"], again["replayed"]) == (again["call_id"], True)
    assert len(paid(functions)) == 1


@pytest.mark.parametrize("code", ["provider_unavailable", "provider_auth_failed", "provider_quota_exhausted"])
def test_a_failure_that_may_pass_or_is_the_operators_is_delivered_again_and_the_others_are_not(
    functions: Functions, code: str
) -> None:
    flaky = "---\ngateway.mock: {errors: [" + ", ".join([code] * 8) + "]}\n---\nHi"
    functions.upload("flaky.md", flaky, "02")
    event = batch(request(), json.dumps({"prompt": "flaky"}), request(correlation_id="other"))
    assert functions.run(FUNCTION, event) == {"batchItemFailures": [{"itemIdentifier": "message-1"}]}
    assert len(functions.results("answers")) == 2
    assert functions.results("failures") == []


def test_an_answer_that_cannot_be_sent_is_sent_by_the_next_delivery_and_not_paid_for_again(
    fragile: Functions,
) -> None:
    fragile.upload("support/reply.prompt", REPLY)
    name = fragile.queues["answers"].rpartition("/")[2]
    fragile.sqs.delete_queue(QueueUrl=fragile.queues["answers"])
    event = batch(request())
    assert fragile.run(FUNCTION, event) == {"batchItemFailures": [{"itemIdentifier": "message-0"}]}
    fragile.sqs.create_queue(QueueName=name)
    assert fragile.run(FUNCTION, event) == {"batchItemFailures": []}
    [answer] = fragile.results("answers")
    assert answer["replayed"] is True
    assert len(paid(fragile)) == 1


def test_messages_of_a_batch_are_answered_side_by_side(functions: Functions) -> None:
    functions.upload("slow.md", "---\ngateway.mock: {delayMs: 400}\n---\nHi", "03")
    event = batch(*(json.dumps({"prompt": "slow", "correlation_id": f"c-{n}"}) for n in range(5)))
    functions.run(FUNCTION, event, LambdaContext(remaining_ms=2_900))
    assert len(functions.results("answers")) == 5


def test_neither_logs_nor_failures_hold_content(functions: Functions) -> None:
    secret = {"user": {"name": "NAME-CANARY"}, "ticket": "TICKET-CANARY"}
    functions.run(FUNCTION, batch(request(variables=secret), request(variables={"ticket": "TICKET-CANARY"})))
    captured = functions.capture.readouterr()
    everything = captured.out + captured.err + json.dumps(functions.results("failures"))
    assert "CANARY" not in everything
