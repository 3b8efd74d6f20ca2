"""list_prompts, get_prompt_metadata, get_usage_stats and health."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_gateway.access.caller import Caller, Scopes
from llm_gateway.entrypoints.aws_lambda.callers import caller_context
from llm_gateway.models.catalogue import ModelCatalogue
from tests.entrypoints.aws_lambda.conftest import Functions, read_event


def get(event: str, **query: str) -> dict[str, Any]:
    given = read_event(event)
    merged = {**{k: v[0] for k, v in (given["multiValueQueryStringParameters"] or {}).items()}, **query}
    present = {name: value for name, value in merged.items() if value != "-"}
    multi = {name: value.split(",") for name, value in present.items()}
    return {**given, "queryStringParameters": present, "multiValueQueryStringParameters": multi}


def at_path(path: str) -> dict[str, Any]:
    return {**read_event("get_prompt_metadata_found"), "path": f"/v1/prompts/{path}"}


@pytest.fixture
def prompts(functions: Functions) -> Functions:
    functions.upload("support/reply.prompt", "---\ndescription: Replies.\n---\n{{ user.name }}")
    functions.upload("support/close.md", "Bye {{ name }}")
    functions.upload("translate.txt", "{{ text }}")
    functions.upload("broken.prompt", "{% if %}")
    functions.lines()
    return functions


def test_all_prompts_are_listed_in_order_the_broken_one_too(prompts: Functions) -> None:
    status, body = prompts.http("list_prompts", "list_prompts_all")
    assert status == 200
    assert [(p["path"], p["state"]) for p in body["prompts"]] == [
        ("broken.prompt", "broken"),
        ("support/close.md", "ok"),
        ("support/reply.prompt", "ok"),
        ("translate.txt", "ok"),
    ]
    assert body["next_cursor"] is None
    assert body["prompts"][2]["required_variables"] == ["user.name"]
    assert body["prompts"][2]["last_modified"].endswith("Z")


def test_a_directory_is_listed_by_itself(prompts: Functions) -> None:
    _, body = prompts.http("list_prompts", "list_prompts_directory")
    assert [p["path"] for p in body["prompts"]] == ["support/close.md", "support/reply.prompt"]


def test_a_cursor_continues_where_the_page_ended(prompts: Functions) -> None:
    seen: list[str] = []
    cursor = "-"
    for _ in range(5):
        _, body = prompts.http("list_prompts", get("list_prompts_all", limit="1", cursor=cursor))
        seen += [p["path"] for p in body["prompts"]]
        cursor = body["next_cursor"]
        if cursor is None:
            break
    assert seen == ["broken.prompt", "support/close.md", "support/reply.prompt", "translate.txt"]


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ({"limit": "0"}, "invalid_parameter", "limit"),
        ({"limit": "201"}, "invalid_parameter", "limit"),
        ({"limit": "many"}, "invalid_request", "limit"),
        ({"cursor": "!!"}, "invalid_parameter", "cursor"),
        ({"cursor": "Li4vc2VjcmV0"}, "invalid_parameter", "cursor"),
        ({"directory": "../other"}, "invalid_prompt_path", "directory"),
        ({"directory": "a\x00b"}, "invalid_prompt_path", "directory"),
        ({"folder": "support"}, "unknown_field", "folder"),
    ],
)
def test_a_bad_list_query_names_its_parameter(
    functions: Functions, query: dict[str, str], code: str, param: str
) -> None:
    status, body = functions.http("list_prompts", get("list_prompts_all", **query))
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, code, param)


def test_metadata_tells_everything_but_the_text(prompts: Functions) -> None:
    status, body = prompts.http("get_prompt_metadata", "get_prompt_metadata_found")
    assert status == 200
    assert body["path"] == "support/reply.prompt"
    assert body["description"] == "Replies."
    assert body["required_variables"] == ["user.name"]
    assert body["size_bytes"] == 45
    assert body["version"]
    assert "{{" not in str(body)


def test_metadata_of_a_broken_prompt_says_what_is_wrong_and_where(prompts: Functions) -> None:
    _, body = prompts.http("get_prompt_metadata", at_path("broken.prompt"))
    assert (body["state"], body["version"]) == ("broken", None)
    assert body["error"].startswith("line 1:")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("absent.prompt", 404, "prompt_not_found"),
        ("support", 404, "prompt_not_found"),
        ("%2e%2e/secret", 400, "invalid_prompt_path"),
        ("support/../../secret", 400, "invalid_prompt_path"),
        ("/etc/passwd", 400, "invalid_prompt_path"),
        ("a%00b", 400, "invalid_prompt_path"),
        ("a%5c..%5cb", 400, "invalid_prompt_path"),
        ("%ff%fe", 404, "prompt_not_found"),
        ("x" * 600, 400, "invalid_prompt_path"),
    ],
)
def test_a_bad_path_is_a_4xx(functions: Functions, path: str, status: int, code: str) -> None:
    answered, body = functions.http("get_prompt_metadata", at_path(path))
    assert (answered, body["error"]["code"]) == (status, code)


def test_the_traversal_event_is_refused(functions: Functions) -> None:
    assert functions.http("get_prompt_metadata", "get_prompt_metadata_traversal")[0] == 400


def test_several_files_of_one_stem_are_offered(functions: Functions) -> None:
    functions.upload("reply.md", "a")
    functions.upload("reply.txt", "b")
    status, body = functions.http("get_prompt_metadata", at_path("reply"))
    assert (status, body["error"]["code"]) == (400, "ambiguous_prompt")
    assert body["error"]["details"] == {"candidates": ["reply.md", "reply.txt"]}


def test_statistics_are_the_sums_of_what_was_counted(functions: Functions) -> None:
    batch = read_event("roll_up_usage_batch")
    for record in batch["Records"]:
        functions.dynamodb.put_item(TableName=functions.usage_table, Item=record["dynamodb"]["NewImage"])
    functions.run("roll_up_usage", batch)
    functions.run("roll_up_usage", batch)
    status, body = functions.http("get_usage_stats", "get_usage_stats_by_model")
    assert status == 200
    assert [(b["group"]["calling_service"], b["totals"]["requests"]) for b in body["buckets"]] == [
        ("billing", 1), ("shop", 1), (None, 1),
    ]  # fmt: skip
    assert body["totals"] == {
        "requests": 3,
        "errors": 1,
        "input_tokens": 2001,
        "output_tokens": 400,
        "total_tokens": 2401,
        "cached_input_tokens": 800,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
        "cost_usd": "0.00048",
        "unpriced": 0,
        "mean_latency_ms": 1201.0,
        "max_latency_ms": 1202,
    }
    assert body["buckets"][0]["start"] == "2026-11-23T10:00:00Z"


def test_no_calls_are_an_empty_answer_and_the_range_is_told_as_rounded(functions: Functions) -> None:
    event = get("get_usage_stats_by_model", start="2026-11-23T10:30:00+02:00", end="2026-11-23T11:10:00Z")
    _, body = functions.http("get_usage_stats", event)
    assert (body["start"], body["end"]) == ("2026-11-23T08:00:00Z", "2026-11-23T12:00:00Z")
    assert body["buckets"] == []
    assert body["totals"]["mean_latency_ms"] is None


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"start": "-"}, "start"),
        ({"start": "yesterday"}, "start"),
        ({"start": "2026-11-23T00:00:00"}, "start"),
        ({"end": "2026-11-23T00:00:00Z"}, "end"),
        ({"end": "2026-12-30T00:00:00Z"}, "end"),
        ({"end": "2029-12-30T00:00:00Z", "bucket": "total"}, "end"),
        ({"bucket": "week"}, "bucket"),
        ({"group_by": "colour"}, "group_by.0"),
        ({"status": "odd"}, "status"),
        ({"servce": "shop"}, "servce"),
    ],
)
def test_a_bad_usage_query_names_its_parameter(
    functions: Functions, query: dict[str, str], param: str
) -> None:
    status, body = functions.http("get_usage_stats", get("get_usage_stats_by_model", **query))
    assert (status, body["error"]["param"]) == (400, param)


def test_health_says_ok_without_asking_anyone(fragile: Functions) -> None:
    fragile.dynamodb.delete_table(TableName=fragile.prompt_table)
    status, body = fragile.http("health", "health_live")
    assert (status, body["status"]) == (200, "ok")


def test_readiness_is_told_to_anybody_and_the_dependency_that_fails_to_the_log(fragile: Functions) -> None:
    fragile.dynamodb.delete_table(TableName=fragile.usage_table)
    for _ in range(2):
        assert fragile.http("health", "health_ready") == (503, {"status": "not_ready"})
    told = [line for line in fragile.lines() if line.get("message") == "not ready"]
    assert [line["failed_checks"] for line in told] == [["usage_store"]]


@pytest.mark.parametrize(
    ("function", "event"),
    [
        ("list_prompts", "list_prompts_all"),
        ("get_prompt_metadata", "get_prompt_metadata_found"),
        ("get_usage_stats", "get_usage_stats_by_model"),
        ("health", "health_live"),
    ],
)
def test_every_request_is_measured(prompts: Functions, function: str, event: str) -> None:
    prompts.http(function, event)
    [line] = prompts.lines()
    assert line["Requests"] == [1.0]
    assert line["RequestLatency"][0] > 0
    assert (line["service"], line["environment"]) == (function, "local")


def test_every_model_is_listed_with_its_limits_and_its_dated_price(functions: Functions) -> None:
    status, body = functions.http("list_models", "list_models_all")
    assert (status, body["default_model"]) == (200, "openai/gpt-4o-mini")
    assert [m["id"] for m in body["models"]] == sorted(m["id"] for m in body["models"])
    [model] = [m for m in body["models"] if m["id"] == "openai/gpt-4o"]
    assert (model["context_tokens"], model["max_output_tokens"], model["json_schema"]) == (
        128000,
        16384,
        True,
    )
    assert (model["price"]["input"], model["price"]["cached_input"]) == ("2.5", "1.25")
    price = ModelCatalogue.packaged().find("openai", "gpt-4o").price
    assert price is not None
    assert model["price"]["date"] == str(price.date)


def test_a_list_of_models_in_s3_is_read_at_the_start(
    fragile: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"provider": "openai", "name": "gpt-4o", "price": {"input": "2.2", "output": "8.8"}}
    fragile.s3.put_object(Bucket=fragile.bucket, Key="rates.json", Body=json.dumps({"models": [row]}))
    monkeypatch.setenv("LLM_GATEWAY_MODELS_FILE", f"s3://{fragile.bucket}/rates.json")
    _, body = fragile.http("list_models", "list_models_all")
    [model] = [m for m in body["models"] if m["id"] == "openai/gpt-4o"]
    assert model["price"]["input"] == "2.2"


@pytest.mark.parametrize("base", ["", "/llm", "/a/b", "/v1", "/v1/prompts"])
@pytest.mark.parametrize(
    ("function", "event"),
    [
        ("call_prompt", "call_prompt_http"), ("list_prompts", "list_prompts_all"), ("health", "health_live"),
        ("health", "health_ready"), ("list_models", "list_models_all"),
        ("get_prompt_metadata", "get_prompt_metadata_found"), ("get_usage_stats", "get_usage_stats_by_model"),
    ],
)  # fmt: skip
def test_a_custom_domains_base_path_is_no_part_of_the_path(
    functions: Functions, base: str, function: str, event: str
) -> None:
    functions.upload("support/reply.prompt", "{{ user.name }}: {{ ticket }}")
    given = read_event(event)
    mapped = {**given, "path": f"{base}{given['path']}"}
    assert functions.http(function, mapped)[0] == 200
    status, body = functions.http(function, {**mapped, "path": f"{mapped['path']}/"})
    assert (status, body["error"]["code"]) in [(404, "route_not_found"), (400, "invalid_prompt_path")]


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("100%25.txt", "100%2525.txt"), ("50%.txt", "50%25.txt"), ("a/b.txt", "a%2Fb.txt"),
        ("a+b.txt", "a+b.txt"), ("one two.txt", "one%20two.txt"), ("Grüße.txt", "Gr%C3%BC%C3%9Fe.txt"),
        ("{path}.txt", "%7Bpath%7D.txt"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("base", ["", "/llm"])
@pytest.mark.parametrize("version", [None, "1.0"])
def test_a_percent_in_a_prompts_name_is_decoded_once(
    functions: Functions, name: str, raw: str, base: str, version: str | None
) -> None:
    """A REST API hands over the path as it was sent; an event with a version has it decoded."""
    functions.upload(name, "Hello.")
    value = raw if version is None else name
    event = read_event("get_prompt_metadata_found")
    event |= {"path": f"{base}/v1/prompts/{value}", "pathParameters": {"path": value}}
    if version is not None:
        event["version"] = version
    status, body = functions.http("get_prompt_metadata", event)
    assert (status, body.get("path")) == (200, name)


def test_a_mistyped_query_field_is_met_with_the_nearest_one(functions: Functions) -> None:
    event = read_event("list_prompts_all")
    event |= {
        "queryStringParameters": {"directry": "a"},
        "multiValueQueryStringParameters": {"directry": ["a"]},
    }
    status, body = functions.http("list_prompts", event)
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "unknown_field", "directry")
    assert "Did you mean 'directory'?" in body["error"]["message"]


def test_the_default_model_is_shown_only_to_a_key_that_may_use_it(functions: Functions) -> None:
    event = read_event("list_models_all")
    scopes = Scopes(models=("azure/*",))
    context = {**event["requestContext"], "authorizer": caller_context(Caller("shop", "k", scopes))}
    assert functions.http("list_models", event)[1]["default_model"] is not None
    assert functions.http("list_models", {**event, "requestContext": context})[1]["default_model"] is None
