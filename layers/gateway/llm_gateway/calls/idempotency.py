"""One key, one call: the same request with the same key is answered once and paid for once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from llm_gateway.access.caller import OPEN, Caller
from llm_gateway.api.calls import CallRequest, CallResponse
from llm_gateway.calls.shield import to_the_end
from llm_gateway.deadline import Deadline
from llm_gateway.errors import (
    AnswerNotKept,
    CallInterrupted,
    GatewayError,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    StoreUnavailable,
)
from llm_gateway.json_schema.value_bounds import is_small
from llm_gateway.models.errors import ProviderError, ProviderTimeout
from llm_gateway.workers import INLINE, LIGHT_BYTES, LIGHT_VALUES, Workers

MAX_OUTCOME_BYTES = 350_000
"""Largest outcome that is kept, compressed; a DynamoDB item has 400 KB."""

_MARGIN_S = 5.0  # for the clocks of two holders, and for what a holder does after its deadline
_LONGEST_RETRY_AFTER_S = 2.0
_STORE_TIMEOUT_S = 0.5
_PACKING_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Claim:
    """One attempt to be the one who makes a call.

    Attributes:
        key: Digest of caller and idempotency key.
        request: Digest of the request.
        holder: Whoever claims; no two are the same.
        held_until: When the holder is taken for dead, aware UTC.
        expires_at: When the key is forgotten, aware UTC.
    """

    key: str
    request: str
    holder: str
    held_until: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier claim of the same key left behind.

    Attributes:
        request: Digest of its request.
        held_until: When its holder is taken for dead.
        ended: True if its call is over.
        outcome: What came of it; None if it is not over, or was too large to be kept.
    """

    request: str
    held_until: datetime
    ended: bool
    outcome: bytes | None


class OutcomeStore(Protocol):
    """Claims and outcomes by key; all writes are atomic."""

    async def claim(self, claim: Claim, now: datetime, *, take_over: bool) -> Earlier | None:
        """Take the key; None if it is taken now, else who was earlier.

        A key is free if it is unknown or forgotten, and with `take_over` also if its holder is dead.

        Raises:
            StoreUnavailable: Nobody knows.
        """
        ...

    async def end(self, claim: Claim, outcome: bytes | None) -> None:
        """Keep the outcome, if the claim still stands.

        Raises:
            StoreUnavailable: It is not kept.
        """
        ...

    async def release(self, claim: Claim) -> None:
        """Free the key, if the claim still stands.

        Raises:
            StoreUnavailable: It stays taken until its holder is taken for dead.
        """
        ...


class CallsPrompts(Protocol):
    """Whatever answers calls: the gateway, or something around it."""

    async def call_prompt(
        self, request: CallRequest, request_id: str, time_left: Deadline, caller: Caller
    ) -> CallResponse:
        """See Gateway.call_prompt."""
        ...


class AccountsReplays(CallsPrompts, Protocol):
    """The same, and puts on record what cost nothing."""

    async def account_replay(
        self, request: CallRequest, answer: CallResponse, request_id: str, time_left: Deadline
    ) -> None:
        """See Gateway.account_replay."""
        ...


class IdempotencyObserver(Protocol):
    """Told of what the caller cannot see."""

    def outcome_not_kept(self, request_id: str, error: Exception) -> None:
        """The call is over and its key does not say so: it may be paid for again."""
        ...


class IdempotentCalls:
    """Answers calls; those with an idempotency key at most once for each key.

    What is kept is the answer, or the error of a call that was paid for and would fail again. After any
    other failure the key is free, so that a repetition makes sense.

    Args:
        calls: Makes the calls.
        store: Where keys and outcomes are.
        observer: Logs and metrics.
        ttl_s: How long a key is remembered, seconds.
        now: Aware UTC.
        new_id: Makes a fresh id.
        workers: Pack and unpack what is kept.
    """

    def __init__(
        self,
        calls: AccountsReplays,
        store: OutcomeStore,
        observer: IdempotencyObserver,
        *,
        ttl_s: float,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        workers: Workers = INLINE,
    ) -> None:
        self._calls = calls
        self._store = store
        self._observer = observer
        self._ttl = timedelta(seconds=ttl_s)
        self._now = now
        self._new_id = new_id
        self._workers = workers

    async def call_prompt(
        self, request: CallRequest, request_id: str, time_left: Deadline, caller: Caller
    ) -> CallResponse:
        """Answer a call; a holder that died may be replaced.

        Raises:
            IdempotencyKeyReused, IdempotencyKeyInUse, AnswerNotKept: Nothing was called.
            GatewayError: As Gateway.call_prompt, now or when the key was first used.
        """
        if request.idempotency_key is None:
            return await self._calls.call_prompt(request, request_id, time_left, caller)
        return await self._once(request, request_id, time_left, caller, take_over=True)

    async def call_event(self, request: CallRequest, event_id: str, time_left: Deadline) -> CallResponse:
        """Answer a call that may be delivered several times, and never pay for it twice.

        Raises:
            CallInterrupted: An earlier delivery died in the middle; it may have been paid for.
            GatewayError: As `call_prompt`.
        """
        if request.idempotency_key is None:
            request = request.model_copy(update={"idempotency_key": f"event:{event_id}"})
        return await self._once(request, event_id, time_left, OPEN, take_over=False)

    async def _once(
        self, request: CallRequest, request_id: str, time_left: Deadline, caller: Caller, *, take_over: bool
    ) -> CallResponse:
        now = self._now()
        held_until = now + timedelta(seconds=time_left.remaining_s() + _MARGIN_S)
        expires_at = max(now + self._ttl, held_until)
        digest = await self._digest(request, time_left)
        claim = Claim(_key_of(request), digest, self._new_id(), held_until, expires_at)
        earlier = await self._claim(claim, now, time_left, take_over=take_over)
        if earlier is not None:
            answer = await self._workers.run(
                lambda: self._replayed(earlier, claim, request, caller), time_left
            )
            await self._calls.account_replay(request, answer, request_id, time_left)
            return answer
        try:
            answer = await self._calls.call_prompt(request, request_id, time_left, caller)
        except GatewayError as error:
            await to_the_end(self._settle(claim, request_id, _outcome_of(error)))
            raise
        except asyncio.CancelledError:
            if take_over:  # who went away may come again; an event that was paid for must not
                await to_the_end(self._settle(claim, request_id, None))
            raise
        await to_the_end(
            self._settle(claim, request_id, {"answer": answer.model_dump(mode="json", exclude_defaults=True)})
        )
        return answer

    async def _digest(self, request: CallRequest, time_left: Deadline) -> str:
        def work() -> str:
            return _digest_of(request)

        first = work if is_small(request.variables, LIGHT_VALUES, LIGHT_BYTES) else None
        return await self._workers.run(work, time_left, owner=request.calling_service or "", first=first)

    async def _packed(self, outcome: dict[str, Any]) -> bytes | None:
        """The stored form of an outcome; the caller has the answer in any case."""

        def work() -> bytes | None:
            return _kept(outcome)

        text = outcome.get("answer", {}).get("text", "")
        first = work if len(text) <= LIGHT_BYTES else None
        return await self._workers.run(work, Deadline.after(_PACKING_TIMEOUT_S), first=first, paid=True)

    async def _claim(
        self, claim: Claim, now: datetime, time_left: Deadline, *, take_over: bool
    ) -> Earlier | None:
        try:
            async with asyncio.timeout(time_left.remaining_s()):
                return await self._store.claim(claim, now, take_over=take_over)
        except TimeoutError as error:
            raise StoreUnavailable("Idempotency keys cannot be looked up right now; try again.") from error

    def _replayed(self, earlier: Earlier, claim: Claim, request: CallRequest, caller: Caller) -> CallResponse:
        """The earlier answer again.

        Raises:
            Forbidden: The caller may not call its prompt or its model now.
            GatewayError: The earlier error again, or why there is no answer.
        """
        if earlier.request != claim.request:
            raise IdempotencyKeyReused(
                "This idempotency key was used for another request; use a new one.", param="idempotency_key"
            )
        if not earlier.ended:
            raise _unfinished(earlier, self._now())
        if earlier.outcome is None:
            raise AnswerNotKept("The call was answered before; its answer is too large to be kept.")
        outcome = json.loads(zlib.decompress(earlier.outcome))
        if "error" in outcome:
            for model in outcome["error"].get("models", ()):  # earlier versions did not keep them
                caller.permit_model(model)
            raise _error_of(outcome["error"])
        try:
            answer = CallResponse.model_validate_json(json.dumps(outcome["answer"]), extra="ignore")
        except ValueError as error:  # kept by another version of the gateway
            raise AnswerNotKept(
                "The call was answered before, in a form that is not read any more."
            ) from error
        caller.permit_prompt(answer.prompt.path)
        caller.permit_model(f"{answer.provider}/{answer.model}")
        return answer.model_copy(update={"replayed": True, "correlation_id": request.correlation_id})

    async def _settle(self, claim: Claim, request_id: str, outcome: dict[str, Any] | None) -> None:
        """Write down what came of a call; the caller gets its answer whether that works or not."""
        try:
            if outcome is None:
                await _soon(self._store.release(claim))
            else:
                await _soon(self._store.end(claim, await self._packed(outcome)))
        except (StoreUnavailable, TimeoutError, ProviderTimeout) as error:
            self._observer.outcome_not_kept(request_id, error)


async def _soon(work: Awaitable[None]) -> None:
    async with asyncio.timeout(_STORE_TIMEOUT_S):
        await work


def _key_of(request: CallRequest) -> str:
    """Two services that choose the same key do not meet."""
    return _sha256(json.dumps([request.calling_service, request.idempotency_key]))


def _digest_of(request: CallRequest) -> str:
    """The same for the same request, whatever the order of its fields and what its delivery is called."""
    content = request.model_dump(mode="json", exclude={"correlation_id", "metadata"})
    return _sha256(json.dumps(content, sort_keys=True))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _kept(outcome: dict[str, Any]) -> bytes | None:
    compressed = zlib.compress(json.dumps(outcome).encode())
    return compressed if len(compressed) <= MAX_OUTCOME_BYTES else None


def _unfinished(earlier: Earlier, now: datetime) -> GatewayError:
    left_s = (earlier.held_until - now).total_seconds()
    if left_s <= 0:
        return CallInterrupted(
            "An earlier delivery of this call ended without an answer and may have been paid for; "
            "send it with a new idempotency key if it is to be made again."
        )
    return IdempotencyKeyInUse(
        "The first request with this idempotency key is not answered yet; try again shortly.",
        param="idempotency_key",
        retry_after_s=min(left_s, _LONGEST_RETRY_AFTER_S),
    )


def _outcome_of(error: GatewayError) -> dict[str, Any] | None:
    """What to keep of a failure, None if a repetition may do better at no risk."""
    if not isinstance(error, ProviderError) or error.retryable or not error.spent:
        return None
    models = [spending.model.full_name for spending in error.spent]
    return {
        "error": {"code": error.code, "message": error.message, "details": error.details, "models": models}
    }


def _error_of(kept: dict[str, Any]) -> GatewayError:
    kind = ProviderError.kinds().get(kept["code"])
    if kind is None:  # stored by a newer version
        return AnswerNotKept("The call failed before, with an error that this version does not know.")
    return kind(kept["message"], details={**kept["details"], "replayed": True})
