"""The four methods, from a client's message to its answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from llm_gateway.entrypoints.grpc_api.generated import llm_gateway_pb2 as pb
from tests import upstream as loopback
from tests.entrypoints.grpc_api.running_server import House, Plan, call, refusal, run
from tests.upstream import Reply, chat_completion


def test_a_prompt_is_called_and_answered_with_what_it_cost(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        asked = at.stub.CallPrompt(
            call(calling_service="shop", correlation_id="order-1", metadata={"team": "a"})
        )
        answer = await asked
        assert (answer.text, answer.correlation_id) == ("Hello.", "order-1")
        assert answer.finish_reason == pb.FINISH_REASON_STOP
        assert (answer.prompt.path, answer.prompt.HasField("label")) == ("hello.prompt", False)
        assert (answer.provider, answer.model) == ("openai", "gpt-4o-mini")
        assert answer.served_model == "gpt-4o-mini-2024-07-18"
        counts = answer.usage
        assert (counts.input_tokens, counts.output_tokens, counts.total_tokens) == (1000, 200, 1200)
        assert (counts.cached_input_tokens, counts.reasoning_tokens) == (400, 50)
        assert answer.cost_usd == "0.00024"
        assert (answer.attempts, answer.test_mode, answer.replayed) == (1, False, False)
        assert not answer.HasField("parsed")
        [record] = await at.records()
        trailers = dict(await asked.trailing_metadata())
        assert (record.call_id, record.request_id) == (answer.call_id, trailers["x-request-id"])
        assert (record.status, record.calling_service, record.metadata) == ("answered", "shop", {"team": "a"})
        served = {"method": "gRPC", "path": "/llm_gateway.v1.LlmGateway/CallPrompt", "status": 200}
        assert at.observer.notes == [("served", served)]

    with loopback.running() as vendor:
        run(Plan(tmp_path, vendor.url), scenario)
        [sent] = vendor.requests
        assert sent["messages"][-1] == {"role": "user", "content": "Hello Ada"}


def test_what_the_vendor_does_not_tell_is_unset_and_not_zero(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        answer = await at.stub.CallPrompt(call())
        assert MessageToDict(answer.usage) == {}
        assert answer.HasField("usage")
        assert not answer.HasField("cost_usd")

    with loopback.running() as vendor:
        vendor.answers(Reply(body=chat_completion(usage=None)))
        run(Plan(tmp_path, vendor.url), scenario)


def test_an_answer_is_given_whatever_the_vendor_counted(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        answer = await at.stub.CallPrompt(call())
        assert (answer.text, answer.usage.HasField("input_tokens")) == ("Hello.", False)
        assert answer.usage.output_tokens == 5

    with loopback.running() as vendor:
        counts = {"prompt_tokens": 10**30, "completion_tokens": 5}
        vendor.answers(Reply(body=chat_completion(usage=counts)))
        run(Plan(tmp_path, vendor.url), scenario)


def test_parameters_output_and_timeout_come_to_the_model(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        request = call(
            model="gpt-4o",
            parameters={"temperature": 0.0, "topP": 0.5, "maxTokens": 7, "stop": ["\n"]},
            output={
                "schema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
            },
        )
        request.timeout.CopyFrom(Duration(seconds=7, nanos=500_000_000))
        answer = await at.stub.CallPrompt(request)
        assert MessageToDict(answer.parsed) == {"n": 2.0, "more": [None, "x", True]}

    with loopback.running() as vendor:
        said = json.dumps({"n": 2, "more": [None, "x", True]})
        vendor.answers(Reply(body=chat_completion(said)))
        run(Plan(tmp_path, vendor.url), scenario)
        [sent] = vendor.requests
        assert (sent["model"], sent["temperature"], sent["top_p"]) == ("gpt-4o", 0.0, 0.5)
        assert sent["stop"] == ["\n"]
        assert sent["response_format"]["json_schema"]["schema"]["required"] == ["n"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("[" * 60 + "]" * 60, False),
        ("[" * 25 + "]" * 25, True),
        ("1" + "0" * 400, False),
        (str(2**63), True),
    ],
)
def test_json_that_no_client_could_read_is_in_the_text_alone(tmp_path: Path, said: str, kept: bool) -> None:
    async def scenario(at: House) -> None:
        answer = await at.stub.CallPrompt(call(output={"format": "OUTPUT_FORMAT_JSON"}))
        assert answer.text == said
        assert answer.HasField("parsed") == kept

    with loopback.running() as vendor:
        vendor.answers(Reply(body=chat_completion(said)))
        run(Plan(tmp_path, vendor.url), scenario)


def rendered(tmp_path: Path, template: str, variables: Struct) -> str:
    async def scenario(at: House) -> None:
        await at.stub.CallPrompt(pb.CallPromptRequest(prompt="hello", variables=variables))

    with loopback.running() as vendor:
        run(Plan(tmp_path, vendor.url, prompts={"hello.md": template}), scenario)
        return str(vendor.requests[0]["messages"][0]["content"])


@pytest.mark.parametrize(
    ("number", "text"),
    [(3.0, "3"), (-3.0, "-3"), (0.5, "0.5"), (2.0**53, "9007199254740992"), (1e300, "1e+300")],
)
def test_whole_numbers_are_rendered_as_such(tmp_path: Path, number: float, text: str) -> None:
    variables = Struct()
    variables.update({"user": {"n": [number]}})
    assert rendered(tmp_path, "{{ user.n[0] }}", variables) == text


def test_variables_of_all_kinds_come_to_the_prompt(tmp_path: Path) -> None:
    variables = Struct()
    variables.update({"a": None, "b": True, "c": "ä", "d": {"e": ["x", 1]}})
    template = "{{ a is none }} {{ b }} {{ c }} {{ d.e | join(',') }}"
    assert rendered(tmp_path, template, variables) == "True True ä x,1"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (Value(number_value=float("nan")), "must be a finite number"),
        (Value(number_value=float("-inf")), "must be a finite number"),
        (Value(), "must have a value"),
    ],
)
def test_values_that_json_does_not_have_are_refused(tmp_path: Path, value: Value, problem: str) -> None:
    async def scenario(at: House) -> None:
        request = pb.CallPromptRequest(prompt="hello")
        request.variables.fields["user"].list_value.values.append(value)
        refused = await refusal(at.stub.CallPrompt(request))
        assert (refused.code.name, refused.info.reason) == ("INVALID_ARGUMENT", "invalid_parameter")
        assert list(refused.fields) == ["variables.user.0"]
        assert problem in refused.message

    run(Plan(tmp_path), scenario)


def test_the_same_key_gives_the_first_answer_again_at_no_cost(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        first = await at.stub.CallPrompt(call(idempotency_key="k-1"))
        second = await at.stub.CallPrompt(call(idempotency_key="k-1"))
        assert (first.replayed, second.replayed) == (False, True)
        assert (second.text, second.call_id) == (first.text, first.call_id)
        reused = await refusal(at.stub.CallPrompt(call(idempotency_key="k-1", label="x")))
        assert (reused.code.name, reused.info.reason) == ("ALREADY_EXISTS", "idempotency_key_reused")
        assert [record.status for record in await at.records(2)] == ["answered", "replayed"]

    run(Plan(tmp_path), scenario)


def test_a_field_that_the_contract_does_not_have_is_ignored(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        newer = call().SerializeToString() + b"\xf2\x3f\x03new"  # field 1022, length 3
        raw: Any = at.channel.unary_unary(
            "/llm_gateway.v1.LlmGateway/CallPrompt", None, pb.CallPromptResponse.FromString
        )
        assert (await raw(newer)).text

    run(Plan(tmp_path), scenario)


PROMPTS = {
    "support/reply.prompt": "---\ndescription: Replies.\nconfig: {temperature: 0.3}\n"
    "input: {schema: {type: object, properties: {n: {type: integer}}}}\n"
    "output: {schema: {type: object}}\n---\n{{ n }}{% include 'support/_tone.md' %}",
    "support/_tone.md": "Be kind.",
    "support/broken.md": "{% if %}",
    "other.txt": "Hi",
}


def test_prompts_are_listed_page_by_page(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        everything = await at.stub.ListPrompts(pb.ListPromptsRequest())
        paths = [prompt.path for prompt in everything.prompts]
        assert paths == ["other.txt", "support/broken.md", "support/reply.prompt"]
        assert not everything.HasField("next_cursor")
        first = await at.stub.ListPrompts(pb.ListPromptsRequest(directory="support", limit=1))
        [broken] = first.prompts
        assert (broken.state, broken.HasField("version")) == (pb.PROMPT_STATE_BROKEN, False)
        again = pb.ListPromptsRequest(directory="support", limit=1, cursor=first.next_cursor)
        [reply] = (await at.stub.ListPrompts(again)).prompts
        assert (reply.path, reply.description, reply.state) == (
            "support/reply.prompt",
            "Replies.",
            pb.PROMPT_STATE_OK,
        )
        assert list(reply.required_variables) == ["n"]
        assert reply.last_modified.ToDatetime(UTC) <= datetime.now(UTC)

    run(Plan(tmp_path, prompts=PROMPTS), scenario)


def test_a_prompt_is_described_without_its_text(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        found = await at.stub.GetPromptMetadata(pb.GetPromptMetadataRequest(path="support/reply"))
        assert (found.path, found.description) == ("support/reply.prompt", "Replies.")
        assert (found.parameters.temperature, found.parameters.HasField("top_p")) == (0.3, False)
        assert found.input_schema["properties"]["n"]["type"] == "integer"
        assert MessageToDict(found.output_schema) == {"type": "object"}
        assert list(found.partials) == ["support/_tone.md"]
        [version] = found.history
        assert version.version == found.version
        assert not version.HasField("error")
        assert b"Be kind" not in found.SerializeToString()
        broken = await at.stub.GetPromptMetadata(pb.GetPromptMetadataRequest(path="support/broken.md"))
        assert broken.HasField("error")

    run(Plan(tmp_path, prompts=PROMPTS), scenario)


def test_usage_is_summed_as_over_http(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        for service in ("shop", None):
            await at.stub.CallPrompt(call(**{"calling_service": service} if service else {}))
        await at.usage.count(await at.records(2))
        now = datetime.now(UTC)
        request = pb.GetUsageStatsRequest(
            start=_timestamp(now - timedelta(hours=1)),
            end=_timestamp(now + timedelta(hours=1)),
            bucket=pb.BUCKET_WIDTH_TOTAL,
            group_by=[pb.DIMENSION_CALLING_SERVICE, pb.DIMENSION_TEST_MODE],
            status=pb.CALL_STATUS_ANSWERED,
        )
        stats = await at.stub.GetUsageStats(request)
        assert stats.bucket == pb.BUCKET_WIDTH_TOTAL
        assert list(stats.group_by) == [pb.DIMENSION_CALLING_SERVICE, pb.DIMENSION_TEST_MODE]
        groups = [{name: MessageToDict(value) for name, value in row.group.items()} for row in stats.buckets]
        assert groups == [
            {"calling_service": "shop", "test_mode": True},
            {"calling_service": None, "test_mode": True},
        ]
        assert (stats.totals.requests, stats.totals.errors) == (2, 0)
        assert stats.totals.cost_usd.startswith("0.0000")
        assert stats.totals.HasField("max_latency_ms")
        request.calling_service = "nobody"
        nothing = await at.stub.GetUsageStats(request)
        assert (nothing.totals.cost_usd, nothing.totals.HasField("mean_latency_ms")) == ("0", False)

    run(Plan(tmp_path), scenario)


def _timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


UNKNOWN: Any = 77
DAY: dict[str, Any] = {"start": Timestamp(seconds=0), "end": Timestamp(seconds=86_400)}


@pytest.mark.parametrize(
    ("method", "request_message", "reason", "field"),
    [
        ("CallPrompt", pb.CallPromptRequest(), "invalid_request", "prompt"),
        ("CallPrompt", call(timeout="4.9s"), "invalid_parameter", "timeout"),
        ("CallPrompt", call(parameters={"temperature": 2.1}), "invalid_parameter", "parameters.temperature"),
        (
            "CallPrompt",
            call(parameters={"temperature": "NaN"}),
            "invalid_parameter",
            "parameters.temperature",
        ),
        ("CallPrompt", call(parameters={"maxTokens": 0}), "invalid_parameter", "parameters.max_tokens"),
        ("CallPrompt", call(parameters={"stop": [""]}), "invalid_parameter", "parameters.stop.0"),
        ("CallPrompt", call(calling_service=""), "invalid_parameter", "calling_service"),
        ("CallPrompt", call(correlation_id="a b"), "invalid_parameter", "correlation_id"),
        ("CallPrompt", call(idempotency_key="ä"), "invalid_parameter", "idempotency_key"),
        ("CallPrompt", call(output={"format": 9}), "invalid_parameter", "output.format"),
        ("CallPrompt", call(model="gpt-9"), "unknown_model", "model"),
        ("CallPrompt", call(variables={}), "missing_variables", "variables.name"),
        ("CallPrompt", call(version="1", label="a"), "invalid_parameter", "label"),
        ("GetPromptMetadata", pb.GetPromptMetadataRequest(), "invalid_request", "path"),
        ("GetPromptMetadata", pb.GetPromptMetadataRequest(path="../x"), "invalid_prompt_path", "prompt"),
        ("ListPrompts", pb.ListPromptsRequest(limit=0), "invalid_parameter", "limit"),
        ("ListPrompts", pb.ListPromptsRequest(cursor="?"), "invalid_parameter", "cursor"),
        ("GetUsageStats", pb.GetUsageStatsRequest(), "invalid_request", "start"),
        (
            "GetUsageStats",
            pb.GetUsageStatsRequest(**DAY, group_by=[pb.DIMENSION_UNSPECIFIED]),
            "invalid_parameter",
            "group_by.0",
        ),
        ("GetUsageStats", pb.GetUsageStatsRequest(**DAY, bucket=UNKNOWN), "invalid_parameter", "bucket"),
        (
            "GetUsageStats",
            pb.GetUsageStatsRequest(start=Timestamp(seconds=10**15), end=Timestamp()),
            "invalid_parameter",
            "start",
        ),
    ],
)
def test_bad_input_is_told_with_its_code_and_its_field(
    tmp_path: Path, method: str, request_message: Any, reason: str, field: str
) -> None:
    async def scenario(at: House) -> None:
        refused = await refusal(getattr(at.stub, method)(request_message))
        assert (refused.code.name, refused.info.reason) == ("INVALID_ARGUMENT", reason)
        assert field in refused.fields
        assert refused.info.domain == "llm-gateway"
        assert refused.info.metadata["retryable"] == "false"
        assert refused.info.metadata["request_id"] == refused.request_id
        assert at.usage.records == {}

    run(Plan(tmp_path), scenario)


def test_a_prompt_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    async def scenario(at: House) -> None:
        for asked in (
            at.stub.CallPrompt(call(prompt="absent")),
            at.stub.GetPromptMetadata(pb.GetPromptMetadataRequest(path="absent")),
        ):
            refused = await refusal(asked)
            assert (refused.code.name, refused.info.reason) == ("NOT_FOUND", "prompt_not_found")

    run(Plan(tmp_path), scenario)
