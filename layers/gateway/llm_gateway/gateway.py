"""The gateway's main job, as one story."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

from llm_gateway.access import Caller
from llm_gateway.access_errors import Forbidden
from llm_gateway.cancellation import to_the_end
from llm_gateway.completer import Answer, Completer, Retry, Tally
from llm_gateway.deadline import Deadline
from llm_gateway.errors import CallCancelled, GatewayError, InvalidParameter, StoreUnavailable
from llm_gateway.model_catalogue import ModelSpec
from llm_gateway.models import Completion, Json, Message, TokenUsage
from llm_gateway.prompts.catalogue import Catalogue
from llm_gateway.prompts.prompt import Prompt
from llm_gateway.provider_errors import ProviderError, ProviderTimeout
from llm_gateway.routing import Route, Router
from llm_gateway.structured_output import OutputContract, complete_json, output_contract
from llm_gateway.usage import (
    CallStatus,
    Spending,
    UsageLedger,
    UsageRecord,
    total_cost_usd,
    total_usage,
)
from llm_gateway.wire.calls import CallRequest, CallResponse, PromptVersion, Usage

if TYPE_CHECKING:
    from llm_gateway.budget_holds import Hold
    from llm_gateway.budgets import Budgets


class CallObserver(Protocol):
    """Told of every call: logs and metrics, never content."""

    def call_retried(self, call_id: str, retry: Retry) -> None:
        """An attempt failed, and another one follows."""
        ...

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
    ledger_timeout_s: float = 0.5


class Gateway:
    """Answers calls of stored prompts; the same object serves every entrance.

    Args:
        prompts: The prompts by name.
        router: Chooses the models.
        completer: Asks them.
        ledger: Where usage is kept.
        observer: Logs and metrics.
        limits: Bounds of a call.
        now: Aware UTC.
        new_id: Makes a fresh call id.
        test_mode: True if the providers are fakes.
        budgets: What services may spend; None if nobody has a budget.
    """

    def __init__(
        self,
        *,
        prompts: Catalogue,
        router: Router,
        completer: Completer,
        ledger: UsageLedger,
        observer: CallObserver,
        limits: GatewayLimits,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        test_mode: bool,
        budgets: Budgets | None = None,
    ) -> None:
        self._prompts = prompts
        self._router = router
        self._completer = completer
        self._ledger = ledger
        self._observer = observer
        self._limits = limits
        self._now = now
        self._new_id = new_id
        self._test_mode = test_mode
        self._budgets = budgets

    async def call_prompt(
        self, request: CallRequest, request_id: str, time_left: Deadline, caller: Caller
    ) -> CallResponse:
        """Load the prompt, render it, ask the model, account for it, answer.

        Args:
            request: What is asked.
            request_id: Names this request in logs and records.
            time_left: The latest end the entrance can bear; the call's own timeout may be sooner.
            caller: Who calls; bounds which prompts and models there are for this request.

        Raises:
            RequestError: Nothing was paid; the caller can mend the request, or its budget is used up.
            ProviderError: The model did not answer; the call is on the ledger.
            StoreUnavailable: The prompt cannot be loaded right now.
            CancelledError: The caller went away; if a model was asked, the call is on the ledger.
        """
        prompt = await self._load(request, request_id, time_left)
        caller.permit_prompt(prompt.path)
        deadline = time_left.sooner(request.timeout_s or prompt.front.timeout_s or self._limits.timeout_s)
        model = self._router.choose(request.provider, request.model, prompt.front.model)
        contract = output_contract(request.output, prompt)
        routes = _permitted(self._routes(request, prompt, model, contract), caller)
        messages = prompt.render(request.variables, self._limits.max_rendered_chars, deadline.remaining_s())
        call = _Call(self._new_id(), request_id, self._now(), request, prompt, model, self._test_mode)
        routes, hold = await self._reserve(call, routes, messages, deadline, contract)
        tally = Tally(lambda retry: self._observer.call_retried(call.call_id, retry))
        try:
            answer, parsed = await self._complete(routes, messages, deadline, contract, tally)
        except ProviderError as error:
            await to_the_end(self._close(call.failed(error, deadline), error, hold, error.spent))
            raise
        except GatewayError:  # nobody was asked, for example because there is no key
            await to_the_end(self._settle(hold, ()))
            raise
        except asyncio.CancelledError:
            await to_the_end(self._close_cancelled(call, tally, deadline, hold))
            raise
        record = call.answered(answer, deadline)
        await to_the_end(self._close(record, None, hold, answer.spent))
        return _response(record, answer.completion, parsed, request)

    async def account_replay(
        self, request: CallRequest, answer: CallResponse, request_id: str, time_left: Deadline
    ) -> None:
        """Put a call on the ledger that was answered with an earlier call's answer."""
        record = UsageRecord(
            call_id=self._new_id(),
            request_id=request_id,
            started_at=self._now(),
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
            latency_ms=round(time_left.elapsed_s() * 1000),
            attempts=0,
            test_mode=answer.test_mode,
            metadata=request.metadata,
        )
        await to_the_end(self._account(record, None))

    def _routes(
        self, request: CallRequest, prompt: Prompt, model: ModelSpec, contract: OutputContract | None
    ) -> Sequence[Route]:
        """The chosen model; after it the author's fallbacks, unless the request chose the model."""
        authored = replace(
            prompt.front.options,
            output_format=None if contract is None else "json",
            output_schema=contract.schema.document if contract and contract.schema else None,
            mock=prompt.front.mock if self._test_mode else None,
        )
        fallbacks = () if request.model or request.provider else prompt.front.fallbacks
        return self._router.routes(model, fallbacks, request.parameters.options(), authored)

    async def _reserve(
        self,
        call: _Call,
        routes: Sequence[Route],
        messages: Sequence[Message],
        deadline: Deadline,
        contract: OutputContract | None,
    ) -> tuple[Sequence[Route], Hold | None]:
        """The routes that the caller's budget allows, and what is held of it for the dearest of them."""
        if self._budgets is None:
            return routes, None
        service, repair = call.request.calling_service, contract is not None and contract.repair
        routes = self._budgets.payable(service, routes)
        hold = await self._budgets.reserve(
            call.call_id, service, call.started_at, routes, messages, deadline, repair=repair
        )
        return routes, hold

    async def _settle(self, hold: Hold | None, spent: Sequence[Spending]) -> None:
        if self._budgets is not None and hold is not None:
            await self._budgets.settle(hold, spent)

    async def _complete(
        self,
        routes: Sequence[Route],
        messages: Sequence[Message],
        deadline: Deadline,
        contract: OutputContract | None,
        tally: Tally,
    ) -> tuple[Answer, Json]:
        if contract is None:
            return await self._completer.complete(routes, messages, deadline, tally), None
        return await complete_json(self._completer, routes, messages, deadline, contract, tally)

    async def _load(self, request: CallRequest, request_id: str, time_left: Deadline) -> Prompt:
        if request.version is not None and request.label is not None:
            raise InvalidParameter("Give 'version' or 'label', not both.", param="label")
        deadline = time_left if request.timeout_s is None else time_left.sooner(request.timeout_s)
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                key = request.sticky_key or request.calling_service or request_id
                return await self._prompts.load(request.prompt, request.version, request.label, key)
        except TimeoutError as error:
            raise StoreUnavailable("The prompt could not be loaded in time; try again.") from error

    async def _close(
        self,
        record: UsageRecord,
        error: GatewayError | None,
        hold: Hold | None,
        spent: Sequence[Spending],
    ) -> None:
        if hold is None:
            await self._account(record, error)
        else:
            await asyncio.gather(self._account(record, error), self._settle(hold, spent))

    async def _close_cancelled(
        self, call: _Call, tally: Tally, deadline: Deadline, hold: Hold | None
    ) -> None:
        """The caller went away while a model was asked; before that there is nothing to account for."""
        if not tally.attempts:
            await self._settle(hold, ())
            return
        error = CallCancelled("The caller went away before it was answered.")
        await self._close(call.cancelled(error, tally, deadline), error, hold, tally.spent)

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
        return self._record(answer.route.model, answer.spent, answer.attempts, deadline, None)

    def failed(self, error: ProviderError, deadline: Deadline) -> UsageRecord:
        return self._record(self.model, error.spent, error.attempts, deadline, error)

    def cancelled(self, error: CallCancelled, tally: Tally, deadline: Deadline) -> UsageRecord:
        return self._record(self.model, tally.spent, tally.attempts, deadline, error)

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


def _permitted(routes: Sequence[Route], caller: Caller) -> Sequence[Route]:
    """The routes whose models the caller may use; the first is the one that was asked for."""
    permitted = [route for route in routes if caller.may_use(f"{route.model.provider}/{route.model.name}")]
    if routes[0] not in permitted:
        raise Forbidden("Your key does not allow this model; name one that it does.", param="model")
    return permitted


def _status(error: GatewayError | None) -> CallStatus:
    if error is None:
        return "answered"
    return "timed_out" if isinstance(error, ProviderTimeout) else "failed"


def _response(
    record: UsageRecord, completion: Completion, parsed: Json, request: CallRequest
) -> CallResponse:
    usage = record.usage
    return CallResponse(
        call_id=record.call_id,
        correlation_id=request.correlation_id,
        text=completion.text,
        parsed=parsed,
        finish_reason=completion.finish_reason,
        prompt=PromptVersion(path=record.prompt, version=record.prompt_version, label=request.label),
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
