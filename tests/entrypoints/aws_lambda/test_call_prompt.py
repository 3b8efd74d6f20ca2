"""call_prompt: over HTTP and by direct invoke, with the events that AWS sends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_gateway.adapters.aws.ledger import record_of
from tests.entrypoints.aws_lambda.conftest import Functions, LambdaContext, read_event

REPLY = "---\ndescription: Replies.\n---\nsystem:\nBe kind.\nuser:\n{{ user.name }}: {{ ticket }}\n"


@pytest.fixture(autouse=True)
def stored_prompt(functions: Functions) -> str:
    version = functions.upload("support/reply.prompt", REPLY)
    functions.lines()
    return version


def ledger(functions: Functions) -> list[Any]:
    items = functions.dynamodb.scan(TableName=functions.usage_table)["Items"]
    return [record_of(item) for item in items]


def test_a_call_over_http_is_answered_counted_and_logged(functions: Functions, stored_prompt: str) -> None:
    status, body = functions.http("call_prompt", "call_prompt_http")
    assert status == 200
    assert body["prompt"] == {"path": "support/reply.prompt", "version": stored_prompt, "label": None}
    assert body["test_mode"] is True
    assert body["usage"]["total_tokens"] == body["usage"]["input_tokens"] + body["usage"]["output_tokens"]
    [record] = ledger(functions)
    assert (record.call_id, record.calling_service, record.test_mode) == (body["call_id"], "shop", True)
    line, served = functions.lines()
    assert line["message"] == "call answered"
    assert line["service"] == "call_prompt"
    assert line["environment"] == "local"
    assert line["call_id"] == body["call_id"]
    assert line["request_id"] == read_event("call_prompt_http")["requestContext"]["requestId"]
    directives = line["_aws"]["CloudWatchMetrics"]
    named = {m["Name"]: line[m["Name"]] for directive in directives for m in directive["Metrics"]}
    assert (named["Calls"], named["InputTokens"]) == (1, body["usage"]["input_tokens"])
    assert named["UpstreamLatency"] + named["OverheadLatency"] == named["CallLatency"]
    assert all(dimension in line for directive in directives for dimension in directive["Dimensions"][0])
    assert (served["Requests"], served["service"]) == ([1.0], "call_prompt")


def test_a_direct_invoke_gives_the_same_answer_without_an_envelope(functions: Functions) -> None:
    context = LambdaContext()
    answer = functions.run("call_prompt", "call_prompt_direct", context)
    assert answer["prompt"]["path"] == "support/reply.prompt"
    assert isinstance(answer["cost_usd"], str)
    json.dumps(answer)
    [record] = ledger(functions)
    assert (record.request_id, record.calling_service) == (context.aws_request_id, "billing")


def test_a_missing_variable_is_named_in_both_ways_in(functions: Functions) -> None:
    status, over_http = functions.http("call_prompt", "call_prompt_missing_variable")
    direct = functions.run("call_prompt", {"prompt": "support/reply", "variables": {"ticket": "x"}})
    assert status == 400
    for body in (over_http, direct):
        assert body["error"]["code"] == "missing_variables"
        assert body["error"]["details"] == {"missing": ["user.name"]}
    assert ledger(functions) == []


def test_no_line_holds_a_variable_a_prompt_an_answer_or_what_a_caller_attached(functions: Functions) -> None:
    functions.upload("secret.prompt", "PROMPT-CANARY {{ ticket }}", "02")
    event = {
        "prompt": "secret",
        "variables": {"ticket": "VARIABLE-CANARY"},
        "metadata": {"team": "METADATA-CANARY"},
    }
    answer = functions.run("call_prompt", event)
    functions.run("call_prompt", {**event, "version": "VARIABLE-CANARY"})
    functions.run("call_prompt", {**event, "variables": {"x": "VARIABLE-CANARY"}})
    functions.run("call_prompt", {**event, "VARIABLE-CANARY": 1})
    functions.run("call_prompt", {**event, "parameters": {"temperature": "VARIABLE-CANARY"}})
    functions.run("call_prompt", {**event, "metadata": {"METADATA-CANARY": 1}})
    functions.run("call_prompt", http(json.dumps({**event, "variables": ["VARIABLE-CANARY"]})))
    functions.run("call_prompt", http('{"prompt": "VARIABLE-CANARY'))
    captured = functions.capture.readouterr()
    for canary in ("PROMPT-CANARY", "VARIABLE-CANARY", "METADATA-CANARY", answer["text"]):
        assert canary not in captured.out + captured.err
    [item] = ledger(functions)
    assert item.metadata == {"team": "METADATA-CANARY"}


def http(body: str | None, **changes: Any) -> dict[str, Any]:
    event = read_event("call_prompt_http")
    headers = {**event["headers"], **changes.pop("headers", {})}
    multi = {name: [value] for name, value in headers.items()}
    return {**event, "body": body, "headers": headers, "multiValueHeaders": multi, **changes}


GOOD = json.dumps({"prompt": "support/reply", "variables": {"user": {"name": "A"}, "ticket": "T"}})


@pytest.mark.parametrize(
    ("event", "status", "code"),
    [
        (http(None), 400, "malformed_json"),
        (http(""), 400, "malformed_json"),
        (http("{"), 400, "malformed_json"),
        (http("[]"), 400, "malformed_json"),
        (http('{"prompt": "a", "timeout_s": NaN}'), 400, "malformed_json"),
        (http("[" * 100_000), 400, "malformed_json"),
        (http("{}"), 400, "invalid_request"),
        (http(GOOD, headers={"Content-Type": "text/plain"}), 415, "unsupported_media_type"),
        (http(GOOD, headers={"Content-Type": ""}), 415, "unsupported_media_type"),
        (http(json.dumps({"prompt": "x" * 1_100_000})), 413, "body_too_large"),
        (http("!", isBase64Encoded=True), 400, "malformed_json"),
        (http("a", isBase64Encoded=True), 400, "invalid_request"),
        (http(GOOD, httpMethod="PUT"), 405, "method_not_allowed"),
        (http(GOOD, path="/v1/other"), 404, "route_not_found"),
        (http('{"prompt": "absent"}'), 404, "prompt_not_found"),
        (http('{"prompt": "../secret.txt"}'), 400, "invalid_prompt_path"),
        (http('{"prompt": "/etc/passwd"}'), 400, "invalid_prompt_path"),
        (http('{"prompt": "a\\u0000b"}'), 400, "invalid_prompt_path"),
        (http('{"prompt": "a\\\\..\\\\b"}'), 400, "invalid_prompt_path"),
        (http('{"prompt": "_partials/tone.md"}'), 404, "prompt_not_found"),
        (http('{"prompt": "support/reply", "provider": "nobody"}'), 400, "unknown_provider"),
        (http('{"prompt": "support/reply", "model": "gpt-none"}'), 400, "unknown_model"),
    ],
)
def test_bad_input_is_a_4xx_with_a_stable_code(
    functions: Functions, event: dict[str, Any], status: int, code: str
) -> None:
    answered, body = functions.http("call_prompt", event)
    assert (answered, body["error"]["code"]) == (status, code)
    assert set(body["error"]) == {
        "message", "type", "code", "param", "request_id", "retryable", "details",
    }  # fmt: skip
    assert "Traceback" not in json.dumps(body)
    assert ledger(functions) == []


def test_a_body_may_come_base64_encoded_and_the_media_type_with_a_charset(functions: Functions) -> None:
    import base64

    encoded = base64.b64encode(GOOD.encode()).decode()
    event = http(encoded, isBase64Encoded=True, headers={"Content-Type": "Application/JSON; charset=utf-8"})
    assert functions.http("call_prompt", event)[0] == 200


def test_answers_name_the_request(functions: Functions) -> None:
    answer = functions.run("call_prompt", "call_prompt_http")
    assert answer["headers"]["x-request-id"] == read_event("call_prompt_http")["requestContext"]["requestId"]


def test_without_time_left_nothing_is_begun(functions: Functions) -> None:
    answer = functions.run("call_prompt", "call_prompt_direct", LambdaContext(remaining_ms=1_000))
    assert (answer["error"]["code"], answer["error"]["retryable"]) == ("store_unavailable", True)
    assert ledger(functions) == []


def test_a_ledger_that_refuses_costs_the_caller_nothing_and_the_record_waits_in_the_queue(
    fragile: Functions,
) -> None:
    fragile.upload("support/reply.prompt", REPLY)
    fragile.dynamodb.delete_table(TableName=fragile.usage_table)
    answer = fragile.run("call_prompt", "call_prompt_direct")
    assert answer["text"]
    [waiting] = fragile.results("usage")
    assert waiting["call_id"] == {"S": answer["call_id"]}
    [line] = [line for line in fragile.lines() if line.get("message") == "ledger refused"]
    assert (line["call_id"], line["reason"]) == (answer["call_id"], "ResourceNotFoundException")


def test_with_the_queue_gone_too_the_record_is_in_the_log(fragile: Functions) -> None:
    fragile.upload("support/reply.prompt", REPLY)
    fragile.dynamodb.delete_table(TableName=fragile.usage_table)
    fragile.sqs.delete_queue(QueueUrl=fragile.queues["usage"])
    answer = fragile.run("call_prompt", "call_prompt_direct")
    assert answer["text"]
    [lost] = [line for line in fragile.lines() if line.get("message") == "usage not recorded"]
    assert lost["call_id"] == answer["call_id"]
    assert lost["cost_usd"] == answer["cost_usd"]
    assert lost["input_tokens"] == answer["usage"]["input_tokens"]


def test_an_index_that_is_gone_is_a_503_that_invites_a_retry(fragile: Functions) -> None:
    fragile.dynamodb.delete_table(TableName=fragile.prompt_table)
    status, body = fragile.http("call_prompt", "call_prompt_http")
    assert (status, body["error"]["code"], body["error"]["retryable"]) == (503, "store_unavailable", True)


def test_the_same_key_over_http_and_by_invoke_is_one_call_and_one_payment(functions: Functions) -> None:
    event = http(GOOD, headers={"Idempotency-Key": "order-1017"})
    first, again = (functions.run("call_prompt", event) for _ in range(2))
    assert "idempotent-replayed" not in first["headers"]
    assert again["headers"]["idempotent-replayed"] == "true"
    asked = {**json.loads(GOOD), "idempotency_key": "order-1017", "calling_service": "shop"}
    direct = functions.run("call_prompt", asked)
    bodies = [json.loads(first["body"]), json.loads(again["body"]), direct]
    assert [body.pop("replayed") for body in bodies] == [False, True, True]
    assert bodies[0] == bodies[1] == bodies[2]
    first_record, *replays = sorted(ledger(functions), key=lambda record: record.started_at)
    assert (first_record.status, first_record.call_id) == ("answered", bodies[0]["call_id"])
    assert [(r.status, r.usage.total_tokens, r.cost_usd, r.attempts) for r in replays] == [
        ("replayed", 0, 0, 0)
    ] * 2


def test_a_key_that_the_body_leaves_open_is_the_headers(functions: Functions) -> None:
    body = json.dumps({**json.loads(GOOD), "idempotency_key": None})
    first, again = (
        functions.http("call_prompt", http(body, headers={"Idempotency-Key": "order-2"})) for _ in range(2)
    )
    assert (first[0], again[0], again[1]["replayed"]) == (200, 200, True)


@pytest.mark.parametrize(
    ("key", "body", "status", "code", "param"),
    [
        ("taken", {"timeout_s": 10}, 409, "idempotency_key_reused", "idempotency_key"),
        ("one", {"idempotency_key": "other"}, 400, "invalid_parameter", "idempotency_key"),
        ("with blank", {}, 400, "invalid_parameter", "idempotency_key"),
        ("x" * 256, {}, 400, "invalid_parameter", "idempotency_key"),
        ("", {}, 400, "invalid_parameter", "idempotency_key"),
    ],
)
def test_a_key_that_does_not_fit_is_refused(
    functions: Functions, key: str, body: dict[str, Any], status: int, code: str, param: str
) -> None:
    functions.run("call_prompt", http(GOOD, headers={"Idempotency-Key": "taken"}))
    event = http(json.dumps({**json.loads(GOOD), **body}), headers={"Idempotency-Key": key})
    answered, error = functions.http("call_prompt", event)
    assert (answered, error["error"]["code"], error["error"]["param"]) == (status, code, param)


def test_the_answer_to_a_key_is_kept_apart_encrypted_by_the_table_and_not_in_the_clear(
    functions: Functions,
) -> None:
    answer = functions.run("call_prompt", {**json.loads(GOOD), "idempotency_key": "order-1017"})
    items = str(functions.dynamodb.scan(TableName=functions.outcome_table)["Items"])
    assert answer["text"] not in items
    assert "order-1017" not in items
    functions.run("call_prompt", json.loads(GOOD))
    assert len(functions.dynamodb.scan(TableName=functions.outcome_table)["Items"]) == 1


def test_json_is_parsed_and_an_answer_that_does_not_fit_is_told_apart_from_one_that_does(
    functions: Functions,
) -> None:
    front = "---\noutput: {schema: {queue: string, urgent: boolean}}\n---\nSort this."
    functions.upload("sort.md", front, "04")
    status, body = functions.http("call_prompt", http('{"prompt": "sort"}'))
    assert (status, body["parsed"]) == (200, {"queue": "example", "urgent": True})
    assert json.loads(body["text"]) == body["parsed"]
    functions.upload("sort.md", front.replace("---\nS", "gateway.mock: {answer: {queue: 5}}\n---\nS"), "05")
    status, body = functions.http("call_prompt", http('{"prompt": "sort"}'))
    assert (status, body["error"]["code"]) == (502, "answer_violates_schema")
    assert [problem["path"] for problem in body["error"]["details"]["problems"]] == ["the answer", "queue"]
    assert [record.usage.output_tokens is None for record in ledger(functions)] == [False, False]


def test_a_schema_of_the_request_goes_before_the_authors(functions: Functions) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    answer = functions.run("call_prompt", {**json.loads(GOOD), "output": {"schema": schema}})
    assert answer["parsed"] == {"n": 1}


def test_a_retry_is_a_line_of_the_log_with_attempt_reason_and_wait(functions: Functions) -> None:
    functions.upload("flaky.md", "---\ngateway.mock: {errors: [provider_rate_limited]}\n---\nHi", "06")
    functions.lines()
    answer = functions.run("call_prompt", {"prompt": "flaky"})
    [line] = [line for line in functions.lines() if line.get("message") == "attempt failed"]
    assert (line["call_id"], line["attempt"], line["error_code"]) == (
        answer["call_id"],
        1,
        "provider_rate_limited",
    )
    assert 0 <= line["wait_s"] <= 0.5
