"""The lean way to write an item: what it says of each refusal, and that it can be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import boto3
import httpx2
import pytest
from botocore.credentials import Credentials

from llm_gateway.adapters.aws.sdk import Refused
from llm_gateway.adapters.aws.signed_put import SignedPut
from llm_gateway.errors import StoreUnavailable
from tests import upstream as loopback
from tests.upstream import Reply, Upstream

ITEM = {"pk": {"S": "call#1"}, "sk": {"S": "1"}}
OK = Reply(body={})


@pytest.fixture
def dynamodb() -> Iterator[Upstream]:
    with loopback.running() as server:
        yield server


def put(dynamodb: Upstream, *replies: Reply, timeout_s: float = 5) -> None:
    client = boto3.client(
        "dynamodb", endpoint_url=dynamodb.url.removesuffix("/v1"), region_name="eu-central-1"
    )

    async def write() -> None:
        async with httpx2.AsyncClient() as http, asyncio.timeout(timeout_s):
            await SignedPut(http, client, Credentials("AKIDEXAMPLE", "secret", "session"))(
                TableName="t", Item=ITEM, ConditionExpression="attribute_not_exists(pk)"
            )

    dynamodb.answers(*replies)
    asyncio.run(write())


def error(status: int, code: str) -> Reply:
    return Reply(status, {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "no"})


def test_the_request_is_what_dynamodb_documents_and_is_signed(dynamodb: Upstream) -> None:
    put(dynamodb, OK)
    assert dynamodb.requests == [
        {"TableName": "t", "Item": ITEM, "ConditionExpression": "attribute_not_exists(pk)"}
    ]
    [headers] = dynamodb.headers
    assert headers["x-amz-target"] == "DynamoDB_20120810.PutItem"
    assert headers["content-type"] == "application/x-amz-json-1.0"
    assert headers["x-amz-security-token"] == "session"
    assert "/eu-central-1/dynamodb/aws4_request" in headers["authorization"]
    assert "host;" in headers["authorization"]


def test_a_condition_that_fails_is_a_refusal(dynamodb: Upstream) -> None:
    with pytest.raises(Refused) as caught:
        put(dynamodb, error(400, "ConditionalCheckFailedException"))
    assert caught.value.code == "ConditionalCheckFailedException"


@pytest.mark.parametrize(
    "reply",
    [
        error(400, "ThrottlingException"),
        error(400, "ProvisionedThroughputExceededException"),
        error(500, "InternalServerError"),
        Reply(503, b"<html>"),
        Reply(sends="nothing", then="disconnect"),
    ],
)
def test_what_may_pass_is_tried_again_and_not_for_ever(dynamodb: Upstream, reply: Reply) -> None:
    put(dynamodb, reply, reply, OK)
    assert len(dynamodb.requests) == 3
    dynamodb.forget()
    with pytest.raises(StoreUnavailable):
        put(dynamodb, reply, reply, reply, OK)
    assert len(dynamodb.requests) == 3


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (error(400, "AccessDeniedException"), "AccessDeniedException"),
        (error(400, "ResourceNotFoundException"), "ResourceNotFoundException"),
        (Reply(400, b"nonsense"), "HTTP400"),
        (Reply(404, []), "HTTP404"),
    ],
)
def test_what_will_not_pass_is_told_at_once_by_awss_name(
    dynamodb: Upstream, reply: Reply, reason: str
) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        put(dynamodb, reply)
    assert caught.value.details == {"reason": reason}
    assert len(dynamodb.requests) == 1


def test_a_write_that_hangs_is_cut_off(dynamodb: Upstream) -> None:
    with pytest.raises(TimeoutError):
        put(dynamodb, Reply(sends="nothing", then="silence"), timeout_s=0.3)
    assert dynamodb.closed[0].wait(2)
