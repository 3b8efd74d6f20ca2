"""The real handlers, loaded from functions/ as Lambda does, on stores that moto stands in for."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from moto import mock_aws
from pytest_socket import disable_socket, enable_socket, socket_allow_hosts

from llm_gateway.adapters.aws.prompt_index import DynamoPromptIndex
from llm_gateway.entrypoints.aws_lambda.event_loop import run
from tests import upstream as loopback
from tests.contract.tables import client, create_bucket, create_queue, create_table
from tests.upstream import Upstream

ROOT = Path(__file__).parents[3]
EVENTS = ROOT / "events"
Handler = Callable[[Mapping[str, Any], Any], dict[str, Any]]


@dataclass
class LambdaContext:
    """What Lambda passes beside the event."""

    function_name: str = "function-under-test"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:function-under-test"
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    remaining_ms: int = 60_000

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


@dataclass
class Functions:
    """Handlers by name, each loaded once, and the stores behind them."""

    s3: Any
    bucket: str
    dynamodb: Any
    prompt_table: str
    usage_table: str
    outcome_table: str
    budget_table: str
    key_table: str
    pepper: str
    queues: dict[str, str]
    sqs: Any
    capture: pytest.CaptureFixture[str]
    loaded: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def made(cls, s3: Any, dynamodb: Any, capture: pytest.CaptureFixture[str]) -> Functions:
        kinds = ("PromptTable", "UsageTable", "OutcomeTable", "BudgetTable", "KeyTable")
        prompts, usage, outcomes, budgets, keys = (create_table(dynamodb, name) for name in kinds)
        secret = {"Name": f"pepper-{uuid.uuid4().hex[:8]}", "SecretString": "p" * 64}
        pepper = client("secretsmanager", None).create_secret(**secret)["ARN"]
        sqs = client("sqs", None)
        queues = {name: create_queue(sqs, name) for name in ("answers", "failures", "usage")}
        tables = (prompts, usage, outcomes, budgets, keys)
        return cls(s3, create_bucket(s3), dynamodb, *tables, pepper, queues, sqs, capture)

    def run(self, name: str, event: Mapping[str, Any] | str, context: LambdaContext | None = None) -> Any:
        """Invoke a handler with an event, or with the one in events/<event>.json."""
        given = read_event(event) if isinstance(event, str) else event
        return self._handler(name)(given, context or LambdaContext())

    def http(
        self, name: str, event: Mapping[str, Any] | str, context: LambdaContext | None = None
    ) -> tuple[int, Any]:
        """Status and JSON body of an HTTP answer."""
        answer = self.run(name, event, context)
        assert answer["headers"]["content-type"] == "application/json"
        assert answer["isBase64Encoded"] is False
        return answer["statusCode"], json.loads(answer["body"])

    def upload(self, path: str, text: str, sequencer: str = "01") -> str:
        """Upload a prompt and deliver its event."""
        version = self.s3.put_object(Bucket=self.bucket, Key=path, Body=text.encode())["VersionId"]
        event = read_event("index_prompt_created")
        event["Records"][0]["s3"]["object"] |= {"key": quote_plus(path, safe="/"), "sequencer": sequencer}
        self.run("index_prompt", event)
        return str(version)

    def results(self, queue: str) -> list[dict[str, Any]]:
        """Results that were sent to a queue since the last look."""
        answer = self.sqs.receive_message(QueueUrl=self.queues[queue], MaxNumberOfMessages=10)
        messages = answer.get("Messages", [])
        for message in messages:
            self.sqs.delete_message(QueueUrl=self.queues[queue], ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in messages]

    def lines(self) -> list[dict[str, Any]]:
        """Everything printed so far, each line as JSON; a line that is none fails."""
        return [json.loads(line) for line in self.capture.readouterr().out.splitlines()]

    def clear(self) -> None:
        """Empty the stores, and tell the warm handlers that something changed."""
        for table in (self.prompt_table, self.usage_table):
            for item in self.dynamodb.scan(TableName=table)["Items"]:
                if item["pk"]["S"] != "generation":
                    key = {"pk": item["pk"], "sk": item["sk"]}
                    self.dynamodb.delete_item(TableName=table, Key=key)
        for item in self.dynamodb.scan(TableName=self.outcome_table)["Items"]:
            self.dynamodb.delete_item(TableName=self.outcome_table, Key={"pk": item["pk"]})
        listed = self.s3.list_object_versions(Bucket=self.bucket)
        for found in [*listed.get("Versions", []), *listed.get("DeleteMarkers", [])]:
            self.s3.delete_object(Bucket=self.bucket, Key=found["Key"], VersionId=found["VersionId"])
        asyncio.run(DynamoPromptIndex(self.dynamodb, self.prompt_table).bump_generation())

    def attend(self, capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """Run in the functions' environment."""
        self.capture = capture
        for variable, value in self._environment().items():
            monkeypatch.setenv(variable, value)

    def _handler(self, name: str) -> Handler:
        if name not in self.loaded:
            logging.Logger.manager.loggerDict.pop(name, None)  # an earlier one writes elsewhere
            self.loaded[name] = _load(name)
        module = self.loaded[name]
        module.parts.telemetry.logger.registered_handler.stream = sys.stdout  # another one in each test
        handler: Handler = module.handler
        return handler

    def _environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "LLM_GATEWAY_TEST_MODE": "true",
            "LLM_GATEWAY_TEST_LATENCY": "none",
            "LLM_GATEWAY_LEAN_AWS": "false",  # moto stands in for the SDK only
            "LLM_GATEWAY_PROMPT_CACHE_TTL_S": "0",
            "LLM_GATEWAY_PROMPT_BUCKET": self.bucket,
            "LLM_GATEWAY_PROMPT_TABLE": self.prompt_table,
            "LLM_GATEWAY_USAGE_TABLE": self.usage_table,
            "LLM_GATEWAY_USAGE_QUEUE_URL": self.queues["usage"],
            "LLM_GATEWAY_USAGE_EVENT_BUS": "calls",
            "LLM_GATEWAY_OUTCOME_TABLE": self.outcome_table,
            "LLM_GATEWAY_BUDGET_TABLE": self.budget_table,
            "LLM_GATEWAY_KEY_TABLE": self.key_table,
            "LLM_GATEWAY_KEY_PEPPER_ARN": self.pepper,
            "LLM_GATEWAY_ANSWER_QUEUE_URL": self.queues["answers"],
            "LLM_GATEWAY_FAILURE_QUEUE_URL": self.queues["failures"],
            **self.settings,
        }


def _load(name: str) -> Any:
    path = ROOT / "functions" / name / "app.py"
    spec = importlib.util.spec_from_file_location(f"app_of_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_event(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text(encoding="utf-8"))
    return event


@pytest.fixture(scope="session")
def moto_clients() -> Iterator[tuple[Any, Any]]:
    with mock_aws():
        yield client("s3", None), client("dynamodb", None)


@pytest.fixture(scope="session")
def shared(moto_clients: tuple[Any, Any]) -> list[Functions]:
    return []


@pytest.fixture
def functions(
    moto_clients: tuple[Any, Any],
    shared: list[Functions],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Functions:
    """Handlers that all tests share, on emptied stores."""
    disable_socket(allow_unix_socket=True)
    if not shared:
        shared.append(Functions.made(*moto_clients, capsys))
    shared[0].clear()
    shared[0].attend(capsys, monkeypatch)
    return shared[0]


@pytest.fixture
def fragile(
    moto_clients: tuple[Any, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Functions:
    """Handlers and stores of one test's own, for it to break."""
    disable_socket(allow_unix_socket=True)
    made = Functions.made(*moto_clients, capsys)
    made.attend(capsys, monkeypatch)
    return made


@pytest.fixture(scope="session")
def loopback_upstream() -> Iterator[Upstream]:
    with loopback.running() as server:
        yield server


@pytest.fixture
def upstream(loopback_upstream: Upstream) -> Upstream:
    loopback_upstream.forget()
    return loopback_upstream


@pytest.fixture(scope="session")
def out_of_test_mode(
    moto_clients: tuple[Any, Any], loopback_upstream: Upstream
) -> Iterator[Callable[[pytest.CaptureFixture[str]], Functions]]:
    """Handlers that read their key from Secrets Manager and ask the loopback upstream, made once."""
    made: list[Functions] = []

    def get(capture: pytest.CaptureFixture[str]) -> Functions:
        if not made:
            name = f"openai-{uuid.uuid4().hex[:8]}"
            secret = client("secretsmanager", None).create_secret(Name=name, SecretString="sk-test")
            made.append(Functions.made(*moto_clients, capture))
            made[0].settings = {
                "LLM_GATEWAY_TEST_MODE": "false",
                "LLM_GATEWAY_OPENAI_SECRET_ARN": secret["ARN"],
                "LLM_GATEWAY_OPENAI_BASE_URL": loopback_upstream.url,
            }
        return made[0]

    yield get
    for functions in made:
        if "call_prompt" in functions.loaded:
            run(functions.loaded["call_prompt"].parts.close())


@pytest.fixture
def live(
    out_of_test_mode: Callable[[pytest.CaptureFixture[str]], Functions],
    upstream: Upstream,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Functions:
    """Handlers out of test mode, on emptied stores; the only network they have is loopback."""
    enable_socket()
    socket_allow_hosts(["127.0.0.1"], allow_unix_socket=True)
    functions = out_of_test_mode(capsys)
    functions.attend(capsys, monkeypatch)
    functions.clear()
    return functions
