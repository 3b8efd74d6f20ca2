"""Gateway keys on the deployed template: made, used, bounded, rotated and revoked."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from llm_gateway.access.caller import Scopes
from llm_gateway.entrypoints.command_line.app import create_app
from local_aws.session import upload_and_wait, wait_until
from local_aws.stack import STACK_NAME, Stack
from tests.urls import WRONG_REQUESTS

pytestmark = pytest.mark.aws
PATHS = ["/v1/prompts", "/v1/prompts/doors/open.md", "/v1/usage", "/v1/models"]
CALL: dict[str, Any] = {"prompt": "doors/open", "variables": {"who": "Ada"}}


@pytest.fixture(scope="module")
def gateway(stack: Stack) -> Stack:
    upload_and_wait(stack, "doors/open.md", b"Let {{ who }} in.")
    return stack


@pytest.fixture
def commands(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name, value in stack.command_environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return CliRunner()


def command(runner: CliRunner, *arguments: str) -> str:
    done = runner.invoke(create_app(), ["--stack", STACK_NAME, "keys", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


@pytest.mark.parametrize("key", ["", "guessed", "lgw_0f1e2d3c4b5a_" + "0" * 64])
def test_without_a_valid_key_nothing_but_health_answers(gateway: Stack, key: str) -> None:
    for path in PATHS:
        refused = gateway.request("GET", path, key=key)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorized"), path
    assert gateway.request("POST", "/v1/call", body=CALL, key=key).status_code == 401
    assert gateway.request("GET", "/health", key=key).json()["status"] == "ok"
    assert gateway.request("GET", "/health/ready", key=key).json() == {"status": "ready"}


def test_a_key_from_the_command_line_calls_in_its_services_name(gateway: Stack, commands: CliRunner) -> None:
    key = command(commands, "create", "door-service", "--prompt", "doors/", "--expires-in", "1d")
    answered = gateway.request("POST", "/v1/call", body=CALL, key=key)
    assert answered.status_code == 200
    lines = [line for line in gateway.log_lines() if line.get("call_id") == answered.json()["call_id"]]
    assert {line["calling_service"] for line in lines} == {"door-service"}
    claimed = gateway.request("POST", "/v1/call", body={**CALL, "calling_service": "billing"}, key=key)
    assert (claimed.status_code, claimed.json()["error"]["param"]) == (403, "calling_service")
    elsewhere = gateway.request("GET", "/v1/prompts/support/reply", key=key)
    assert elsewhere.status_code == 403


def test_keys_are_listed_without_what_opens_anything(gateway: Stack, commands: CliRunner) -> None:
    key = command(commands, "create", "listed-service", "--calls-per-minute", "7")
    listed = json.loads(command(commands, "list", "--json"))
    [found] = [entry for entry in listed if entry["service"] == "listed-service"]
    assert (found["state"], found["scopes"]["calls_per_minute"]) == ("valid", 7)
    assert key.rpartition("_")[2] not in json.dumps(listed)
    assert "digest" not in found


def test_after_a_rotation_both_keys_open_and_a_revoked_one_does_not(
    gateway: Stack, commands: CliRunner
) -> None:
    old = command(commands, "create", "rotating-service")
    new = command(commands, "rotate", old, "--overlap", "1h")
    assert gateway.request("GET", "/v1/models", key=old).status_code == 200
    assert gateway.request("GET", "/v1/models", key=new).status_code == 200
    fresh = command(commands, "create", "rotating-service")
    command(commands, "revoke", fresh)
    assert gateway.request("GET", "/v1/models", key=fresh).status_code == 401


def test_the_rate_of_a_key_holds_on_the_deployed_api(gateway: Stack) -> None:
    key = gateway.create_key("hasty-service", Scopes(calls_per_minute=3))

    def statuses() -> list[int]:
        return [gateway.request("POST", "/v1/call", body=CALL, key=key).status_code for _ in range(6)]

    seen: list[int] = []

    def limited() -> bool:
        seen[:] = statuses()
        return seen.count(200) <= 3

    wait_until(limited, "six calls fall into one minute of the clock")
    assert set(seen) <= {200, 429}
    assert 429 in seen


def test_a_request_that_no_endpoint_takes_is_answered_as_the_process_answers_it(gateway: Stack) -> None:
    for wrong in WRONG_REQUESTS:
        answer = gateway.request(wrong.method, wrong.path, key=None if wrong.keyed else "")
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (wrong.status, wrong.code), wrong
        assert answer.headers.get("allow") == wrong.allow, wrong
        assert answer.headers["x-request-id"], wrong
        assert (error["request_id"], error["retryable"]) == (answer.headers["x-request-id"], False), wrong


def test_a_head_request_is_refused_as_any_other_method_is(gateway: Stack) -> None:
    answer = gateway.request("HEAD", "/v1/models")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize(
    "name", ["100%25.txt", "a%2Fb.txt", "a+b.txt", "one two.txt", "Grüße.txt", "50%.txt"]
)
def test_the_name_of_a_prompt_is_decoded_once(gateway: Stack, name: str) -> None:
    path = f"names/{name}"
    upload_and_wait(gateway, path, b"Hello.")
    answer = gateway.request("GET", f"/v1/prompts/{quote(path)}")
    assert (answer.status_code, answer.json().get("path")) == (200, path)
