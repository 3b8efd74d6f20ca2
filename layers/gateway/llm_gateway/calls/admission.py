"""What a call must pass before it starts: permission, the key's rate, and a free slot in the process.

Answers no call itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from llm_gateway.access.caller import Caller, CallRates
from llm_gateway.api.calls import CallRequest, CallResponse
from llm_gateway.calls.idempotency import CallsPrompts
from llm_gateway.deadline import Deadline
from llm_gateway.errors import Overloaded
from llm_gateway.usage.record_names import RecordNames

_RETRY_AFTER_S = 1.0


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


class CallLimit:
    """Places for calls; the entrances of a process share one, in one event loop.

    Args:
        most: How many there are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._closed = False

    def close(self) -> None:
        """Refuse all further calls: the process is about to end."""
        self._closed = True

    async def check_open(self) -> None:
        """Raise Overloaded once no further call is taken."""
        if self._closed:
            raise _closing()

    @property
    def closed(self) -> bool:
        """True once no further call is taken."""
        return self._closed

    @property
    def taken(self) -> int:
        """Calls under way."""
        return self._taken

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for one call; nobody queues, as whoever waits unseen cannot be told when to come back.

        Raises:
            Overloaded: All are taken, or the process is about to end.
        """
        if self._closed:
            raise _closing()
        if self._taken >= self._most:
            raise Overloaded(
                "The gateway answers as many calls as it can; come back in a moment.",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


def _closing() -> Overloaded:
    return Overloaded(
        "This process of the gateway is about to end; try again, another one answers.",
        retry_after_s=_RETRY_AFTER_S,
    )


class LimitedCalls:
    """Answers so many calls at once and no more; see CallsPrompts.

    Args:
        calls: Answers them.
        limit: The places there are.
    """

    def __init__(self, calls: CallsPrompts, limit: CallLimit) -> None:
        self._calls = calls
        self._limit = limit

    async def call_prompt(
        self, request: CallRequest, request_id: str, time_left: Deadline, caller: Caller
    ) -> CallResponse:
        """Answer a call.

        Raises:
            Overloaded: There is no place left, or the call was cut off because the process ends.
            GatewayError: As Gateway.call_prompt.
        """
        with self._limit.place():
            try:
                return await self._calls.call_prompt(request, request_id, time_left, caller)
            except asyncio.CancelledError:
                if not self._limit.closed:
                    raise
                raise Overloaded(
                    "The call was cut off as this process of the gateway ends; it may have been paid for."
                ) from None
