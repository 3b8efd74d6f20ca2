"""The API with AWS signatures, with no proof at all, and the deployments that CloudFormation refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import httpx2
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from httpx2 import Response

from cfn_yaml import load_template
from llm_gateway.access.caller import Scopes
from local_aws import emulator as local
from local_aws.emulator import REGION, Emulator
from local_aws.session import wait_until
from local_aws.stack import Stack, deploy
from tests.deployed.acting_as import Role, administrator, assume, user

pytestmark = pytest.mark.aws
CALL: dict[str, Any] = {"prompt": "signed/hello.md", "variables": {"name": "Ada"}}
PATHS = ["/v1/prompts", "/v1/usage", "/v1/models"]


@pytest.fixture(scope="module")
def signed_for() -> Iterator[Stack]:
    """A stack whose callers sign their requests."""
    with local.running(f"tests-iam-{os.getpid()}") as running:
        deployed = deploy(running, TestLatency="none", Authentication="AWS_IAM")
        deployed.upload("signed/hello.md", b"Hello {{ name }}.")
        wait_until(lambda: _indexed(deployed), "the prompt is indexed")
        yield deployed


@pytest.fixture(scope="module")
def shop(signed_for: Stack) -> Role:
    return user(signed_for, "shop", inline=right_to_call(signed_for, "*"))


def _indexed(stack: Stack) -> bool:
    table = administrator(stack).client("dynamodb")
    key = {"pk": {"S": "prompt"}, "sk": {"S": "signed/hello.md"}}
    return "Item" in table.get_item(TableName=stack.outputs["PromptTableName"], Key=key)


def right_to_call(stack: Stack, what: str) -> Mapping[str, Any]:
    api = f"arn:aws:execute-api:{REGION}:*:{stack.outputs['ApiId']}/{what}"
    return {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": api}


def signed(stack: Stack, role: Role, method: str, path: str, body: object = None) -> Response:
    """One request under AWS Signature Version 4."""
    content = b"" if body is None else json.dumps(body).encode()
    url = f"{stack.api_url}{path}"
    request = AWSRequest(
        method=method,
        url=url,
        data=content,
        headers={"content-type": "application/json"},
    )
    credentials = Credentials(
        role.arguments["aws_access_key_id"],
        role.arguments["aws_secret_access_key"],
        role.arguments.get("aws_session_token"),
    )
    SigV4Auth(credentials, "execute-api", REGION).add_auth(request)
    headers = dict(request.headers.items())
    return httpx2.request(method, url, content=content, headers=headers, timeout=60)


def recorded_service(stack: Stack, answer: Response) -> set[Any]:
    call_id = answer.json()["call_id"]
    return {line["calling_service"] for line in stack.log_lines() if line.get("call_id") == call_id}


def test_a_user_calls_under_the_users_name(signed_for: Stack, shop: Role) -> None:
    answered = signed(signed_for, shop, "POST", "/v1/call", CALL)
    assert answered.status_code == 200, answered.text
    assert recorded_service(signed_for, answered) == {"shop"}
    claimed = signed(signed_for, shop, "POST", "/v1/call", {**CALL, "calling_service": "billing"})
    assert (claimed.status_code, claimed.json()["error"]["param"]) == (403, "calling_service")


def test_a_role_calls_under_the_roles_name(signed_for: Stack) -> None:
    iam = administrator(signed_for).client("iam")
    trusted = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trusted]})
    arn = iam.create_role(RoleName="billing-worker", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": [right_to_call(signed_for, "*/POST/v1/call")]})
    iam.put_role_policy(RoleName="billing-worker", PolicyName="call", PolicyDocument=policy)
    worker = assume(signed_for, arn)
    answered = signed(signed_for, worker, "POST", "/v1/call", CALL)
    assert answered.status_code == 200, answered.text
    assert recorded_service(signed_for, answered) == {"billing-worker"}
    assert signed(signed_for, worker, "GET", "/v1/usage").status_code == 403


@pytest.mark.parametrize("path", PATHS)
def test_a_signature_with_the_right_reads(signed_for: Stack, shop: Role, path: str) -> None:
    query = "?start=2026-11-01T00%3A00%3A00Z&end=2026-11-02T00%3A00%3A00Z" if path == "/v1/usage" else ""
    assert signed(signed_for, shop, "GET", path + query).status_code == 200


def test_a_signature_without_the_right_is_refused(signed_for: Stack) -> None:
    stranger = user(signed_for, "stranger")
    assert signed(signed_for, stranger, "POST", "/v1/call", CALL).status_code == 403
    for path in PATHS:
        assert signed(signed_for, stranger, "GET", path).status_code == 403, path


def test_a_false_signature_is_refused(signed_for: Stack, shop: Role) -> None:
    forged = Role({**shop.arguments, "aws_secret_access_key": "guessed"})
    assert signed(signed_for, forged, "POST", "/v1/call", CALL).status_code == 403


def test_an_unsigned_request_is_401_whatever_its_path(signed_for: Stack) -> None:
    """API Gateway does not tell a missing signature from an unknown path."""
    for method, path in (("POST", "/v1/call"), *(("GET", path) for path in PATHS), ("GET", "/nowhere")):
        answer = signed_for.request(method, path, key="")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized"), path


def test_a_signed_request_of_another_method_is_405(signed_for: Stack, shop: Role) -> None:
    answer = signed(signed_for, shop, "DELETE", "/v1/models")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


def test_an_unsigned_request_is_refused_and_a_key_is_no_signature(signed_for: Stack) -> None:
    for key in ("", signed_for.create_key("keyed", Scopes())):
        assert signed_for.request("POST", "/v1/call", body=CALL, key=key).status_code in (401, 403)
        for path in PATHS:
            assert signed_for.request("GET", path, key=key).status_code in (401, 403), path
    for path in ("/health", "/health/ready"):
        assert signed_for.request("GET", path, key="").status_code == 200


def test_open_access_answers_without_a_key_and_believes_the_request() -> None:
    with local.running(f"tests-open-{os.getpid()}") as running:
        stack = deploy(running, TestLatency="none", Authentication="OpenAccess")
        stack.upload("signed/hello.md", b"Hello {{ name }}.")
        wait_until(lambda: _indexed(stack), "the prompt is indexed")
        answered = stack.request("POST", "/v1/call", body={**CALL, "calling_service": "anybody"}, key="")
        assert answered.status_code == 200, answered.text
        assert recorded_service(stack, answered) == {"anybody"}
        for path in ("/v1/prompts", "/v1/models", "/health/ready"):
            assert stack.request("GET", path, key="").status_code == 200, path


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (
            {"Environment": "prod", "Authentication": "OpenAccess"},
            "everywhere else callers need keys or AWS signatures",
        ),
        (
            {"Environment": "production", "Authentication": "OpenAccess"},
            "everywhere else callers need keys or AWS signatures",
        ),
        ({"Environment": "Prod"}, "lower-case letters, digits and hyphens"),
        ({"SnapStart": "PublishedVersions", "ProvisionedConcurrency": "1"}, "not both"),
    ],
)
def test_cloudformation_refuses_what_a_rule_forbids(
    emulator: Emulator, parameters: dict[str, str], said: str
) -> None:
    """Parameters and rules are looked at before any resource, so one that costs nothing stands for all."""
    template = load_template()
    refused = {name: template[name] for name in ("Parameters", "Rules")}
    client = boto3.client("cloudformation", **emulator.client_arguments)  # type: ignore[call-overload]
    with pytest.raises(ClientError, match=said):
        client.create_stack(
            StackName="refused",
            TemplateBody=json.dumps({**refused, "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}),
            Parameters=[
                {"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()
            ],
        )
