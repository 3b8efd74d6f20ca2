"""Structured logs by Powertools, and metrics with them; never prompt text, variables, answers or keys."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol

from aws_lambda_powertools import Logger

from llm_gateway.errors import GatewayError, StoreUnavailable, UnknownField
from llm_gateway.formats import to_decimal_text
from llm_gateway.models.completion import TokenUsage
from llm_gateway.usage.record import UsageRecord

if TYPE_CHECKING:
    from llm_gateway.budgets.budgets import ThresholdReached
    from llm_gateway.budgets.holds import Hold
    from llm_gateway.budgets.limits import Amount
    from llm_gateway.calls.tally import Retry

_RECORD = tuple(f.name for f in fields(UsageRecord) if f.name not in ("usage", "metadata"))
_TOKENS = tuple(f.name for f in fields(TokenUsage))
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "gRPC"))
_FACTS = ("reason", "vendor_status", "vendor_code", "vendor_request_id", "elapsed_s", "attempts")


class Metrics(Protocol):
    """Counts what Telemetry is told of."""

    def call_ended(
        self, record: UsageRecord, error: GatewayError | None, asking_s: float | None, *, logged: bool
    ) -> Mapping[str, Any]:
        """Count a call; returns what its log line is to hold as well, if it has one."""
        ...

    def served(self, method: str, path: str, status: int, duration_ms: float) -> None:
        """Count a request."""
        ...

    def count(
        self,
        counts: Mapping[str, float | None],
        milliseconds: Mapping[str, float],
        dimensions: Mapping[str, str],
    ) -> None:
        """Count, and measure, whatever else happens, by name; None is unknown."""
        ...


class Telemetry:
    """The one writer of log lines and metrics in a process; see CallObserver.

    Args:
        function: Name of the function, `service` in logs.
        environment: Name of the deployment.
        level: Log level.
        metrics: Where metrics go.
    """

    def __init__(self, function: str, environment: str, level: str, metrics: Metrics) -> None:
        # A key given here outlives clear_state, which drops appended ones after each invocation.
        self.logger = Logger(service=function, level=level, environment=environment)
        self._metrics = metrics

    def call_ended(self, record: UsageRecord, error: GatewayError | None, asking_s: float | None) -> None:
        """One line for each call that reached a provider; its metrics are part of it."""
        level = logging.INFO if error is None else logging.WARNING
        logged = self.logger.log_level <= level
        metrics = self._metrics.call_ended(record, error, asking_s, logged=logged)
        if not logged:
            return
        line = {**_loggable(record), **_cause(error), **metrics}
        if error is None:
            self.logger.info(f"call {record.status}", extra=line)
        else:
            self.logger.warning("call failed", extra=line)

    def call_retried(self, call_id: str, retry: Retry) -> None:
        """One line for each failed attempt after which the call goes on."""
        self.logger.warning(
            "attempt failed",
            extra={
                "call_id": call_id,
                "attempt": retry.attempt,
                "provider": retry.model.provider,
                "model": retry.model.name,
                "next_provider": retry.next_model.provider,
                "next_model": retry.next_model.name,
                "wait_s": round(retry.wait_s, 3),
                "error_code": retry.error.code,
                **_cause(retry.error),
            },
        )
        self.count({"Retries": 1}, error_code=retry.error.code)

    def outcome_not_kept(self, request_id: str, error: Exception) -> None:
        """A call's idempotency key does not say that it is over."""
        self.logger.error("outcome not kept", extra={"request_id": request_id, **_cause(error)})
        self.count({"OutcomesNotKept": 1})

    def ledger_refused(self, record: UsageRecord, error: StoreUnavailable | TimeoutError) -> None:
        """The record is in the queue, and on the ledger once that is drained."""
        self.logger.warning("ledger refused", extra={"call_id": record.call_id, **_cause(error)})
        self.count({"LedgerRefused": 1})

    def budget_reached(self, reached: ThresholdReached) -> None:
        """A budget came to 80 % or to its end, for the first time in its day or month."""
        limit = reached.limit
        facts = {"budget": reached.budget, "window": limit.width, "unit": limit.unit}
        amounts = {"limit": to_decimal_text(limit.most), "spent": to_decimal_text(reached.spent)}
        self.logger.warning("budget reached", extra={**facts, **amounts, "percent": reached.percent})
        self.count({f"BudgetsReached{reached.percent}": 1}, None, **facts)
        if reached.percent == 100:  # for an alarm, which knows no names of budgets
            self.count({"BudgetsUsedUp": 1})

    def budget_not_settled(self, hold: Hold, spent: Amount, error: Exception) -> None:
        """What a call spent is missing in its budget: it is all that an operator has to add it by."""
        line = {"call_id": hold.holder, "budget": hold.budget, "tokens": spent.tokens}
        line |= {"usd": to_decimal_text(spent.usd), **_cause(error)}
        self.logger.error("budget not settled", extra=line)
        self.count({"BudgetsNotSettled": 1})

    def budget_notice_not_sent(self, budget: str, error: Exception) -> None:
        """Other systems were not told that a budget comes to its end."""
        self.logger.error("budget notice not sent", extra={"budget": budget, **_cause(error)})
        self.count({"BudgetNoticesNotSent": 1})

    def usage_not_recorded(self, record: UsageRecord, error: StoreUnavailable | TimeoutError) -> None:
        """The whole record as a log line, so that it can still be put on the ledger.

        It is the one line with the caller's metadata: there is no other place left to keep them.
        """
        kept = {"metadata": dict(record.metadata)} if record.metadata else {}
        self.logger.error("usage not recorded", extra={**_loggable(record), **kept, **_cause(error)})
        self.count({"UsageNotRecorded": 1})

    def served(self, method: str, path: str, status: int, duration_ms: float, request_id: str) -> None:
        """Every HTTP request, whatever its end; a method that is none of HTTP's has no series of its own."""
        method = method if method in _METHODS else "other"
        line = {"method": method, "path": path, "status": status, "request_id": request_id}
        self.logger.debug("request served", extra={**line, "duration_ms": round(duration_ms, 1)})
        self._metrics.served(method, path, status, duration_ms)

    def refused(self, error: GatewayError, request_id: str | None) -> None:
        """A request that ended with an error answer."""
        line = {"request_id": request_id, "status": error.status, "error_code": error.code, **_cause(error)}
        line["param"] = _loggable_param(error)
        (self.logger.error if error.status >= 500 else self.logger.info)("request refused", extra=line)
        self.count({"RequestErrors": 1}, error_code=error.code)

    def readiness_changed(self, failed: Sequence[str]) -> None:
        """Other dependencies fail than when readiness was last asked for."""
        if failed:
            self.logger.warning("not ready", extra={"failed_checks": [*failed]})
        else:
            self.logger.info("ready again")

    def denied(self, request_id: str | None) -> None:
        """A request came with no key, or with one that opens nothing."""
        self.logger.info("caller denied", extra={"request_id": request_id})
        self.count({"CallersDenied": 1})

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

    def warn(self, message: str, **facts: Any) -> None:
        """Something an operator has to know."""
        self.logger.warning(message, extra=facts)

    def prompts_unchecked(self, error: Exception) -> None:
        """Nobody could tell whether a prompt changed; those at hand were served on."""
        details = error.details if isinstance(error, GatewayError) else {}
        self.logger.warning("prompts unchecked", extra={"error": type(error).__name__, "details": details})
        self.count({"PromptsUnchecked": 1})

    def count(
        self,
        counts: Mapping[str, float | None],
        milliseconds: Mapping[str, float] | None = None,
        **dimensions: str,
    ) -> None:
        """Count what happened, by name; unknown values are left out."""
        self._metrics.count(counts, milliseconds or {}, dimensions)


def _loggable(record: UsageRecord) -> dict[str, Any]:
    line = {name: getattr(record, name) for name in _RECORD}
    line |= {name: getattr(record.usage, name) for name in _TOKENS}
    line["started_at"] = record.started_at.isoformat()
    line["cost_usd"] = None if record.cost_usd is None else to_decimal_text(record.cost_usd)
    return line


def _loggable_param(error: GatewayError) -> str | None:
    """The field at fault, without names that are the caller's own text."""
    if error.param is None or isinstance(error, UnknownField):
        return None
    for field in ("variables", "metadata", "output.schema"):
        if error.param.startswith(field):
            return field
    return error.param


def _cause(error: Exception | None) -> dict[str, Any]:
    """Class names, and what the vendor or AWS calls it; a foreign error's message may quote what was sent."""
    if error is None:
        return {}
    details = error.details if isinstance(error, GatewayError) else {}
    facts = {name: details[name] for name in _FACTS if name in details}
    return {"cause": " < ".join(type(part).__name__ for part in _chain(error)), **facts}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """What caused the error, from the outside in; the error itself if nothing did."""
    cause = error.__cause__
    if cause is None:
        yield error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
