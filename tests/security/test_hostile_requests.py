"""What no honest caller sends: each is refused by a stable code, soon, and is no defect."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_gateway.api.calls import CallRequest
from tests.entrypoints.aws_lambda.conftest import Functions, LambdaContext, read_event
from tests.entrypoints.aws_lambda.test_call_prompt import REPLY, http
from tests.upstream import Upstream

CPU_S = 5.0
ADDRESS = "http://169.254.169.254/latest/meta-data"
Call = dict[str, Any]


@pytest.fixture(autouse=True)
def prompts(functions: Functions) -> None:
    functions.upload("support/reply.prompt", REPLY)
    functions.upload("loop.md", "{% for item in items %}{{ item | upper }} {% endfor %}", "02")
    loops = "{% for a in items %}{% for b in items %}{{ b }}{% endfor %}{% endfor %}"
    functions.upload("loops.md", loops, "04")
    functions.lines()


def call(**changes: Any) -> Call:
    return {"prompt": "support/reply", "variables": {"user": {"name": "Ada"}, "ticket": "late"}, **changes}


def asking(schema: Any) -> Call:
    return call(output={"schema": schema})


def with_ticket(text: str) -> str:
    """A body whose variable `ticket` is written just so."""
    return json.dumps(call()).replace('"late"', text)


def nested(depth: int, value: Any) -> Any:
    for _ in range(depth):
        value = {"a": value}
    return value


def answered(functions: Functions, function: str, event: Any) -> tuple[int, str | None]:
    """Status and error code; it took little time, and nothing crashed."""
    began = time.process_time()
    answer = functions.run(function, event)
    assert time.process_time() - began < CPU_S
    assert [line for line in functions.lines() if line.get("message") == "unexpected error"] == []
    body = json.loads(answer["body"])
    assert len(answer["body"]) < 50_000
    return answer["statusCode"], (body.get("error") or {}).get("code")


DEEP = 100_000
BODIES: dict[str, tuple[str | bytes, int, str | None]] = {
    "seven megabytes": (json.dumps(call(x="x" * 7_000_000)), 413, "body_too_large"),
    "a value in 100,000 objects": (with_ticket('{"a":' * DEEP + "1" + "}" * DEEP), 400, "invalid_request"),
    "a value in 100,000 lists": (with_ticket("[" * DEEP + "]" * DEEP), 400, "invalid_request"),
    "100,000 open lists": ("[" * DEEP, 400, "malformed_json"),
    "a number beyond all floats": (with_ticket("1e400"), 400, "invalid_parameter"),
    "a timeout beyond all floats": ('{"prompt": "a", "timeout_s": 1e400}', 400, "invalid_parameter"),
    "5,000 digits": (with_ticket("9" * 5_000), 400, "malformed_json"),
    "4,000 digits": (with_ticket("9" * 4_000), 200, None),
    "tokens of 4,000 digits": (
        with_ticket('1}, "parameters": {"max_tokens": ' + "9" * 4_000), 400, "invalid_parameter"
    ),
    "NaN": (with_ticket("NaN"), 400, "malformed_json"),
    "-Infinity": (with_ticket("-Infinity"), 400, "malformed_json"),
    "a field twice": ('{"prompt": "support/reply", "prompt": "loop"}', 400, "malformed_json"),
    "a variable twice": (with_ticket('{"a": 1, "a": 2}'), 400, "malformed_json"),
    "half a character": (with_ticket('"\\ud800"'), 400, "malformed_json"),
    "half a character in a name": (with_ticket('{"\\udfff": 1}'), 400, "malformed_json"),
    "half a character in an event": (with_ticket('"\ud800"'), 400, "invalid_request"),
    "both halves of a character": (with_ticket('"\\ud83d\\ude00"'), 200, None),
    "a byte order mark": ("\ufeff" + json.dumps(call()), 400, "malformed_json"),
    "two objects": (json.dumps(call()) * 2, 400, "malformed_json"),
    "a comment": ("/* */" + json.dumps(call()), 400, "malformed_json"),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_honest_json(functions: Functions, name: str) -> None:
    body, status, code = BODIES[name]
    assert answered(functions, "call_prompt", http(str(body))) == (status, code)


EVERYTHING_UNPRINTABLE = "".join(map(chr, [*range(32), 127, 0x85, 0x2028, 0x202E, 0xFEFF]))
CALLS: dict[str, tuple[Call, int, str | None]] = {
    "NUL and escape in a variable": (call(variables={"user": {"name": "\0"}, "ticket": "\x1b"}), 200, None),
    "every unprintable character in a variable": (
        call(variables={"user": {"name": EVERYTHING_UNPRINTABLE}, "ticket": ""}), 200, None
    ),
    "names that Python knows": (
        call(variables={"user": {"name": 1}, "ticket": 1, "__class__": 1, "self": 1, "": 1}), 200, None
    ),
    "NUL in a prompt": (call(prompt="a\0b"), 400, "invalid_prompt_path"),
    "a right-to-left mark in a prompt": (call(prompt="a\u202eb"), 400, "invalid_prompt_path"),
    "NUL in a version": (call(version="a\0"), 400, "invalid_parameter"),
    "a new line behind a version": (call(version="a\n"), 400, "invalid_parameter"),
    "NUL in a label": (call(label="a\0"), 400, "invalid_parameter"),
    "NUL in a provider": (call(provider="a\0"), 400, "invalid_parameter"),
    "NUL in a model": (call(model="a\0"), 400, "invalid_parameter"),
    "NUL in a service": (call(calling_service="a\0"), 400, "invalid_parameter"),
    "a new line behind a correlation id": (call(correlation_id="a\n"), 400, "invalid_parameter"),
    "NUL in metadata": (call(metadata={"a": "\0"}), 400, "invalid_parameter"),
    "NUL in a name of metadata": (call(metadata={"a\0": ""}), 400, "invalid_parameter"),
    "a sticky key of separators": (call(sticky_key="a#b|c/d\0e", label="x"), 404, "prompt_not_found"),
    "a stop of NUL": (call(parameters={"stop": ["\0"]}), 200, None),
    "a Cyrillic letter that looks like o": (call(prompt="supp\u043ert/reply"), 404, "prompt_not_found"),
    "full-width letters": (call(prompt="support/\uff52eply"), 404, "prompt_not_found"),
    "a letter taken apart": (call(prompt="cafe\u0301"), 404, "prompt_not_found"),
    "a prompt of 513 bytes": (call(prompt="\u00e9" * 257), 400, "invalid_prompt_path"),
    "a key of the index": (call(prompt="generation"), 404, "prompt_not_found"),
    "a key of the history": (call(prompt="history#support/reply.prompt"), 404, "prompt_not_found"),
    "a megabyte in a variable": (
        call(variables={"user": {"name": "Ada"}, "ticket": "x" * 1_000_000}), 400, "render_limit_exceeded"
    ),
    "300,000 items": (call(variables={"items": [1] * 300_000}), 400, "invalid_request"),
    "90,000 items in a loop": (call(prompt="loop", variables={"items": ["x"] * 90_000}), 200, None),
    "90,000 items in a loop in a loop": (
        call(prompt="loops", variables={"items": ["x"] * 90_000}), 400, "render_limit_exceeded"
    ),
    "60,000 variables": (
        call(variables={"user": {"name": ""}, "ticket": ""} | {f"k{n}": 1 for n in range(60_000)}), 200, None
    ),
    "60,000 unknown fields": ({f"k{n}": 1 for n in range(60_000)}, 400, "invalid_request"),
    "60,000 bad metadata": (call(metadata={f"k{n}": 1 for n in range(60_000)}), 400, "invalid_parameter"),
    "100,000 stops": (call(parameters={"stop": [1] * 100_000}), 400, "invalid_request"),
    "values nested too deeply": (
        call(variables={"user": {"name": ""}, "ticket": nested(190, 1)}), 400, "invalid_parameter"
    ),
    "a reference to a remote schema": (asking({"$ref": ADDRESS}), 400, "invalid_parameter"),
    "a reference to a file": (asking({"$ref": "file:///etc/passwd"}), 400, "invalid_parameter"),
    "a remote dialect": (asking({"$schema": ADDRESS}), 400, "invalid_parameter"),
    "a remote identity": (asking({"$id": ADDRESS}), 200, None),
    "a schema that refers to itself": (asking({"$ref": "#"}), 400, "invalid_parameter"),
    "a schema that demands itself": (
        asking({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        422, "answer_truncated",
    ),
    "two to the fortieth parts": (
        asking(
            {"$defs": {
                f"d{n}": {
                    "type": "object",
                    "properties": {name: {"$ref": f"#/$defs/d{n + 1}"} for name in "ab"},
                    "required": ["a", "b"],
                }
                for n in range(40)
            } | {"d40": {"type": "string"}}, "$ref": "#/$defs/d0"}
        ),
        422, "answer_truncated",
    ),
    "a billion items": (
        asking({"type": "array", "minItems": 10**9, "items": {"type": "string"}}), 422, "answer_truncated"
    ),
    "a text of 10^30 characters": (asking({"type": "string", "minLength": 10**30}), 422, "answer_truncated"),
    "a number of 400 digits": (asking({"type": "integer", "minimum": 10**400}), 422, "answer_truncated"),
    "a step of almost nothing": (
        asking({"type": "number", "multipleOf": 5e-324, "minimum": 5}), 422, "answer_truncated"
    ),
    "a megabyte of schema": (asking({"description": "x" * 1_000_000}), 400, "invalid_parameter"),
    "10,000 properties": (
        asking({"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(10_000)}}),
        400, "invalid_parameter",
    ),
    "references that double 22 times": (
        asking({
            "$ref": "#/$defs/d0",
            "$defs": {
                **{f"d{n}": {"allOf": 2 * [{"$ref": f"#/$defs/d{n + 1}"}]} for n in range(22)}, "d22": {},
            },
        }),
        400, "invalid_parameter",
    ),
    "5,000 patterns": (
        asking({"allOf": [{"pattern": f"^{n}\\w{{1,20}}$"} for n in range(5_000)]}), 400, "invalid_parameter",
    ),
    "20,000 required names": (
        asking({"type": "object", "required": [f"n{n}" for n in range(20_000)]}), 400, "invalid_parameter",
    ),
    "a pattern that backtracks": (
        asking({"type": "string", "pattern": "(a+)+$", "default": "a" * 50_000 + "b"}),
        502, "answer_violates_schema",
    ),
    "a pattern of gigabytes": (
        asking({"type": "string", "pattern": "(((a{1000}){1000}){1000}){1000}"}), 400, "invalid_parameter"
    ),
    "a pattern nested 20,000 times": (
        asking({"type": "string", "pattern": "(" * 20_000 + ")" * 20_000}), 400, "invalid_parameter"
    ),
    "an address as provider": (call(provider=ADDRESS), 400, "unknown_provider"),
    "an address as model": (call(model=ADDRESS), 400, "unknown_provider"),
    "an address as model of a provider": (call(provider="openai", model=ADDRESS), 400, "unknown_model"),
    "an address as prompt": (call(prompt=ADDRESS), 400, "invalid_prompt_path"),
    "a field for an address": (call(base_url=ADDRESS), 400, "unknown_field"),
}  # fmt: skip


@pytest.mark.parametrize(
    "body", [b'{"prompt": "\xff\xfe"}', b"\xed\xa0\x80", '{"prompt": "a"}'.encode("utf-16")]
)
def test_a_body_that_is_no_utf_8(functions: Functions, body: bytes) -> None:
    event = http(base64.b64encode(body).decode(), isBase64Encoded=True)
    assert answered(functions, "call_prompt", event) == (400, "malformed_json")


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_meant_to_hurt(functions: Functions, name: str) -> None:
    """No socket opens while these run: an address in a request is connected to by nobody."""
    event, status, code = CALLS[name]
    assert answered(functions, "call_prompt", http(json.dumps(event))) == (status, code)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json-patch+json"},
        {"Content-Type": "application/json, text/plain"},
        {"Content-Type": "text/json"},
        {"Content-Type": "multipart/form-data"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json; charset=UTF-16"},
        {"Content-Type": "application/json; charset=utf-8; charset=utf-16"},
        {"Content-Type": "application/json; v=1; Charset='us-ascii'"},
        {"Content-Type": "application/json; charset*=utf-16''utf-16"},
        {"Content-Type": "application/json; charset*=idna''x; charset*1=y"},
        {"Content-Type": "application/json; charset*0=utf-; charset*1=16"},
        {"Content-Type": f"application/json; charset*{'9' * 5000}=utf-16"},
        {"Content-Type": 'application/json; charset="utf-8'},
        {"Content-Type": 'application/json; v="' + ";" * 5000},
        {"Content-Type": "application/json; charset"},
        {"Content-Type": "application/json; charset="},
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "identity, br"},
    ],
)
def test_only_json_is_json(functions: Functions, headers: dict[str, str]) -> None:
    event = http(json.dumps(call()), headers=headers)
    assert answered(functions, "call_prompt", event) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "value",
    [
        "application/json;",
        "application/json; charset=utf-8",
        'Application/JSON;charset="UTF-8"',
        "application/json; v=1",
        'application/json ; v="a; charset=\\"utf-16" ;; charset = utf8 ',
    ],
)
def test_json_in_utf_8_is_json(functions: Functions, value: str) -> None:
    event = http(json.dumps(call()), headers={"Content-Type": value, "Content-Encoding": "identity"})
    assert answered(functions, "call_prompt", event) == (200, None)


@pytest.mark.parametrize(
    "name", ["Authorization", "Idempotency-Key", "idempotency-key", "Content-Type", "Content-Length", "Host"]
)
@pytest.mark.parametrize("same", [True, False])
def test_a_header_that_stands_for_one_value_is_refused_twice(
    functions: Functions, name: str, same: bool
) -> None:
    event = http(json.dumps(call()))
    value = event["multiValueHeaders"].get(name, ["a"])[0]
    event["multiValueHeaders"][name] = [value, value if same else "b"]
    assert answered(functions, "call_prompt", event) == (400, "ambiguous_request")


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: a=b", "a\nb", "\u00e9", "\u652f", "a\0", " ", "x" * 256])
def test_an_idempotency_key_cannot_write_a_header(functions: Functions, value: str) -> None:
    event = http(json.dumps(call()), headers={"Idempotency-Key": value})
    answer = functions.run("call_prompt", event)
    assert json.loads(answer["body"])["error"]["param"] == "idempotency_key"
    assert "set-cookie" not in answer["headers"]


def test_a_request_id_of_the_callers_is_not_taken_over(functions: Functions) -> None:
    answer = functions.run("call_prompt", http("{}", headers={"x-request-id": "forged"}))
    assert answer["headers"]["x-request-id"] == read_event("call_prompt_http")["requestContext"]["requestId"]
    assert "forged" not in functions.capture.readouterr().out


BEYOND_JSON: dict[str, Call] = {
    "half a character": call(variables={"user": {"name": ""}, "ticket": "\ud800"}),
    "half a character in a name": call(variables={"user": {"name": ""}, "ticket": "", "\ud800": 1}),
    "infinity": call(variables={"user": {"name": ""}, "ticket": float("inf")}),
    "not a number": call(variables={"user": {"name": ""}, "ticket": float("nan")}, idempotency_key="nan"),
    "5,000 digits": call(variables={"user": {"name": ""}, "ticket": 10**5_000}, idempotency_key="digits"),
    "half a character in a schema": asking({"title": "\ud800"}),
    "half a character in a prompt": call(prompt="\ud800"),
    "half a character in a service": call(calling_service="\ud800"),
    "half a character in metadata": call(metadata={"\ud800": ""}),
    "half a character in a field": call(**{"\ud800": 1}),
    "a value in 10,000 objects": call(variables=nested(10_000, 1)),
    "a schema in 10,000 objects": asking(nested(10_000, True)),
    "a request in 10,000 objects": nested(10_000, 1),
}


@pytest.mark.parametrize("name", BEYOND_JSON)
def test_an_invoke_with_what_json_cannot_hold(functions: Functions, name: str) -> None:
    """Lambda decodes events by itself, with Python's idea of JSON."""
    direct = functions.run("call_prompt", BEYOND_JSON[name])
    assert direct["error"]["type"] == "invalid_request_error"
    with pytest.raises(Exception, match="invalid_request_error") as caught:
        functions.run("call_prompt_async", BEYOND_JSON[name])
    assert json.loads(str(caught.value))["error"]["code"] == direct["error"]["code"]
    assert "unexpected error" not in functions.capture.readouterr().out


PATHS: dict[str, tuple[int, str]] = {
    "..%2f..%2fetc": (400, "invalid_prompt_path"),
    "%2e%2e/secret": (400, "invalid_prompt_path"),
    "..\\secret": (400, "invalid_prompt_path"),
    "..%5csecret": (400, "invalid_prompt_path"),
    "/etc/passwd": (400, "invalid_prompt_path"),
    "a/../b": (400, "invalid_prompt_path"),
    "a//b": (400, "invalid_prompt_path"),
    "support/reply.prompt/": (400, "invalid_prompt_path"),
    "support/reply%00": (400, "invalid_prompt_path"),
    "a\ud800": (400, "invalid_prompt_path"),
    "": (400, "invalid_prompt_path"),
    "x" * 5_000: (400, "invalid_prompt_path"),
    "support/reply.": (404, "prompt_not_found"),
    "support/reply...": (404, "prompt_not_found"),
    "\uff0e\uff0e/secret": (404, "prompt_not_found"),
    "%ff": (404, "prompt_not_found"),
    "%zz": (404, "prompt_not_found"),
    "history#support": (404, "prompt_not_found"),
    "a|b": (404, "prompt_not_found"),
}


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_wants_elsewhere(functions: Functions, path: str) -> None:
    event = {**read_event("get_prompt_metadata_found"), "path": f"/v1/prompts/{path}"}
    assert answered(functions, "get_prompt_metadata", event) == PATHS[path]


def queried(event: str, query: dict[str, list[str]]) -> dict[str, Any]:
    single = {name: values[-1] for name, values in query.items()}
    return {**read_event(event), "queryStringParameters": single, "multiValueQueryStringParameters": query}


LISTS: dict[str, tuple[dict[str, list[str]], int, str | None]] = {
    "a directory above": ({"directory": [".."]}, 400, "invalid_prompt_path"),
    "a directory with NUL": ({"directory": ["a\0"]}, 400, "invalid_prompt_path"),
    "a directory of a megabyte": ({"directory": ["x" * 1_000_000]}, 400, "invalid_parameter"),
    "separators": ({"directory": ["a#b|c%"]}, 200, None),
    "half a character in a directory": ({"directory": ["\ud800"]}, 400, "invalid_request"),
    "half a character in a cursor": ({"cursor": ["\ud800"]}, 400, "invalid_request"),
    "half a character in a name": ({"\ud800": ["1"]}, 400, "invalid_request"),
    "a limit of 5,000 digits": ({"limit": ["9" * 5_000]}, 400, "invalid_request"),
    "a limit twice": ({"limit": ["1", "2"]}, 400, "ambiguous_request"),
    "the same limit twice": ({"limit": ["1", "1"]}, 400, "ambiguous_request"),
    "an unknown field twice": ({"x": ["1", "1"]}, 400, "ambiguous_request"),
    "a limit that is none": ({"limit": ["NaN"]}, 400, "invalid_request"),
    "a limit below": ({"limit": ["-1"]}, 400, "invalid_parameter"),
    "a forged cursor": ({"cursor": ["Li4vc2VjcmV0"]}, 400, "invalid_parameter"),
    "a cursor that is no text": ({"cursor": ["__79"]}, 400, "invalid_parameter"),
    "a cursor of padding": ({"cursor": ["===="]}, 400, "invalid_parameter"),
    "3,000 parameters": ({f"q{n}": ["1"] for n in range(3_000)}, 400, "unknown_field"),
    "a parameter's name of 100 kB": ({"q" * 100_000: ["1"]}, 400, "unknown_field"),
    "a parameter without a name": ({"": ["1"]}, 400, "unknown_field"),
}
MONTH = {"start": ["2026-11-01T00:00:00Z"], "end": ["2026-11-02T00:00:00Z"]}
QUESTIONS: dict[str, tuple[dict[str, list[str]], int, str | None]] = {
    "a group 1,000 times": ({"group_by": ["model"] * 1_000}, 400, "invalid_parameter"),
    "two services": ({"calling_service": ["shop", "billing"]}, 400, "ambiguous_request"),
    "two groups": ({"group_by": ["model", "prompt"]}, 200, None),
    "separators in filters": ({"calling_service": ["a#b|c\0"], "prompt": ["../x"]}, 200, None),
    "half a character in a filter": ({"calling_service": ["\ud800"]}, 400, "invalid_request"),
    "a filter of a megabyte": ({"model": ["x" * 1_000_000]}, 400, "invalid_parameter"),
    "the first year": (
        {"start": ["0001-01-01T00:00:00+14:00"], "end": ["0001-01-02T00:00:00Z"]}, 400, "invalid_parameter"
    ),
    "the last year": (
        {"start": ["9999-12-31T00:00:00Z"], "end": ["9999-12-31T23:59:59-14:00"]}, 400, "invalid_parameter"
    ),
    "the last year there is": (
        {"start": ["9998-12-31T00:00:00Z"], "end": ["9998-12-31T23:59:59-14:00"]}, 200, None
    ),
    "a thousand years": ({"end": ["3026-11-02T00:00:00Z"]}, 400, "invalid_parameter"),
    "a time beyond all floats": ({"start": ["1e400"]}, 400, "invalid_request"),
    "a new line behind a time": ({"start": ["2026-11-01T00:00:00Z\n"]}, 400, "invalid_request"),
    "a far cursor": ({"cursor": ["9" * 16]}, 200, None),
    "a cursor of other digits": ({"cursor": ["\u0665"]}, 400, "invalid_parameter"),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_nobody_honest_asks_for(functions: Functions, name: str) -> None:
    query, status, code = LISTS[name]
    assert answered(functions, "list_prompts", queried("list_prompts_all", query)) == (status, code)


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_about_usage_that_nobody_honest_asks(functions: Functions, name: str) -> None:
    query, status, code = QUESTIONS[name]
    event = queried("get_usage_stats_by_model", {**MONTH, **query})
    assert answered(functions, "get_usage_stats", event) == (status, code)


@pytest.mark.parametrize("field", ["provider", "model", "prompt", "version", "label"])
def test_no_field_of_a_request_becomes_an_address(live: Functions, upstream: Upstream, field: str) -> None:
    live.upload("support/reply.prompt", REPLY)
    for address in (
        upstream.url,
        upstream.url.removeprefix("http://"),
        f"openai/{upstream.url}",
        "//127.0.0.1",
    ):
        assert "error" in live.run("call_prompt", call(**{field: address})), address
    assert upstream.requests == []


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=10,
)
FIELDS = st.one_of(st.sampled_from(sorted(CallRequest.model_fields)), st.text(max_size=12))
OBJECTS = st.dictionaries(FIELDS, VALUES, max_size=6)


@settings(
    max_examples=300, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(body=st.one_of(OBJECTS, OBJECTS.map(lambda changes: {**call(), **changes})))
def test_any_object_is_answered_or_refused_and_never_a_defect(
    functions: Functions, body: dict[str, Any]
) -> None:
    for event in (http(json.dumps(body)), body):
        answer = functions.run("call_prompt", event, LambdaContext())
        status, told = (
            (answer["statusCode"], json.loads(answer["body"])) if "body" in answer else (None, answer)
        )
        if "error" not in told:
            assert status in (None, 200)
            continue
        assert set(told["error"]) == {
            "message", "type", "code", "param", "request_id", "retryable", "details",
        }  # fmt: skip
        assert status is None or 400 <= status < 500
        assert told["error"]["code"] != "internal_error"
