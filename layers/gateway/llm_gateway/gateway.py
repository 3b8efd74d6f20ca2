"""The gateway's main job, as one story."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from llm_gateway.access.caller import Caller
from llm_gateway.api.calls import CallRequest, CallResponse
from llm_gateway.calls.account import CallUnderWay, replayed
from llm_gateway.calls.completer import Answer, Completer
from llm_gateway.calls.shield import to_the_end
from llm_gateway.calls.structured_output import OutputContract, complete_json, output_contract, quickly_read
from llm_gateway.calls.tally import Retry, Tally
from llm_gateway.deadline import Deadline
from llm_gateway.errors import CallCancelled, GatewayError, InvalidParameter, StoreUnavailable
from llm_gateway.json_schema.values import Json
from llm_gateway.models.catalogue import ModelSpec
from llm_gateway.models.errors import ProviderError
from llm_gateway.models.messages import Message
from llm_gateway.models.routing import Route, Router
from llm_gateway.prompts.catalogue.catalogue import Catalogue
from llm_gateway.prompts.prompt import Prompt
from llm_gateway.usage.ledger import UsageLedger
from llm_gateway.usage.pricing import Spending
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.record_names import RecordNames
from llm_gateway.workers import INLINE, Workers

if TYPE_CHECKING:
    from llm_gateway.budgets.budgets import Budgets
    from llm_gateway.budgets.holds import Hold


class CallObserver(Protocol):
    """Told of every call: logs and metrics, never content."""

    def call_retried(self, call_id: str, retry: Retry) -> None:
        """An attempt failed, and another one follows."""
        ...

    def call_ended(self, record: UsageRecord, error: GatewayError | None, asking_s: float | None) -> None:
        """A call reached a provider and ended; so long models were asked, None if none was."""
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
        rehearsals: Answers calls that ask for test mode by themselves, without a model.
        budgets: What services may spend; None if nobody has a budget.
        workers: Do what would keep other calls waiting.
        names: Bounds the names that callers bring into records.
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
        rehearsals: Callable[[], Completer],
        budgets: Budgets | None = None,
        workers: Workers = INLINE,
        names: RecordNames | None = None,
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
        self._rehearsals = rehearsals
        self._budgets = budgets
        self._workers = workers
        self._names = names or RecordNames()

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
        prompt = await self._load(request, request_id, time_left, caller)
        deadline = time_left.sooner(request.timeout_s or prompt.front.timeout_s or self._limits.timeout_s)
        model = self._router.choose(request.provider, request.model, prompt.front.model, caller.may_use)
        contract = await self._contract(request, prompt, deadline)
        routes = _permitted(self._routes(request, prompt, model, contract), caller)
        messages = await self._render(request, prompt, deadline)
        call = CallUnderWay(
            self._new_id(), request_id, self._now(), request, prompt, model, self._rehearsed(request)
        )
        routes, hold = await self._reserve(call, routes, messages, deadline, contract)
        tally = Tally(lambda retry: self._observer.call_retried(call.call_id, retry))
        try:
            answer, parsed = await self._complete(call, routes, messages, deadline, contract, tally)
        except ProviderError as error:
            await to_the_end(self._close(call.failed(error, deadline), error, hold, tally))
            raise
        except GatewayError:  # nobody was asked, for example because there is no key
            await to_the_end(self._settle(hold, ()))
            raise
        except asyncio.CancelledError:
            await to_the_end(self._close_cancelled(call, tally, deadline, hold))
            raise
        record = call.answered(answer, deadline)
        await to_the_end(self._close(record, None, hold, tally))
        return call.response(record, answer.completion, parsed)

    async def account_replay(
        self, request: CallRequest, answer: CallResponse, request_id: str, time_left: Deadline
    ) -> None:
        """Put a call on the ledger that was answered with an earlier call's answer."""
        record = replayed(self._new_id(), request_id, self._now(), request, answer, time_left)
        await to_the_end(self._account(record, None, None))

    async def _contract(
        self, request: CallRequest, prompt: Prompt, deadline: Deadline
    ) -> OutputContract | None:
        """What the answer has to be; a schema of the request is read here."""

        def read() -> OutputContract | None:
            return output_contract(request.output, prompt)

        first = read if quickly_read(request.output) else None
        return await self._workers.run(read, deadline, owner=_owner(request), first=first)

    async def _render(self, request: CallRequest, prompt: Prompt, deadline: Deadline) -> Sequence[Message]:
        """The messages: at once if that takes a moment, else beside the other calls and from the start."""
        most = self._limits.max_rendered_chars
        return await self._workers.run(
            lambda: prompt.render(request.variables, most, deadline.remaining_s()),
            deadline,
            owner=_owner(request),
            first=lambda: prompt.render_quickly(request.variables, most),
        )

    def _routes(
        self, request: CallRequest, prompt: Prompt, model: ModelSpec, contract: OutputContract | None
    ) -> Sequence[Route]:
        """The chosen model; after it the author's fallbacks, unless the request chose the model."""
        authored = replace(
            prompt.front.options,
            output_format=None if contract is None else "json",
            output_schema=contract.schema.document if contract and contract.schema else None,
            mock=prompt.front.mock if self._rehearsed(request) else None,
        )
        fallbacks = () if request.model or request.provider else prompt.front.fallbacks
        return self._router.routes(model, fallbacks, request.parameters.options(), authored)

    async def _reserve(
        self,
        call: CallUnderWay,
        routes: Sequence[Route],
        messages: Sequence[Message],
        deadline: Deadline,
        contract: OutputContract | None,
    ) -> tuple[Sequence[Route], Hold | None]:
        """The routes that the caller's budget allows, and what is held of it for the dearest of them."""
        if self._budgets is None or call.test_mode is not self._test_mode:  # a rehearsal costs nothing
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

    def _rehearsed(self, request: CallRequest) -> bool:
        return self._test_mode or request.test_mode

    async def _complete(
        self,
        call: CallUnderWay,
        routes: Sequence[Route],
        messages: Sequence[Message],
        deadline: Deadline,
        contract: OutputContract | None,
        tally: Tally,
    ) -> tuple[Answer, Json]:
        completer = self._rehearsals() if call.test_mode else self._completer
        if contract is None:
            return await completer.complete(routes, messages, deadline, tally), None
        return await complete_json(
            completer, routes, messages, deadline, contract, tally, self._workers, _owner(call.request)
        )

    async def _load(
        self, request: CallRequest, request_id: str, time_left: Deadline, caller: Caller
    ) -> Prompt:
        if request.version is not None and request.label is not None:
            raise InvalidParameter("Give 'version' or 'label', not both.", param="label")
        deadline = time_left if request.timeout_s is None else time_left.sooner(request.timeout_s)
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                key = request.sticky_key or request.calling_service or request_id
                return await self._prompts.load(
                    request.prompt, request.version, request.label, key, caller.reach
                )
        except TimeoutError as error:
            raise StoreUnavailable("The prompt could not be loaded in time; try again.") from error

    async def _close(
        self,
        record: UsageRecord,
        error: GatewayError | None,
        hold: Hold | None,
        tally: Tally,
    ) -> None:
        accounted = self._account(record, error, tally.asking_s)
        if hold is None:
            await accounted
        else:
            await asyncio.gather(accounted, self._settle(hold, tally.spent))

    async def _close_cancelled(
        self, call: CallUnderWay, tally: Tally, deadline: Deadline, hold: Hold | None
    ) -> None:
        """The caller went away while a model was asked; before that there is nothing to account for."""
        if not tally.attempts:
            await self._settle(hold, ())
            return
        error = CallCancelled("The caller went away before it was answered.")
        await self._close(call.cancelled(error, tally, deadline), error, hold, tally)

    async def _account(self, record: UsageRecord, error: GatewayError | None, asking_s: float | None) -> None:
        """Keep the record; an answer that is paid for is never withheld because the ledger is down."""
        record = self._names.folded(record)
        try:
            async with asyncio.timeout(self._limits.ledger_timeout_s):
                await self._ledger.record(record)
        except (StoreUnavailable, TimeoutError) as refusal:
            self._observer.usage_not_recorded(record, refusal)
        self._observer.call_ended(record, error, asking_s)


def _owner(request: CallRequest) -> str:
    """Whose work a call is, among the work that waits."""
    return request.calling_service or ""


def _permitted(routes: Sequence[Route], caller: Caller) -> Sequence[Route]:
    """The routes whose models the caller may use; the first is the one that was asked for."""
    caller.permit_model(routes[0].model.full_name)
    return [route for route in routes if caller.may_use(route.model.full_name)]
