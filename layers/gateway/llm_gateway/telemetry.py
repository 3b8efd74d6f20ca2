"""Structured logs and CloudWatch metrics by Powertools; never prompt text, variables, answers or keys."""

from __future__ import annotations

import traceback
from dataclasses import asdict
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from llm_gateway.errors import GatewayError, StoreUnavailable, UnknownField
from llm_gateway.usage import UsageRecord

NAMESPACE = "LLMGateway"


class Telemetry:
    """The one writer of log lines and metrics in a process; see CallObserver.

    Args:
        function: Name of the function, `service` in logs and metrics.
        environment: Name of the deployment.
        level: Log level.
    """

    def __init__(self, function: str, environment: str, level: str) -> None:
        # A key given here outlives clear_state, which drops appended ones after each invocation.
        self.logger = Logger(service=function, level=level, environment=environment)
        self._function = function
        self._environment = environment

    def call_ended(self, record: UsageRecord, error: GatewayError | None) -> None:
        """One line and one set of metrics for each call that reached a provider."""
        line = {**_loggable(record), **_cause(error)}
        if error is None:
            self.logger.info("call answered", extra=line)
        else:
            self.logger.warning("call failed", extra=line)
        self.count(
            {
                "Calls": 1,
                "CallErrors": int(error is not None),
                "InputTokens": record.usage.input_tokens,
                "OutputTokens": record.usage.output_tokens,
                "CostUSD": None if record.cost_usd is None else float(record.cost_usd),
            },
            milliseconds={"CallLatency": record.latency_ms},
            provider=record.provider,
            model=record.model,
        )

    def usage_not_recorded(self, record: UsageRecord, error: StoreUnavailable | TimeoutError) -> None:
        """The whole record as a log line, so that it can still be put on the ledger."""
        self.logger.error("usage not recorded", extra={**_loggable(record), **_cause(error)})
        self.count({"UsageNotRecorded": 1})

    def served(self, method: str, path: str, status: int, duration_ms: float, request_id: str) -> None:
        """Every HTTP request, whatever its end."""
        line = {"method": method, "path": path, "status": status, "request_id": request_id}
        self.logger.debug("request served", extra={**line, "duration_ms": round(duration_ms, 1)})
        self.count({"Requests": 1}, milliseconds={"RequestLatency": duration_ms})

    def refused(self, error: GatewayError, request_id: str | None) -> None:
        """A request that ended with an error answer."""
        line = {"request_id": request_id, "status": error.status, "error_code": error.code, **_cause(error)}
        line["param"] = _loggable_param(error)
        (self.logger.error if error.status >= 500 else self.logger.info)("request refused", extra=line)
        self.count({"RequestErrors": 1}, error_code=error.code)

    def crashed(self, error: BaseException, request_id: str | None) -> None:
        """A defect: the class and the place, not the message, which may quote content."""
        frames = traceback.extract_tb(error.__traceback__)
        where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-8:]]
        line = {"request_id": request_id, "exception_name": type(error).__name__, "where": where}
        self.logger.error("unexpected error", extra=line)
        self.count({"UnexpectedErrors": 1})

    def note(self, message: str, **facts: Any) -> None:
        """Something an operator may want to know."""
        self.logger.info(message, extra=facts)

    def prompts_unchecked(self, error: Exception) -> None:
        """Nobody could tell whether a prompt changed; those at hand were served on."""
        details = error.details if isinstance(error, GatewayError) else {}
        self.logger.warning("prompts unchecked", extra={"error": type(error).__name__, "details": details})
        self.count({"PromptsUnchecked": 1})

    def count(
        self,
        counts: dict[str, float | None],
        milliseconds: dict[str, float] | None = None,
        **dimensions: str,
    ) -> None:
        """One EMF line; unknown values are left out."""
        metrics = EphemeralMetrics(namespace=NAMESPACE, service=self._function)
        for name, value in {"environment": self._environment, **dimensions}.items():
            metrics.add_dimension(name=name, value=value)
        for name, amount in counts.items():
            if amount is not None:
                metrics.add_metric(name=name, unit=MetricUnit.Count, value=amount)
        for name, duration in (milliseconds or {}).items():
            metrics.add_metric(name=name, unit=MetricUnit.Milliseconds, value=duration)
        metrics.flush_metrics()


def _loggable(record: UsageRecord) -> dict[str, Any]:
    line = asdict(record)
    line |= line.pop("usage")
    line["started_at"] = record.started_at.isoformat()
    line["cost_usd"] = None if record.cost_usd is None else format(record.cost_usd, "f")
    return line


def _loggable_param(error: GatewayError) -> str | None:
    """The field at fault, without names that are the caller's own text."""
    if error.param is None or isinstance(error, UnknownField):
        return None
    return "variables" if error.param.startswith("variables.") else error.param


def _cause(error: Exception | None) -> dict[str, Any]:
    """Class names only: the message of a foreign error may quote what was sent."""
    if error is None:
        return {}
    cause = error.__cause__ or error
    reason = error.details.get("reason") if isinstance(error, GatewayError) else None
    return {"cause": type(cause).__name__, "reason": reason}
