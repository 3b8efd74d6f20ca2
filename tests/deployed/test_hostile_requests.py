"""Hostile requests against the deployed API, byte by byte as no client library would send them."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from local_aws.session import upload_and_wait
from local_aws.stack import OPERATORS, Stack

pytestmark = pytest.mark.aws
PATIENCE_S = 30.0
CALL = {"prompt": "hostile/echo", "variables": {"text": "late"}}


@pytest.fixture(scope="module")
def gateway(stack: Stack) -> Stack:
    upload_and_wait(stack, "hostile/echo.md", b"Say {{ text }}.")
    return stack


def sent(
    gateway: Stack, method: str, target: str, body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    """Status and JSON of an answer; the target goes out as it is written."""
    base = urlsplit(gateway.api_url)
    connection = http.client.HTTPConnection(str(base.hostname), base.port, timeout=PATIENCE_S)
    try:
        connection.putrequest(method, base.path + target, skip_accept_encoding=True)
        given = {"authorization": f"Bearer {gateway.key_of(OPERATORS)}", "content-type": "application/json"}
        for name, value in {**given, **headers}.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


BODIES: dict[str, tuple[bytes, int, str]] = {
    "seven megabytes": (b'{"prompt": "' + b"x" * 7_000_000 + b'"}', 413, "body_too_large"),
    "100,000 objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "malformed_json"),
    "a byte order mark": (b"\xef\xbb\xbf{}", 400, "malformed_json"),
    "UTF-16": ('{"prompt": "a"}'.encode("utf-16"), 400, "malformed_json"),
    "half a character": (b'{"prompt": "\\ud800"}', 400, "malformed_json"),
    "a field twice": (b'{"prompt": "hostile/echo", "prompt": "other"}', 400, "malformed_json"),
    "5,000 digits": (b'{"prompt": ' + b"9" * 5_000 + b"}", 400, "malformed_json"),
    "NUL": (b"\0" * 100, 400, "malformed_json"),
    "nothing": (b"", 400, "malformed_json"),
    "NUL in a prompt": (b'{"prompt": "a\\u0000b"}', 400, "invalid_prompt_path"),
    "60,000 fields": (
        json.dumps({f"k{n}": 1 for n in range(60_000)}).encode(), 400, "invalid_request"
    ),
    "a remote schema": (
        json.dumps({**CALL, "output": {"schema": {"$ref": "http://169.254.169.254/x"}}}).encode(),
        400, "invalid_parameter",
    ),
    "an answer without end": (
        json.dumps({**CALL, "output": {"schema": {"type": "array", "minItems": 10**9, "items": {}}}})
        .encode(),
        422, "answer_truncated",
    ),
    "an address as model": (
        json.dumps({**CALL, "model": "http://169.254.169.254/x"}).encode(), 400, "unknown_provider"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_refused(gateway: Stack, name: str) -> None:
    body, status, code = BODIES[name]
    answered, told = sent(gateway, "POST", "/v1/call", body)
    assert (answered, told["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    "target",
    [
        "/v1/prompts/..%2f..%2fetc%2fpasswd",
        "/v1/prompts/%2e%2e/%2e%2e/etc/passwd",
        "/v1/prompts/../../etc/passwd",
        "/v1/prompts/..%5c..%5cetc",
        "/v1/prompts/hostile/echo%00.md",
        "/v1/prompts/hostile/%ff",
        "/v1/prompts/hostile/%zz",
        "/v1/prompts/hostile/ech%D0%BE",
        "/v1/prompts/hostile/echo.md.",
        "/v1/prompts//etc/passwd",
        "/v1/prompts/history%23hostile",
        f"/v1/prompts/{'x' * 4_000}",
        "/v1/prompts?directory=..%2f",
        "/v1/prompts?cursor=Li4vYQ",
        "/v1/prompts?limit=%zz",
        "/v1/prompts?%zz=%",
        "/v1/prompts?" + "&".join(f"q{n}=1" for n in range(3_000)),
        "/v1/usage?start=0001-01-01T00:00:00Z&end=9999-12-31T23:59:59Z",
        "/v1/usage?start=2026-11-01T00:00:00Z&end=2026-11-02T00:00:00Z&" + "group_by=model&" * 1_000,
    ],
)
def test_a_hostile_address_is_refused(gateway: Stack, target: str) -> None:
    status, told = sent(gateway, "GET", target)
    assert 400 <= status < 500
    assert told["error"]["code"]


@pytest.mark.parametrize("value", ["a b", "\u00e9", "x" * 5_000])
def test_a_hostile_idempotency_key_is_refused(gateway: Stack, value: str) -> None:
    status, told = sent(gateway, "POST", "/v1/call", json.dumps(CALL).encode(), **{"idempotency-key": value})
    assert (status, told["error"]["param"]) == (400, "idempotency_key")


def test_after_all_that_it_still_answers(gateway: Stack) -> None:
    status, told = sent(gateway, "POST", "/v1/call", json.dumps(CALL).encode())
    assert (status, told["prompt"]["path"]) == (200, "hostile/echo.md")
