"""Who calls: the authorizer's answer, and what the functions make of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from llm_gateway.access.caller import OPEN, Caller, Scopes
from llm_gateway.access.keys import Keys
from llm_gateway.adapters.aws.keys import DynamoKeys
from llm_gateway.adapters.aws.secrets import SecretPepper
from llm_gateway.entrypoints.aws_lambda.callers import caller_context, caller_in
from tests.contract.tables import client
from tests.entrypoints.aws_lambda.conftest import Functions, read_event

SHOP = Caller("shop", "0f1e2d3c4b5a")
STAGE = "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/dev"


def keys_of(functions: Functions) -> Keys:
    pepper = SecretPepper(lambda: client("secretsmanager", None), functions.pepper)
    return Keys(DynamoKeys(functions.dynamodb, functions.key_table), pepper, lambda: datetime.now(UTC))


def created(functions: Functions, scopes: Scopes) -> str:
    return asyncio.run(keys_of(functions).create("shop", scopes, "ada"))[0]


def asked(authorization: str | None, name: str = "Authorization") -> dict[str, Any]:
    event = read_event("authorize_request")
    headers = {key: value for key, value in event["headers"].items() if key != "Authorization"}
    return {**event, "headers": headers if authorization is None else {**headers, name: authorization}}


def sent_by(caller: Caller | None, event: str, **query: str) -> dict[str, Any]:
    """The event as it comes from a caller; None is one that no authorizer has seen."""
    given = read_event(event)
    context = {**given["requestContext"], "authorizer": caller_context(caller) if caller else None}
    if query:
        given |= {
            "queryStringParameters": query,
            "multiValueQueryStringParameters": {name: [value] for name, value in query.items()},
        }
    return {**given, "requestContext": context}


def signed_by(
    arn: str | None, event: str = "call_prompt_http", account: str = "123456789012"
) -> dict[str, Any]:
    given = sent_by(None, event)
    identity = {**given["requestContext"]["identity"], "userArn": arn, "accountId": account}
    return {**given, "requestContext": {**given["requestContext"], "identity": identity}}


def body_of(event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    body = {**json.loads(event["body"]), **changes}
    return {**event, "body": json.dumps({name: value for name, value in body.items() if value is not None})}


@pytest.fixture
def prompts(functions: Functions) -> Functions:
    functions.upload("support/reply.prompt", "{{ user.name }}: {{ ticket }}")
    functions.upload("marketing/plan.md", "Plan {{ year }}")
    functions.lines()
    return functions


# --------------------------------------------------------------- the authorizer


@pytest.mark.parametrize("header", ["Authorization", "authorization"])
def test_a_key_opens_the_whole_stage_and_tells_whose_it_is(functions: Functions, header: str) -> None:
    scopes = Scopes(prompts=("support/",))
    text = created(functions, scopes)
    answer = functions.run("authorize", asked(f"Bearer {text}", header))
    [statement] = answer["policyDocument"]["Statement"]
    assert (statement["Effect"], statement["Resource"]) == ("Allow", f"{STAGE}/*")
    assert answer["principalId"] == text.split("_")[1]
    assert answer["context"]["service"] == "shop"
    assert caller_in(answer["context"]) == Caller("shop", text.split("_")[1], scopes)


@pytest.mark.parametrize("authorization", [None, "Bearer lgw_0f1e2d3c4b5a_" + "0" * 64, "Basic c2hvcA=="])
def test_whoever_is_not_known_is_denied_and_counted(functions: Functions, authorization: str | None) -> None:
    answer = functions.run("authorize", asked(authorization))
    [statement] = answer["policyDocument"]["Statement"]
    assert (statement["Effect"], statement["Resource"]) == ("Deny", f"{STAGE}/*")
    assert caller_in(answer["context"]) is None
    assert answer["context"]["code"] == "unauthorized"
    line, metric = functions.lines()
    assert (line["message"], metric["CallersDenied"]) == ("caller denied", [1.0])
    assert "lgw_" not in json.dumps(line)


def test_the_policy_says_of_a_revoked_key_that_it_was_revoked(functions: Functions) -> None:
    """API Gateway's own answer takes code and message from beside the policy."""
    text = created(functions, Scopes())
    keys = keys_of(functions)
    key = asyncio.run(DynamoKeys(functions.dynamodb, functions.key_table).get(text.split("_")[1]))
    assert key is not None
    asyncio.run(keys.revoke(key))
    answer = functions.run("authorize", asked(f"Bearer {text}"))
    assert answer["policyDocument"]["Statement"][0]["Effect"] == "Deny"
    assert answer["context"]["code"] == "key_revoked"
    assert '"' not in answer["context"]["message"]


# ---------------------------------------------------- the functions behind it


@pytest.mark.parametrize(
    ("function", "event"),
    [
        ("call_prompt", "call_prompt_http"),
        ("list_prompts", "list_prompts_all"),
        ("get_prompt_metadata", "get_prompt_metadata_found"),
        ("get_usage_stats", "get_usage_stats_by_model"),
        ("list_models", "list_models_all"),
    ],
)
def test_a_request_that_no_authorizer_has_seen_is_refused(
    prompts: Functions, function: str, event: str
) -> None:
    """Should somebody take the authorizer off the API, the functions stay closed."""
    status, body = prompts.http(function, sent_by(None, event))
    assert (status, body["error"]["code"]) == (401, "unauthorized")


@pytest.mark.parametrize(
    ("function", "event", "method"),
    [
        ("call_prompt", "call_prompt_http", "CallPrompt"),
        ("list_prompts", "list_prompts_all", "ListPrompts"),
        ("get_prompt_metadata", "get_prompt_metadata_found", "GetPromptMetadata"),
        ("get_usage_stats", "get_usage_stats_by_model", "GetUsageStats"),
        ("list_models", "list_models_all", "ListModels"),
    ],
)
def test_a_key_for_other_methods_is_refused_by_name(
    prompts: Functions, function: str, event: str, method: str
) -> None:
    nothing = replace(SHOP, scopes=Scopes(methods=()))
    status, body = prompts.http(function, sent_by(nothing, event))
    assert (status, body["error"]["code"]) == (403, "forbidden")
    assert method in body["error"]["message"]


def test_a_call_is_recorded_under_the_keys_service(prompts: Functions) -> None:
    event = body_of(sent_by(SHOP, "call_prompt_http"), calling_service=None)
    assert prompts.http("call_prompt", event)[0] == 200
    [line] = [line for line in prompts.lines() if line.get("message") == "call answered"]
    assert line["calling_service"] == "shop"


def test_a_body_that_claims_another_service_is_refused_before_anything_is_paid(prompts: Functions) -> None:
    event = body_of(sent_by(SHOP, "call_prompt_http"), calling_service="billing")
    status, body = prompts.http("call_prompt", event)
    assert (status, body["error"]["code"], body["error"]["param"]) == (403, "forbidden", "calling_service")
    assert prompts.dynamodb.scan(TableName=prompts.usage_table)["Items"] == []


@pytest.mark.parametrize(
    ("scopes", "prompt", "status", "param"),
    [
        (Scopes(prompts=("support/",)), "support/reply", 200, None),
        (Scopes(prompts=("support/reply.prompt",)), "support/reply", 200, None),
        (Scopes(prompts=("marketing/",)), "support/reply.prompt", 403, "prompt"),
        (Scopes(prompts=("marketing/",)), "support/absent", 403, "prompt"),  # not 404: nothing is told
        (Scopes(models=("openai/gpt-4o-mini",)), "support/reply", 200, None),
        (Scopes(models=("azure/*",)), "support/reply", 403, "model"),
    ],
)
def test_a_key_reaches_its_own_prompts_and_models(
    prompts: Functions, scopes: Scopes, prompt: str, status: int, param: str | None
) -> None:
    caller = replace(SHOP, scopes=scopes)
    answered, body = prompts.http("call_prompt", body_of(sent_by(caller, "call_prompt_http"), prompt=prompt))
    assert (answered, body.get("error", {}).get("param")) == (status, param)


def test_a_key_lists_and_describes_what_it_reaches(prompts: Functions) -> None:
    caller = replace(SHOP, scopes=Scopes(prompts=("marketing/",)))
    _, listed = prompts.http("list_prompts", sent_by(caller, "list_prompts_all"))
    assert [p["path"] for p in listed["prompts"]] == ["marketing/plan.md"]
    status, body = prompts.http("get_prompt_metadata", sent_by(caller, "get_prompt_metadata_found"))
    assert (status, body["error"]["code"]) == (403, "forbidden")


def test_a_key_is_shown_the_models_it_may_use(functions: Functions) -> None:
    caller = replace(SHOP, scopes=Scopes(models=("openai/gpt-4o*",)))
    _, body = functions.http("list_models", sent_by(caller, "list_models_all"))
    names = [model["id"] for model in body["models"]]
    assert names
    assert all(name.startswith("openai/gpt-4o") for name in names)


def test_a_service_sees_its_own_usage_and_only_a_key_for_all_sees_more(prompts: Functions) -> None:
    for service in ("shop", "billing"):
        call = {"prompt": "support/reply", "variables": {"user": {"name": "A"}, "ticket": "t"}}
        prompts.run("call_prompt", {**call, "calling_service": service})
    records = prompts.dynamodb.scan(TableName=prompts.usage_table)["Items"]
    changes = [
        {"SequenceNumber": str(n), "Keys": {"pk": item["pk"], "sk": item["sk"]}, "NewImage": item}
        for n, item in enumerate(records)
    ]
    prompts.run("roll_up_usage", {"Records": [{"eventName": "INSERT", "dynamodb": c} for c in changes]})
    now = datetime.now(UTC)
    month = {"start": f"{now:%Y-%m}-01T00:00:00Z", "end": f"{now:%Y-%m-%dT%H:59:59Z}"}

    def requests(caller: Caller, **query: str) -> tuple[int, Any]:
        status, body = prompts.http(
            "get_usage_stats", sent_by(caller, "get_usage_stats_by_model", **month, **query)
        )
        return status, body.get("totals", {}).get("requests")

    assert requests(SHOP) == (200, 1)
    assert requests(SHOP, calling_service="billing")[0] == 403
    finance = Caller("finance", "k", Scopes(all_usage=True))
    assert requests(finance) == (200, 2)
    assert requests(finance, calling_service="billing") == (200, 1)
    elsewhere = replace(SHOP, scopes=Scopes(prompts=("marketing/",)))
    assert requests(elsewhere) == (200, 1)
    assert requests(elsewhere, prompt="support/reply.prompt")[0] == 403
    by_prompt = sent_by(elsewhere, "get_usage_stats_by_model", **month, group_by="prompt")
    assert [bucket["group"] for bucket in prompts.http("get_usage_stats", by_prompt)[1]["buckets"]] == [
        {"prompt": None}
    ]


def test_a_key_makes_no_more_calls_in_a_minute_than_it_allows(prompts: Functions) -> None:
    caller = replace(SHOP, key_id=f"k{datetime.now(UTC).timestamp()}", scopes=Scopes(calls_per_minute=2))
    answers = [prompts.run("call_prompt", sent_by(caller, "call_prompt_http")) for _ in range(5)]
    refused = [answer for answer in answers if answer["statusCode"] == 429]
    assert len(refused) in (1, 3)  # 1 if the minute of the clock ended meanwhile
    assert json.loads(refused[0]["body"])["error"]["code"] == "call_rate_exceeded"
    assert 1 <= int(refused[0]["headers"]["retry-after"]) <= 60


# ------------------------------------------------------------------ AWS's IAM


@pytest.fixture
def by_iam(fragile: Functions, monkeypatch: pytest.MonkeyPatch) -> Functions:
    monkeypatch.setenv("LLM_GATEWAY_ACCESS", "iam")
    fragile.upload("support/reply.prompt", "{{ user.name }}: {{ ticket }}")
    fragile.lines()
    return fragile


@pytest.mark.parametrize(
    ("arn", "account", "service"),
    [
        ("arn:aws:sts::123456789012:assumed-role/shop-worker/i-0123456789", "123456789012", "shop-worker"),
        ("arn:aws:iam::123456789012:user/teams/shop/ada", "123456789012", "ada"),
        ("arn:aws:sts::210987654321:assumed-role/shop-worker/x", "210987654321", "210987654321/shop-worker"),
    ],
)
def test_who_signs_is_who_is_recorded(by_iam: Functions, arn: str, account: str, service: str) -> None:
    event = body_of(signed_by(arn, account=account), calling_service=None)
    assert by_iam.http("call_prompt", event)[0] == 200
    [line] = [line for line in by_iam.lines() if line.get("message") == "call answered"]
    assert line["calling_service"] == service
    assert by_iam.http("call_prompt", body_of(event, calling_service="other"))[0] == 403


def test_nobody_calls_unsigned_where_signatures_are_asked_for(by_iam: Functions) -> None:
    assert by_iam.http("call_prompt", signed_by(None))[0] == 401
    assert by_iam.http("call_prompt", sent_by(OPEN, "call_prompt_http"))[0] == 401
