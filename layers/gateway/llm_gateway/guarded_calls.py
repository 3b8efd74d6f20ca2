"""CallPrompt behind a door: who calls, for whom it is recorded, and how often they may."""

from __future__ import annotations

from llm_gateway.access.caller import Caller, CallRates
from llm_gateway.api.calls import CallRequest, CallResponse
from llm_gateway.deadline import Deadline
from llm_gateway.idempotency import CallsPrompts
from llm_gateway.usage.record_names import RecordNames


class GuardedCalls:
    """Answers calls of those who may call; see CallsPrompts.

    Args:
        calls: Makes the calls.
        rates: Counts them.
        names: Learns the services that proved who they are.
    """

    def __init__(self, calls: CallsPrompts, rates: CallRates, names: RecordNames) -> None:
        self._calls = calls
        self._rates = rates
        self._names = names

    async def call_prompt(
        self, request: CallRequest, request_id: str, time_left: Deadline, caller: Caller
    ) -> CallResponse:
        """Answer a call under the caller's own name.

        Raises:
            Forbidden: The caller may not call this, or not in that name.
            CallRateExceeded: Not so often.
            GatewayError: As Gateway.call_prompt.
        """
        caller.permit("CallPrompt")
        caller.permit_prompt(request.prompt)
        service = caller.service_for(request.calling_service)
        if caller.scopes.calls_per_minute is not None:
            await self._rates.take(caller)
        if caller.service is not None:
            self._names.services.know((caller.service,))
        named = request.model_copy(update={"calling_service": service})
        return await self._calls.call_prompt(named, request_id, time_left, caller)
