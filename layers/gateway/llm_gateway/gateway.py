"""The gateway's main job, as one story."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from llm_gateway.deadline import Deadline
from llm_gateway.errors import (
    GatewayError,
    InvalidParameter,
    ProviderError,
    ProviderTimeout,
    StoreUnavailable,
)
from llm_gateway.model_catalogue import ModelSpec
from llm_gateway.models import Completion, TokenUsage
from llm_gateway.prompts.catalogue import Catalogue
from llm_gateway.prompts.prompt import Prompt
from llm_gateway.routing import Answer, Route, Router
from llm_gateway.usage import CallStatus, UsageLedger, UsageRecord, cost_usd
from llm_gateway.wire import CallRequest, CallResponse, PromptVersion, Usage


class CallObserver(Protocol):
    """Told of every call once it is over: logs and metrics, never content."""

    def call_ended(self, record: UsageRecord, error: GatewayError | None) -> None:
        """A call reached a provider and ended."""
        ...

    def usage_not_recorded(self, record: UsageRecord, error: StoreUnavailable | TimeoutError) -> None:
        """The ledger refused; this is the record's last chance to survive."""
        ...


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """Bounds of a call that its request does not set.

    Attributes:
        timeout_s: Time of a call when neither request nor prompt says, seconds.
        max_rendered_chars: Largest rendered prompt.
        ledger_timeout_s: Longest wait for the ledger, seconds; less than what an entrance keeps back.
    """

    timeout_s: float
    max_rendered_chars: int
    ledger_timeout_s: float = 1.0


class Gateway:
    """Answers calls of stored prompts; the same object serves every entrance.

    Args:
        prompts: The prompts by name.
        router: The models.
        ledger: Where usage is kept.
        observer: Logs and metrics.
        limits: Bounds of a call.
        now: Aware UTC.
        new_id: Makes a fresh call id.
        test_mode: True if the providers are fakes.
    """

    def __init__(
        self,
        *,
        prompts: Catalogue,
        router: Router,
        ledger: UsageLedger,
        observer: CallObserver,
        limits: GatewayLimits,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        test_mode: bool,
    ) -> None:
        self._prompts = prompts
        self._router = router
        self._ledger = ledger
        self._observer = observer
        self._limits = limits
        self._now = now
        self._new_id = new_id
        self._test_mode = test_mode

    async def call_prompt(self, request: CallRequest, request_id: str, time_left: Deadline) -> CallResponse:
        """Load the prompt, render it, ask the model, account for it, answer.

        Args:
            request: What is asked.
            request_id: Names this request in logs and records.
            time_left: The latest end the entrance can bear; the call's own timeout may be sooner.

        Raises:
            RequestError: Nothing was paid; the caller can mend the request.
            ProviderError: The model did not answer; the call is on the ledger.
            StoreUnavailable: The prompt cannot be loaded right now.
        """
        prompt = await self._load(request, request_id, time_left)
        model = self._router.choose(request.provider, request.model, prompt.front.model)
        routes = self._routes(request, prompt, model)
        messages = prompt.render(request.variables, self._limits.max_rendered_chars)
        call = _Call(self._new_id(), request_id, self._now(), request, prompt, model, self._test_mode)
        deadline = time_left.sooner(request.timeout_s or prompt.front.timeout_s or self._limits.timeout_s)
        try:
            answer = await self._router.complete(routes, messages, deadline)
        except ProviderError as error:
            await self._account(call.failed(error, deadline), error)
            raise
        record = call.answered(answer, deadline)
        await self._account(record, None)
        return _response(record, answer.completion, request.label)

    def _routes(self, request: CallRequest, prompt: Prompt, model: ModelSpec) -> Sequence[Route]:
        """The chosen model; after it the author's fallbacks, unless the request chose the model."""
        requested, front = request.parameters.options(), prompt.front
        authored = replace(front.options, mock=front.mock if self._test_mode else None)
        first = Route(model, model.accepted(requested, authored))
        if request.model or request.provider:
            return [first]
        return [first, *self._router.fallbacks(front.fallbacks, requested, authored)]

    async def _load(self, request: CallRequest, request_id: str, time_left: Deadline) -> Prompt:
        if request.version is not None and request.label is not None:
            raise InvalidParameter("Give 'version' or 'label', not both.", param="label")
        try:
            async with asyncio.timeout(time_left.remaining_s()):
                key = request.sticky_key or request.calling_service or request_id
                return await self._prompts.load(request.prompt, request.version, request.label, key)
        except TimeoutError as error:
            raise StoreUnavailable("The prompt could not be loaded in time; try again.") from error

    async def _account(self, record: UsageRecord, error: GatewayError | None) -> None:
        """Keep the record; an answer that is paid for is never withheld because the ledger is down."""
        try:
            async with asyncio.timeout(self._limits.ledger_timeout_s):
                await self._ledger.record(record)
        except (StoreUnavailable, TimeoutError) as refusal:
            self._observer.usage_not_recorded(record, refusal)
        self._observer.call_ended(record, error)


@dataclass(frozen=True, slots=True)
class _Call:
    """A call on its way, able to write its own record."""

    call_id: str
    request_id: str
    started_at: datetime
    request: CallRequest
    prompt: Prompt
    model: ModelSpec
    test_mode: bool

    def answered(self, answer: Answer, deadline: Deadline) -> UsageRecord:
        return self._record(answer.model, answer.completion.usage, answer.attempts, deadline, None)

    def failed(self, error: ProviderError, deadline: Deadline) -> UsageRecord:
        return self._record(self.model, error.usage or TokenUsage(), error.attempts, deadline, error)

    def _record(
        self,
        model: ModelSpec,
        usage: TokenUsage,
        attempts: int,
        deadline: Deadline,
        error: ProviderError | None,
    ) -> UsageRecord:
        return UsageRecord(
            call_id=self.call_id,
            request_id=self.request_id,
            started_at=self.started_at,
            status=_status(error),
            error_code=None if error is None else error.code,
            calling_service=self.request.calling_service,
            prompt=self.prompt.path,
            prompt_version=self.prompt.version,
            provider=model.provider,
            model=model.name,
            usage=usage,
            cost_usd=cost_usd(usage, model.price),
            latency_ms=round(deadline.elapsed_s() * 1000),
            attempts=attempts,
            test_mode=self.test_mode,
        )


def _status(error: ProviderError | None) -> CallStatus:
    if error is None:
        return "answered"
    return "timed_out" if isinstance(error, ProviderTimeout) else "failed"


def _response(record: UsageRecord, completion: Completion, label: str | None) -> CallResponse:
    usage = record.usage
    return CallResponse(
        call_id=record.call_id,
        text=completion.text,
        finish_reason=completion.finish_reason,
        prompt=PromptVersion(path=record.prompt, version=record.prompt_version, label=label),
        provider=record.provider,
        model=record.model,
        served_model=completion.served_model,
        usage=Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            total_tokens=usage.total_tokens,
            cached_input_tokens=usage.cached_input_tokens,
            reasoning_tokens=usage.reasoning_tokens,
        ),
        cost_usd=record.cost_usd,
        latency_ms=record.latency_ms,
        attempts=record.attempts,
        test_mode=record.test_mode,
    )
