"""The dashboard: valid JSON once CloudFormation has filled it in, and only metrics that there are."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest

from llm_gateway.calls.tally import Retry
from llm_gateway.entrypoints.aws_lambda.usage_queue import drain
from llm_gateway.entrypoints.aws_lambda.usage_stream import publish, roll_up
from llm_gateway.errors import InvalidParameter, StoreUnavailable
from llm_gateway.models.catalogue import ModelCatalogue
from llm_gateway.models.errors import ProviderRateLimited
from llm_gateway.telemetry.cloudwatch import EmbeddedMetrics
from llm_gateway.telemetry.logs import Telemetry
from llm_gateway.usage.record import UsageRecord
from tests.contract.test_usage_stores import record
from tests.fakes import InMemoryUsage
from tests.template.test_template import RESOURCES

_SEARCH = re.compile(r"""SEARCH\('\{(\w+),([\w,]+)\} MetricName="(\w+)" environment="dev"', '(\w+)', 300\)""")


def filled() -> dict[str, Any]:
    """The body as CloudWatch gets it."""
    body = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    values = {"Environment": "dev", "AWS::Region": "eu-central-1"}

    def value(match: re.Match[str]) -> str:
        name, _, attribute = match[1].partition(".")
        if name in RESOURCES and RESOURCES[name]["Type"] == "AWS::Logs::LogGroup":
            return f"stack-{name}"
        if attribute:
            assert (RESOURCES[name]["Type"], attribute) == ("AWS::SQS::Queue", "QueueName")
            return f"stack-{name}"
        return values[name]

    document: dict[str, Any] = json.loads(re.sub(r"\$\{([\w:.]+)\}", value, body))
    return document


def lines() -> list[list[Any]]:
    return [line for widget in filled()["widgets"] for line in widget["properties"].get("metrics", [])]


class NoBus:
    async def publish(self, records: Sequence[UsageRecord]) -> set[str]:
        return set()


def emitted(capture: pytest.CaptureFixture[str]) -> set[tuple[str, tuple[str, ...]]]:
    """Each metric with its dimensions, as telemetry writes them."""
    metrics = EmbeddedMetrics("dashboard", "dev")
    telemetry, call = Telemetry("dashboard", "dev", "INFO", metrics), record()
    model = ModelCatalogue.packaged().find("openai", "gpt-4o-mini")
    telemetry.call_ended(call, None, 0.5)
    telemetry.call_retried("call", Retry(1, model, ProviderRateLimited("…"), model, 0.1))
    telemetry.usage_not_recorded(call, StoreUnavailable("…"))
    telemetry.ledger_refused(call, StoreUnavailable("…"))
    telemetry.served("GET", "/", 200, 1.0, "request")
    telemetry.refused(InvalidParameter("…"), "request")
    usage = InMemoryUsage()
    asyncio.run(drain({"Records": []}, usage, telemetry))
    asyncio.run(roll_up({"Records": []}, usage, telemetry))
    asyncio.run(publish({"Records": []}, NoBus(), telemetry))
    found = set()
    for line in capture.readouterr().out.splitlines():
        for directive in json.loads(line).get("_aws", {}).get("CloudWatchMetrics", []):
            [dimensions] = directive["Dimensions"]
            found |= {(metric["Name"], tuple(sorted(dimensions))) for metric in directive["Metrics"]}
    return found


def test_every_search_names_a_metric_with_exactly_the_dimensions_it_is_written_with(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = emitted(capsys)
    searched = [_SEARCH.fullmatch(line[0]["expression"]) for line in lines() if isinstance(line[0], dict)]
    assert len(searched) >= 10
    for found in searched:
        assert found is not None
        namespace, dimensions, metric, _ = found.groups()
        assert namespace == "LLMGateway"
        assert (metric, tuple(sorted(dimensions.split(",")))) in known


def test_it_shows_what_operators_ask_for() -> None:
    text = json.dumps(filled())
    for metric in ("Calls", "CallErrors", "InputTokens", "OutputTokens", "CostUSD", "CallLatency", "Retries"):
        assert f'MetricName=\\"{metric}\\"' in text
    assert 'MetricName=\\"UsageNotRecorded\\"' in text


def test_calling_services_are_summed_from_fields_of_the_calls_log_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    [query] = [w["properties"]["query"] for w in filled()["widgets"] if w["type"] == "log"]
    assert re.findall(r"SOURCE '([^']+)'", query) == ["stack-CallPromptLogs", "stack-CallPromptAsyncLogs"]
    Telemetry("dashboard_log", "dev", "INFO", EmbeddedMetrics("dashboard_log", "dev")).call_ended(
        record(), None, 0.5
    )
    line = json.loads(capsys.readouterr().out)
    assert re.search(re.findall(r"message like /(.+?)/", query)[0], line["message"])
    for field in [*re.findall(r"(?:sum|avg)\((\w+)\)", query), *re.findall(r"by (\w+) \|", query)]:
        assert field in line, field


def test_every_queue_that_should_be_empty_is_shown() -> None:
    shown = {line[3].removeprefix("stack-") for line in lines() if line[0] == "AWS/SQS"}
    queues = {name for name, resource in RESOURCES.items() if resource["Type"] == "AWS::SQS::Queue"}
    assert shown == queues - {"CallAnswers", "CallFailures"}  # those are for the callers to read


def test_no_two_graphs_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for widget in filled()["widgets"]:
        columns = range(widget["x"], widget["x"] + widget["width"])
        cells = {(x, widget["y"] + y) for x in columns for y in range(widget["height"])}
        assert not taken & cells
        assert max(columns) < 24
        taken |= cells
