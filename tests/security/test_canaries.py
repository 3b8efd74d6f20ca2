"""Nothing leaks: a random string in each place where a secret may be, through every entrance and error.

Metadata are on the ledger, in events and in the line `usage not recorded`, correlation ids in the log as
well; answers are what was asked for. Everything else stays where it was put.
"""

from __future__ import annotations

import asyncio
import json
import logging
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pytest_socket import enable_socket, socket_allow_hosts

from llm_gateway.adapters.aws.usage_events import EventBridgeBus
from llm_gateway.entrypoints.aws_lambda.event_loop import run
from llm_gateway.entrypoints.aws_lambda.usage_stream import publish
from tests.contract.tables import client
from tests.entrypoints.aws_lambda.conftest import Functions, read_event
from tests.entrypoints.aws_lambda.test_call_prompt import http
from tests.entrypoints.aws_lambda.test_publish_usage import Bus
from tests.fakes import RecordingObserver
from tests.security.canaries import Canaries, call_full_of
from tests.upstream import Reply, Upstream, chat_completion

OWN_WORDS = ("correlation id", "metadata name", "metadata value")
LIBRARIES = ("boto3", "botocore", "urllib3", "openai", "httpx2", "httpcore2", "jinja2", "asyncio")


@dataclass
class Watched:
    """Handlers at level DEBUG, and the canaries around them."""

    functions: Functions
    canaries: Canaries

    def call(self, **changes: Any) -> dict[str, Any]:
        return call_full_of(self.canaries, **{"idempotency_key": self.canaries["idempotency key"], **changes})

    def over_http(self, body: str) -> str:
        c = self.canaries
        headers = {"Authorization": f"Bearer {c['gateway key']}", "Cookie": c["cookie"], "X-Any": c["header"]}
        query = {c["query name"]: c["query value"]}
        event = http(body, headers=headers, queryStringParameters=query)
        event["multiValueQueryStringParameters"] = {name: [value] for name, value in query.items()}
        return json.dumps(self.functions.run("call_prompt", event))

    def by_invoke(self, body: str) -> str:
        return json.dumps(self.functions.run("call_prompt", json.loads(body)))

    def by_event(self, body: str) -> str:
        """What Lambda writes into its log and its records if the handler raises is its message."""
        try:
            return json.dumps(self.functions.run("call_prompt_async", json.loads(body)))
        except Exception as error:
            return f"{type(error).__name__} {error}"

    def by_queue(self, body: str) -> str:
        record = {**read_event("call_prompt_async_queue")["Records"][0], "body": body}
        told = self.functions.run("call_prompt_async", {"Records": [record]})
        results = [*self.functions.results("answers"), *self.functions.results("failures")]
        return json.dumps([told, results])

    def printed(self, *allowed: str) -> list[str]:
        captured = self.functions.capture.readouterr()
        assert captured.out
        return self.canaries.places_in(captured.out + captured.err, *allowed)

    def items(self, table: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.functions.dynamodb.scan(TableName=table)["Items"]
        return found


ENTRANCES: dict[str, Callable[[Watched, str], str]] = {
    "HTTP": Watched.over_http,
    "invoke": Watched.by_invoke,
    "asynchronous invoke": Watched.by_event,
    "queue": Watched.by_queue,
}


@pytest.fixture(scope="module")
def handlers(moto_clients: tuple[Any, Any], loopback_upstream: Upstream) -> Iterator[list[Watched]]:
    """Room for handlers that this module shares."""
    made: list[Watched] = []
    yield made
    for watched in made:
        for module in watched.functions.loaded.values():
            run(module.parts.close())


def watch(moto_clients: tuple[Any, Any], base_url: str, capture: pytest.CaptureFixture[str]) -> Watched:
    canaries = Canaries()
    functions = Functions.made(*moto_clients, capture)
    secret = {"Name": canaries["secret's name"], "SecretString": canaries["provider key"]}
    functions.settings = {
        "LLM_GATEWAY_TEST_MODE": "false",
        "LLM_GATEWAY_LOG_LEVEL": "DEBUG",
        "LLM_GATEWAY_RETRY_LIMIT": "1",
        "LLM_GATEWAY_RETRY_FIRST_WAIT_S": "0",
        "LLM_GATEWAY_OPENAI_SECRET_ARN": client("secretsmanager", None).create_secret(**secret)["ARN"],
        "LLM_GATEWAY_OPENAI_BASE_URL": base_url,
    }
    return Watched(functions, canaries)


def prepared(watched: Watched, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> Watched:
    """In the handlers' environment, on emptied stores with one prompt and fresh canaries."""
    enable_socket()
    socket_allow_hosts(["127.0.0.1"], allow_unix_socket=True)
    key = watched.canaries["provider key"]
    watched = Watched(watched.functions, Canaries({"provider key": key}))
    watched.functions.attend(capture, patch)
    watched.functions.clear()
    text = f"---\ninput: {{default: {{tone: {watched.canaries['default']}}}}}\n---\nsystem:\n"
    watched.functions.upload(
        "secret.md", f"{text}{watched.canaries['prompt text']}\nuser:\n{{{{ who }}}} {{{{ tone }}}}"
    )
    return watched


@pytest.fixture
def watched(
    handlers: list[Watched],
    moto_clients: tuple[Any, Any],
    upstream: Upstream,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Watched:
    if not handlers:
        handlers.append(watch(moto_clients, upstream.url, capsys))
    return prepared(handlers[0], capsys, monkeypatch)


@pytest.fixture
def alone(
    moto_clients: tuple[Any, Any],
    upstream: Upstream,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Watched]:
    """Handlers and stores of one test's own, for it to break."""
    made = prepared(watch(moto_clients, upstream.url, capsys), capsys, monkeypatch)
    yield made
    for module in made.functions.loaded.values():
        run(module.parts.close())


def answer(c: Canaries) -> Reply:
    return Reply(body=chat_completion(json.dumps({c["property"]: c["answer"]})))


def vendor_error(status: int, code: str | None = None) -> Callable[[Canaries], Reply]:
    def reply(c: Canaries) -> Reply:
        error = {
            "message": c["vendor's text"],
            "type": c["vendor's type"],
            "param": c["vendor's param"],
            "code": code,
        }
        headers = {"x-any": c["vendor's header"], "location": f"http://127.0.0.1:9/{c['redirection']}"}
        return Reply(status, {"error": error, "more": c["vendor's more"]}, headers)

    return reply


def said(**changes: Any) -> Callable[[Canaries], Reply]:
    """A completion whose message is different; `CANARY` in its texts is one."""
    return lambda c: Reply(
        body=json.loads(json.dumps(chat_completion(None, **changes)).replace("CANARY", c["answer"]))
    )


def choice(reason: str = "stop", **message: Any) -> list[dict[str, Any]]:
    return [{"index": 0, "finish_reason": reason, "message": {"role": "assistant", **message}}]


PATHS: dict[str, Callable[[Canaries], Reply]] = {
    "an answer": answer,
    **{
        f"status {status}": vendor_error(status)
        for status in (302, 400, 401, 403, 404, 408, 409, 413, 418, 422, 429, 500, 503)
    },
    "no credit": vendor_error(429, "insufficient_quota"),
    "a content filter": vendor_error(400, "content_filter"),
    "a code that is no name": vendor_error(400, "no name CANARY"),
    "no JSON": lambda c: Reply(body=f"<html>{c['answer']}".encode()),
    "half of an answer": lambda c: Reply(body=answer(c).body, sends="half", then="disconnect"),
    "a reset": lambda c: Reply(body=answer(c).body, sends="half", then="reset"),
    "no choices": said(choices=[], model="CANARY"),
    "a refusal": said(choices=choice(refusal="CANARY", content="CANARY")),
    "a filtered answer": said(choices=choice("content_filter")),
    "a cut answer": said(choices=choice("length", content='{"CANARY')),
    "an answer that is no JSON": said(choices=choice(content="CANARY")),
    "an answer that does not fit": said(choices=choice(content='["CANARY"]')),
    "an answer with wrong counts": said(choices=choice(content="{}"), usage={"prompt_tokens": "CANARY"}),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("path", PATHS)
def test_a_call_leaves_no_content_behind(
    watched: Watched, upstream: Upstream, entrance: str, path: str
) -> None:
    c = watched.canaries
    upstream.answers(PATHS[path](c), PATHS[path](c))
    told = ENTRANCES[entrance](watched, json.dumps(watched.call()))
    sent = json.dumps(upstream.requests) + str(upstream.keys)
    assert {"prompt text", "variable", "default", "provider key"} <= set(c.places_in(sent))
    own = ("answer", "property") if path == "an answer" else ()
    assert c.places_in(told, "correlation id", *own) == []
    assert watched.printed("correlation id") == []
    check_stores(watched, *own)


def check_stores(watched: Watched, *own: str) -> None:
    """Ledger, sums, events and kept answers hold what they are said to and no more."""
    c, functions = watched.canaries, watched.functions
    calls = watched.items(functions.usage_table)
    assert len(calls) == 1
    assert c.places_in(str(calls)) == sorted(OWN_WORDS, key=list(c).index)
    kept = watched.items(functions.outcome_table)
    texts = [zlib.decompress(item["outcome"]["B"]).decode() for item in kept if "outcome" in item]
    assert c.places_in(str(kept) + "".join(texts), "correlation id", *own) == []
    event = {"Records": [inserted(item) for item in calls]}
    functions.run("roll_up_usage", event)
    sums = [item for item in watched.items(functions.usage_table) if item["pk"]["S"].startswith("rollup")]
    assert sums
    assert c.places_in(str(sums)) == []
    bus = Bus()
    asyncio.run(publish(event, EventBridgeBus(bus, "calls", 0), RecordingObserver()))
    assert c.places_in(json.dumps(bus.taken)) == sorted(OWN_WORDS, key=list(c).index)
    assert watched.printed() == []


def inserted(item: dict[str, Any]) -> dict[str, Any]:
    keys = {name: item[name] for name in ("pk", "sk")}
    return {"eventName": "INSERT", "dynamodb": {"Keys": keys, "NewImage": item, "SequenceNumber": "1"}}


REFUSED: dict[str, Callable[[Watched], str]] = {
    "no JSON": lambda w: json.dumps(w.call())[:-1],
    "a field twice": lambda w: json.dumps(w.call())[:-1] + f', "prompt": "{w.canaries["prompt"]}"}}',
    "an unknown field": lambda w: json.dumps(w.call(**{w.canaries["field"]: w.canaries["field's value"]})),
    "an unknown prompt": lambda w: json.dumps(w.call(prompt=w.canaries["prompt"])),
    "a bad prompt": lambda w: json.dumps(w.call(prompt=f"/{w.canaries['prompt']}")),
    "an unknown version": lambda w: json.dumps(w.call(version=w.canaries["version"])),
    "an unknown label": lambda w: json.dumps(w.call(label="l" + w.canaries["label"])),
    "an unknown model": lambda w: json.dumps(w.call(model=w.canaries["model"])),
    "an unknown provider": lambda w: json.dumps(w.call(provider=w.canaries["provider"])),
    "a wrong type": lambda w: json.dumps(w.call(timeout_s=w.canaries["timeout"])),
    "wrong parameters": lambda w: json.dumps(w.call(parameters={"temperature": w.canaries["temperature"]})),
    "wrong variables": lambda w: json.dumps(w.call(variables=[w.canaries["variable"]])),
    "wrong metadata": lambda w: json.dumps(w.call(metadata={w.canaries["metadata name"]: 1})),
    "a wrong correlation id": lambda w: json.dumps(w.call(correlation_id=f" {w.canaries['correlation id']}")),
    "a wrong idempotency key": lambda w: json.dumps(
        w.call(idempotency_key=f" {w.canaries['idempotency key']}")
    ),
    "a missing variable": lambda w: json.dumps(w.call(variables={w.canaries["variable name"]: 1})),
    "a schema that is none": lambda w: json.dumps(
        w.call(output={"schema": {"properties": {w.canaries["property"]: {"type": w.canaries["schema"]}}}})
    ),
    "a schema nested too deeply": lambda w: json.dumps(w.call(output={"schema": deep(w.canaries["schema"])})),
    "a value that does not fit": lambda w: json.dumps(w.call(prompt="typed")),
    "a value that breaks the template": lambda w: json.dumps(w.call(prompt="dividing")),
}  # fmt: skip
NAMES = {
    "field", "prompt", "correlation id", "metadata name", "property", "schema", "inner name", "variable name"
}  # fmt: skip


def deep(name: str) -> Any:
    value: Any = True
    for _ in range(300):
        value = {name: value}
    return value


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("reason", REFUSED)
def test_a_refusal_names_fields_and_never_values(
    watched: Watched, upstream: Upstream, entrance: str, reason: str
) -> None:
    typed = "---\ninput: {schema: {who: integer}}\n---\n{{ who }}"
    watched.functions.upload("typed.md", typed, "02")
    watched.functions.upload("dividing.md", "{{ who / 2 }}", "03")
    body = REFUSED[reason](watched)
    if entrance in ("invoke", "asynchronous invoke"):
        try:
            json.loads(body)
        except ValueError:
            pytest.skip("Lambda itself refuses this")
    told = ENTRANCES[entrance](watched, body)
    assert '"error' in told or '\\"error' in told
    assert set(watched.canaries.places_in(told)) - NAMES == set()
    assert watched.printed("correlation id") == []
    assert upstream.requests == []


BROKEN = {
    "YAML": "---\ndescription: [CANARY\n---\nCANARY",
    "a YAML value": "---\nmodel: {CANARY: CANARY}\n---\nCANARY",
    "a YAML tag": "---\ndescription: !CANARY CANARY\n---\n",
    "a YAML anchor": "---\ndescription: *CANARY\n---\n",
    "a key twice": "---\nmetadata: {a: CANARY, a: CANARY}\n---\n",
    "a type": "---\nconfig: {temperature: CANARY}\n---\nCANARY",
    "a timeout": "---\ngateway.timeoutMs: CANARY\n---\n",
    "a schema": "---\ninput: {schema: {type: CANARY}}\n---\n",
    "a tag": "CANARY {% CANARY %}",
    "a filter": "{{ 'CANARY' | CANARY }}",
    "an expression": "{{ CANARY( }} CANARY",
    "an open block": "{% if CANARY %} CANARY",
    "an open comment": "{# CANARY",
    "an expression that costs too much": "{{ 'CANARY' * 10 ** 9 }}",
    "an attribute": "{{ (who ~ 'CANARY').__class__ }} CANARY",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_prompt_is_told_of_without_its_text(watched: Watched, what: str) -> None:
    c = watched.canaries
    watched.functions.upload("broken.md", BROKEN[what].replace("CANARY", c["broken text"]), "04")
    told = watched.by_invoke(json.dumps(watched.call(prompt="broken", output={})))
    assert c.places_in(told, "correlation id", "property") == []
    assert watched.printed("correlation id") == []


def test_what_the_stores_refuse_is_told_of_without_content(alone: Watched, upstream: Upstream) -> None:
    """With the ledger gone, then its queue, then what else there is."""
    c, functions = alone.canaries, alone.functions
    functions.dynamodb.delete_table(TableName=functions.usage_table)
    upstream.answers(answer(c))
    assert (
        c.places_in(alone.over_http(json.dumps(alone.call())), "correlation id", "answer", "property") == []
    )
    assert alone.printed("correlation id") == []
    waiting = functions.results("usage")
    assert c.places_in(json.dumps(waiting)) == sorted(OWN_WORDS, key=list(c).index)
    message = {"messageId": "m", "body": json.dumps(waiting[0])}
    functions.run("drain_usage", {"Records": [message]})  # the ledger is still gone
    assert alone.printed() == []
    functions.sqs.delete_queue(QueueUrl=functions.queues["usage"])
    alone.over_http(json.dumps(alone.call(idempotency_key="another")))
    assert alone.printed(*OWN_WORDS) == []
    for table in (functions.outcome_table, functions.prompt_table):
        functions.dynamodb.delete_table(TableName=table)
        for entrance in ENTRANCES.values():
            assert c.places_in(entrance(alone, json.dumps(alone.call())), "correlation id") == []
        assert alone.printed("correlation id") == []


def test_an_unreachable_vendor_is_told_of_without_its_address(
    moto_clients: tuple[Any, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens on port 9 of loopback; the library's own error quotes the address."""
    path = Canaries()["address"]
    made = watch(moto_clients, f"http://127.0.0.1:9/{path}", capsys)
    alone = prepared(made, capsys, monkeypatch)
    alone.canaries["address"] = path
    for entrance in ENTRANCES.values():
        assert alone.canaries.places_in(entrance(alone, json.dumps(alone.call())), "correlation id") == []
    assert alone.printed("correlation id") == []
    for module in alone.functions.loaded.values():
        run(module.parts.close())


@pytest.mark.parametrize("operation", ["GetItem", "Query", "PutItem"])
def test_a_defect_deep_inside_tells_its_class_and_place_only(alone: Watched, operation: str) -> None:
    """The AWS SDK's own hook raises: below everything of ours, what no error table expects."""
    c, functions = alone.canaries, alone.functions
    event = read_event("index_prompt_created")
    event["Records"][0]["s3"]["object"] |= {"key": "secret.md", "sequencer": "09"}

    def defect(**_: Any) -> None:
        raise RuntimeError(f"{c['defect']} {c['variable']} {c['prompt text']}")

    for entrance in ENTRANCES.values():
        entrance(alone, json.dumps(alone.call(idempotency_key="to load everything")))
    assert alone.printed("correlation id") == []
    for name in ("call_prompt", "call_prompt_async", "index_prompt"):
        dynamodb = functions.loaded[name].parts._aws.dynamodb  # the client itself, not what we make of it
        dynamodb.meta.events.register(f"before-parameter-build.dynamodb.{operation}", defect)
    told = [entrance(alone, json.dumps(alone.call())) for entrance in ENTRANCES.values()]
    try:
        told.append(str(functions.run("index_prompt", event)))
    except Exception as error:
        told.append(f"{type(error).__name__} {error}")
    printed = functions.capture.readouterr().out
    assert '"exception_name":"RuntimeError"' in printed
    assert c.places_in("".join(told), "correlation id", "answer", "property") == []
    assert c.places_in(printed, *OWN_WORDS) == []


def test_our_debug_level_is_not_that_of_the_libraries(watched: Watched) -> None:
    watched.by_invoke(json.dumps(watched.call()))
    assert watched.functions.loaded["call_prompt"].parts.telemetry.logger.log_level == logging.DEBUG
    assert [name for name in LIBRARIES if logging.getLogger(name).isEnabledFor(logging.DEBUG)] == []
