"""What a caller is told about bad input."""

from __future__ import annotations

import inspect
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway import errors
from llm_gateway.api.calls import CallRequest
from llm_gateway.errors import (
    GatewayError,
    InvalidParameter,
    InvalidRequest,
    MalformedJson,
    RequestError,
    UnknownField,
)
from llm_gateway.models.errors import ProviderError
from llm_gateway.validation import decode_json, validated

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, GatewayError)]
GOOD: dict[str, Any] = {"prompt": "support/reply.prompt", "variables": {"user": {"name": "Ada"}}}


def test_codes_are_unique_and_statuses_fit_their_branch() -> None:
    raised = [c for c in CLASSES if c is not RequestError]  # a branch, never raised itself
    assert len({c.code for c in raised}) == len(raised)
    assert all(400 <= c.status < 500 for c in CLASSES if issubclass(c, RequestError))
    assert all(c.status != 401 for c in CLASSES if issubclass(c, ProviderError))


def test_the_drawing_of_the_tree_is_the_tree() -> None:
    drawn = errors.__doc__ or ""
    for cls in CLASSES:
        assert cls.__name__ in drawn
    for cls in CLASSES:
        if not cls.__subclasses__():
            [line] = [line for line in drawn.splitlines() if f" {cls.__name__} " in line]
            assert f"{cls.status} {cls.code}" in line
            assert ("retryable" in line) == cls.retryable


def test_an_error_has_openais_fields_and_ours() -> None:
    wire = errors.MissingVariables(["user.name", "ticket"]).to_wire("req-1")
    assert wire == {
        "error": {
            "message": "The prompt needs variables that are missing: user.name, ticket. "
            "Add them to 'variables'.",
            "type": "invalid_request_error",
            "code": "missing_variables",
            "param": "variables.user.name",
            "request_id": "req-1",
            "retryable": False,
            "details": {"missing": ["user.name", "ticket"]},
        }
    }


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"prompt": None}, "invalid_request", "prompt"),
        ({"prompt": 7}, "invalid_request", "prompt"),
        ({"prompt": ""}, "invalid_parameter", "prompt"),
        ({"prompt": "x" * 513}, "invalid_parameter", "prompt"),
        ({"variables": []}, "invalid_request", "variables"),
        ({"variables": "x"}, "invalid_request", "variables"),
        ({"varaibles": {}}, "unknown_field", "varaibles"),
        ({"temperature": 0.5}, "unknown_field", "temperature"),
        ({"parameters": {"temprature": 1}}, "unknown_field", "parameters.temprature"),
        ({"parameters": {"temperature": -0.1}}, "invalid_parameter", "parameters.temperature"),
        ({"parameters": {"temperature": 2.1}}, "invalid_parameter", "parameters.temperature"),
        ({"parameters": {"temperature": "1"}}, "invalid_request", "parameters.temperature"),
        ({"parameters": {"temperature": True}}, "invalid_request", "parameters.temperature"),
        ({"parameters": {"top_p": 1.01}}, "invalid_parameter", "parameters.top_p"),
        ({"parameters": {"max_tokens": 0}}, "invalid_parameter", "parameters.max_tokens"),
        ({"parameters": {"max_tokens": 1.5}}, "invalid_request", "parameters.max_tokens"),
        ({"parameters": {"stop": []}}, "invalid_parameter", "parameters.stop"),
        ({"parameters": {"stop": ["a", "b", "c", "d", "e"]}}, "invalid_parameter", "parameters.stop"),
        ({"timeout_s": 4.9}, "invalid_parameter", "timeout_s"),
        ({"timeout_s": 120.1}, "invalid_parameter", "timeout_s"),
        ({"timeout_s": "60"}, "invalid_request", "timeout_s"),
        ({"version": "v 1"}, "invalid_parameter", "version"),
        ({"calling_service": "a\nb"}, "invalid_parameter", "calling_service"),
        ({"calling_service": "x" * 65}, "invalid_parameter", "calling_service"),
        ({"model": "gpt\x00"}, "invalid_parameter", "model"),
    ],
)
def test_a_bad_field_is_named_with_a_stable_code(change: dict[str, Any], code: str, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        validated(CallRequest, {**GOOD, **change})
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {"temperature": 0, "top_p": 1, "max_tokens": 1}},
        {"parameters": {"temperature": 2.0, "top_p": 0.0}},
        {"timeout_s": 5},
        {"timeout_s": 120.0},
        {"calling_service": "Zürich #1 | a/b"},
    ],
)
def test_the_edges_of_every_range_are_inside(change: dict[str, Any]) -> None:
    validated(CallRequest, {**GOOD, **change})


def test_every_field_at_fault_is_in_the_details() -> None:
    with pytest.raises(InvalidRequest) as caught:
        validated(CallRequest, {"parameters": {"temperature": 9, "top_p": 9}})
    problems = caught.value.details["problems"]
    assert isinstance(problems, list)
    params = [problem["param"] for problem in problems if isinstance(problem, dict)]
    assert params == ["prompt", "parameters.temperature", "parameters.top_p"]


def test_an_error_lists_some_of_a_hundred_thousand_faults() -> None:
    with pytest.raises(RequestError) as caught:
        validated(CallRequest, {**GOOD, **{f"k{n}": 1 for n in range(100_000)}})
    assert len(json.dumps(caught.value.to_wire("r"))) < 10_000


def test_a_field_that_is_named_twice_is_said_to_be() -> None:
    with pytest.raises(MalformedJson, match="names a field twice") as caught:
        decode_json(b'{"a": {"secret": 1, "secret": 2}}')
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "\ud800", {"\ud800": 1}, [10**5000]])
def test_variables_and_schemas_hold_what_json_can_hold(value: Any) -> None:
    for field in ({"variables": {"v": value}}, {"output": {"schema": {"v": value}}}):
        with pytest.raises(InvalidParameter, match="JSON cannot hold") as caught:
            validated(CallRequest, {**GOOD, **field})
        assert caught.value.param in ("variables", "output.schema")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"a": 1, "a": 1}',
        b'{"a": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"{",
        b"[1]",
        b'"text"',
        b"null",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b"\xff\xfe",
        b"[" * 5000,
        b"{}x",
    ],
)
def test_a_body_that_is_not_one_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        decode_json(body)


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.one_of(st.none(), st.booleans(), st.floats(), st.text()), st.lists, max_leaves=6))
def test_an_error_never_repeats_a_value(value: Any) -> None:
    canary = "c4n4ry-7f3a"
    request = {**GOOD, "prompt": [canary, value], "timeout_s": canary, "parameters": {"stop": canary}}
    with pytest.raises(RequestError) as caught:
        validated(CallRequest, request)
    assert canary not in json.dumps(caught.value.to_wire("r"))


@pytest.mark.parametrize("within", [None, "parameters"])
def test_of_fifty_thousand_unknown_fields_few_are_looked_at(within: str | None) -> None:
    unknown = {f"field{n}": n for n in range(50_000)}
    body = {"prompt": "a", within: unknown} if within else {**unknown, "prompt": "a"}
    tracemalloc.start()
    try:
        with pytest.raises(UnknownField) as caught:
            validated(CallRequest, body)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    problems = caught.value.details["problems"]
    assert isinstance(problems, list)
    assert len(problems) == 20


def test_of_fifty_thousand_bad_entries_of_metadata_none_is_looked_at() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidParameter, match="'metadata' must not be longer than 16"):
            validated(CallRequest, {"prompt": "a", "metadata": {f"{n}\n": 1 for n in range(50_000)}})
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
