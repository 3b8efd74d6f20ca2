"""Metrics for Prometheus, in a registry of this process's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    exposition,
)

from llm_gateway.errors import GatewayError
from llm_gateway.models.completion import TokenUsage
from llm_gateway.usage.record import UsageRecord

CONTENT_TYPE = exposition.CONTENT_TYPE_PLAIN_0_0_4
_TOKENS = tuple(field.name for field in fields(TokenUsage))
_CALL_S = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)
_OVERHEAD_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class PrometheusMetrics:
    """See Metrics; what rarely happens is counted by its name in `llm_gateway_events_total`."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        model = ("provider", "model")
        self._calls = Counter(
            "llm_gateway_calls", "Calls that reached a provider.", (*model, "status"), registry=registry
        )
        self._tokens = Counter("llm_gateway_tokens", "Tokens of calls.", (*model, "kind"), registry=registry)
        self._cost = Counter(
            "llm_gateway_cost_usd", "Cost of calls that have a price, in USD.", model, registry=registry
        )
        self._call_s = Histogram(
            "llm_gateway_call_duration_seconds", "Time of calls.", model, buckets=_CALL_S, registry=registry
        )
        self._overhead_s = Histogram(
            "llm_gateway_call_overhead_seconds",
            "Time of calls in which no model was asked.",
            buckets=_OVERHEAD_S,
            registry=registry,
        )
        self._request_s = Histogram(
            "llm_gateway_request_duration_seconds",
            "Time of requests by route and status.",
            ("method", "route", "status"),
            buckets=_REQUEST_S,
            registry=registry,
        )
        self._events = Counter(
            "llm_gateway_events", "What operators want to know of.", ("event", "reason"), registry=registry
        )

    def call_ended(
        self,
        record: UsageRecord,
        error: GatewayError | None,  # noqa: ARG002
        asking_s: float | None,
        *,
        logged: bool,  # noqa: ARG002
    ) -> Mapping[str, Any]:
        """See Metrics.call_ended."""
        model = (record.provider, record.model)
        self._calls.labels(*model, record.status).inc()
        for kind in _TOKENS:
            self._tokens.labels(*model, kind.removesuffix("_tokens")).inc(getattr(record.usage, kind) or 0)
        self._cost.labels(*model).inc(float(record.cost_usd or 0))
        self._call_s.labels(*model).observe(record.latency_ms / 1000)
        if asking_s is not None:
            self._overhead_s.observe(max(0.0, record.latency_ms / 1000 - asking_s))
        return {}

    def served(self, method: str, path: str, status: int, duration_ms: float) -> None:
        """See Metrics.served."""
        self._request_s.labels(method, path, str(status)).observe(duration_ms / 1000)

    def count(
        self,
        counts: Mapping[str, float | None],
        milliseconds: Mapping[str, float],  # noqa: ARG002
        dimensions: Mapping[str, str],
    ) -> None:
        """See Metrics.count; what is measured besides is about events of AWS."""
        for name, amount in counts.items():
            self._events.labels(name, dimensions.get("error_code", "")).inc(amount or 0)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show a value that is asked for at each scrape."""
        Gauge(f"llm_gateway_{name}", text, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return exposition.generate_latest(self._registry)
