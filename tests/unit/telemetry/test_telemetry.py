"""Log lines and metrics that no function's own test brings about."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from llm_gateway.errors import InvalidParameter, StoreUnavailable
from llm_gateway.models.completion import TokenUsage
from llm_gateway.models.errors import ProviderRateLimited
from llm_gateway.telemetry.cloudwatch import EmbeddedMetrics
from llm_gateway.telemetry.logs import Telemetry
from llm_gateway.usage.record import UsageRecord
from tests.fakes import NOON


def telemetry(function: str, level: str = "INFO") -> Telemetry:
    return Telemetry(function, "local", level, EmbeddedMetrics(function, "local"))


@pytest.mark.parametrize(
    ("error", "details"),
    [(StoreUnavailable("…", details={"reason": "Throttled"}), {"reason": "Throttled"}), (TimeoutError(), {})],
)
def test_prompts_that_nobody_could_check_are_a_warning_and_a_metric(
    error: Exception, details: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    function = f"told_{type(error).__name__}"  # a logger of its own: it keeps the output it first wrote to
    telemetry(function).prompts_unchecked(error)
    warning, metric = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (warning["level"], warning["error"], warning["details"]) == (
        "WARNING",
        type(error).__name__,
        details,
    )
    assert metric["PromptsUnchecked"] == [1.0]


_BY_MODEL = {"Calls", "CallsReplayed", "CallErrors", "InputTokens", "OutputTokens", "CallLatency"}


def record() -> UsageRecord:
    return UsageRecord(
        call_id="call-1",
        request_id="request-1",
        started_at=NOON,
        status="answered",
        error_code=None,
        calling_service="shop",
        correlation_id=None,
        prompt="hello.md",
        prompt_version="v1",
        provider="openai",
        model="gpt-4o-mini",
        usage=TokenUsage(10, 5),
        cost_usd=None,
        latency_ms=7,
        attempts=1,
        test_mode=False,
    )


def test_what_a_caller_attaches_is_in_no_line_but_that_which_brings_a_lost_record_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told, attached = telemetry("attached", "DEBUG"), replace(record(), metadata={"k": "CANARY"})
    told.call_ended(attached, None, 0.5)
    told.call_ended(attached, ProviderRateLimited("Slow down."), 0.5)
    told.ledger_refused(attached, StoreUnavailable("…"))
    told.refused(InvalidParameter("…", param="metadata.CANARY"), "request-1")
    assert "CANARY" not in capsys.readouterr().out
    told.usage_not_recorded(attached, StoreUnavailable("…"))
    lost, metric = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert lost["metadata"] == {"k": "CANARY"}
    assert "CANARY" not in json.dumps(metric)


@pytest.mark.parametrize("error", [None, ProviderRateLimited("Slow down.")])
@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_a_calls_metrics_do_not_depend_on_the_level_of_the_log(
    level: str, error: ProviderRateLimited | None, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry(f"metrics_{level}_{error is None}", level).call_ended(record(), error, 0.5)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_model, whole = [(line, d) for line in lines for d in line["_aws"]["CloudWatchMetrics"]]
    for (line, directive), names, dimensions in (
        (by_model, _BY_MODEL, {"environment", "service", "provider", "model"}),
        (whole, {"UpstreamLatency", "OverheadLatency"}, {"environment", "service"}),
    ):
        assert {metric["Name"] for metric in directive["Metrics"]} == names
        assert set(directive["Dimensions"][0]) == dimensions
        assert all(name in line for name in (*names, *dimensions))
        assert "CostUSD" not in line, "unknown is not zero"
    logged = level in ("DEBUG", "INFO") or (level == "WARNING" and error is not None)
    assert [line for line in lines if "message" in line] == (lines if logged else [])


def test_a_failed_call_is_told_with_the_chain_of_its_causes_and_without_their_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = ProviderRateLimited("Slow down.", details={"vendor_status": 429, "vendor_request_id": "req_1"})
    try:
        try:
            raise KeyError("SECRET")
        except KeyError as cause:
            raise ValueError("SECRET") from cause
    except ValueError as cause:
        error.__cause__ = cause
    telemetry("failed_call").call_ended(record(), error, 0.5)
    out = capsys.readouterr().out
    assert "SECRET" not in out
    line = json.loads(out)
    assert (line["level"], line["cause"]) == ("WARNING", "ValueError < KeyError")
    assert (line["vendor_status"], line["vendor_request_id"]) == (429, "req_1")
