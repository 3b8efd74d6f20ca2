"""A call between its request and its answer: what the ledger and the caller are told of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from llm_gateway.api.calls import CallRequest, CallResponse, PromptVersion, Usage
from llm_gateway.calls.completer import Answer
from llm_gateway.calls.tally import Tally
from llm_gateway.deadline import Deadline
from llm_gateway.errors import CallCancelled, GatewayError
from llm_gateway.json_schema.values import Json
from llm_gateway.models.catalogue import ModelSpec
from llm_gateway.models.completion import Completion, TokenUsage
from llm_gateway.models.errors import ProviderError, ProviderTimeout
from llm_gateway.prompts.prompt import Prompt
from llm_gateway.usage.pricing import Spending, total_cost_usd, total_usage
from llm_gateway.usage.record import CallStatus, UsageRecord


@dataclass(frozen=True, slots=True)
class CallUnderWay:
    """A call on its way, able to write its own record.

    Attributes:
        call_id: Unique.
        request_id: The request that makes it.
        started_at: Aware UTC.
        request: What is asked.
        prompt: What is rendered.
        model: The model that is asked first.
        test_mode: True if a fake answers.
    """

    call_id: str
    request_id: str
    started_at: datetime
    request: CallRequest
    prompt: Prompt
    model: ModelSpec
    test_mode: bool

    def answered(self, answer: Answer, deadline: Deadline) -> UsageRecord:
        """The record of a call that a model answered."""
        return self._record(answer.route.model, answer.spent, answer.attempts, deadline, None)

    def failed(self, error: ProviderError, deadline: Deadline) -> UsageRecord:
        """The record of a call that none did."""
        return self._record(self.model, error.spent, error.attempts, deadline, error)

    def cancelled(self, error: CallCancelled, tally: Tally, deadline: Deadline) -> UsageRecord:
        """The record of a call whose caller went away."""
        return self._record(self.model, tally.spent, tally.attempts, deadline, error)

    def response(self, record: UsageRecord, completion: Completion, parsed: Json) -> CallResponse:
        """What the caller is told of an answered call."""
        usage = record.usage
        return CallResponse(
            call_id=record.call_id,
            correlation_id=record.correlation_id,
            text=completion.text,
            parsed=parsed,
            finish_reason=completion.finish_reason,
            prompt=PromptVersion(path=record.prompt, version=record.prompt_version, label=self.request.label),
            provider=record.provider,
            model=record.model,
            served_model=completion.served_model,
            usage=Usage(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                total_tokens=usage.total_tokens,
                cached_input_tokens=usage.cached_input_tokens,
                reasoning_tokens=usage.reasoning_tokens,
                cache_write_tokens=usage.cache_write_tokens,
            ),
            cost_usd=record.cost_usd,
            latency_ms=record.latency_ms,
            attempts=record.attempts,
            test_mode=record.test_mode,
        )

    def _record(
        self,
        model: ModelSpec,
        spent: Sequence[Spending],
        attempts: int,
        deadline: Deadline,
        error: GatewayError | None,
    ) -> UsageRecord:
        return UsageRecord(
            call_id=self.call_id,
            request_id=self.request_id,
            started_at=self.started_at,
            status=_status(error),
            error_code=None if error is None else error.code,
            calling_service=self.request.calling_service,
            correlation_id=self.request.correlation_id,
            prompt=self.prompt.path,
            prompt_version=self.prompt.version,
            provider=model.provider,
            model=model.name,
            usage=total_usage(spent),
            cost_usd=total_cost_usd(spent),
            latency_ms=round(deadline.elapsed_s() * 1000),
            attempts=attempts,
            test_mode=self.test_mode,
            metadata=self.request.metadata,
        )


def replayed(
    call_id: str,
    request_id: str,
    started_at: datetime,
    request: CallRequest,
    answer: CallResponse,
    deadline: Deadline,
) -> UsageRecord:
    """The record of a call that was answered with an earlier call's answer: it spent nothing."""
    return UsageRecord(
        call_id=call_id,
        request_id=request_id,
        started_at=started_at,
        status="replayed",
        error_code=None,
        calling_service=request.calling_service,
        correlation_id=request.correlation_id,
        prompt=answer.prompt.path,
        prompt_version=answer.prompt.version,
        provider=answer.provider,
        model=answer.model,
        usage=TokenUsage(0, 0, 0, 0, 0),
        cost_usd=Decimal(0),
        latency_ms=round(deadline.elapsed_s() * 1000),
        attempts=0,
        test_mode=answer.test_mode,
        metadata=request.metadata,
    )


def _status(error: GatewayError | None) -> CallStatus:
    if error is None:
        return "answered"
    return "timed_out" if isinstance(error, ProviderTimeout) else "failed"
