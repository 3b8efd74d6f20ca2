"""Metrics for CloudWatch in its embedded format: a line of their own, or a part of a line that is there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from llm_gateway.errors import GatewayError
from llm_gateway.usage.record import UsageRecord

NAMESPACE = "LLMGateway"


class EmbeddedMetrics:
    """See Metrics; unknown values are left out.

    Args:
        function: Name of the function, `service` in metrics.
        environment: Name of the deployment.
    """

    def __init__(self, function: str, environment: str) -> None:
        self._function = function
        self._environment = environment

    def call_ended(
        self, record: UsageRecord, error: GatewayError | None, asking_s: float | None, *, logged: bool
    ) -> Mapping[str, Any]:
        """See Metrics.call_ended."""
        counts = {
            "Calls": 1,
            "CallsReplayed": int(record.status == "replayed"),
            "CallErrors": int(error is not None),
            "InputTokens": record.usage.input_tokens,
            "OutputTokens": record.usage.output_tokens,
            "CostUSD": None if record.cost_usd is None else float(record.cost_usd),
        }
        parts = _parts(record, asking_s)
        if logged:
            return _embedded(counts, parts, record)
        dimensions = {"provider": record.provider, "model": record.model}
        self.count(counts, {"CallLatency": record.latency_ms}, dimensions)
        if parts:
            self.count({}, parts, {})
        return {}

    def served(self, method: str, path: str, status: int, duration_ms: float) -> None:  # noqa: ARG002
        """See Metrics.served."""
        self.count({"Requests": 1}, {"RequestLatency": duration_ms}, {})

    def count(
        self,
        counts: Mapping[str, float | None],
        milliseconds: Mapping[str, float],
        dimensions: Mapping[str, str],
    ) -> None:
        """See Metrics.count; one line."""
        metrics = EphemeralMetrics(namespace=NAMESPACE, service=self._function)
        for name, value in {"environment": self._environment, **dimensions}.items():
            metrics.add_dimension(name=name, value=value)
        for name, amount in counts.items():
            if amount is not None:
                metrics.add_metric(name=name, unit=MetricUnit.Count, value=amount)
        for name, duration in milliseconds.items():
            metrics.add_metric(name=name, unit=MetricUnit.Milliseconds, value=duration)
        metrics.flush_metrics()


def _parts(record: UsageRecord, asking_s: float | None) -> dict[str, float]:
    """Where a call's time went: to models, and to the gateway; nothing if no model was asked."""
    if asking_s is None:
        return {}
    asking_ms = min(round(asking_s * 1000), record.latency_ms)
    return {"UpstreamLatency": asking_ms, "OverheadLatency": record.latency_ms - asking_ms}


def _embedded(
    counts: Mapping[str, float | None], parts: Mapping[str, float], record: UsageRecord
) -> dict[str, Any]:
    """What makes a log line a set of metrics as well; the dimensions are fields of the line already.

    Source: CloudWatch embedded metric format specification.
    """
    known = {name: amount for name, amount in counts.items() if amount is not None}
    definitions = [{"Name": name, "Unit": "Count"} for name in known]
    directive = {
        "Namespace": NAMESPACE,
        "Dimensions": [["environment", "service", "provider", "model"]],
        "Metrics": [*definitions, {"Name": "CallLatency", "Unit": "Milliseconds"}],
    }
    whole = {  # of all models together: an alarm watches it
        "Namespace": NAMESPACE,
        "Dimensions": [["environment", "service"]],
        "Metrics": [{"Name": name, "Unit": "Milliseconds"} for name in parts],
    }
    directives = [directive, *([whole] if parts else [])]
    emf = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": directives}
    return {**known, **parts, "CallLatency": record.latency_ms, "_aws": emf}
