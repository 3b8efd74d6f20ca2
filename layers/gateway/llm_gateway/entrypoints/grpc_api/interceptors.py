"""What every call over gRPC has, whatever its method: a place, a caller, a name, and errors of one shape."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import grpc
from google.protobuf.message import DecodeError
from typing_extensions import override

from llm_gateway.access.caller import Caller, Callers, Method
from llm_gateway.calls.admission import CallLimit
from llm_gateway.deadline import Deadline
from llm_gateway.entrypoints.grpc_api import status
from llm_gateway.entrypoints.grpc_api.keyless import KeylessRpcs
from llm_gateway.errors import (
    AmbiguousRequest,
    CallCancelled,
    GatewayError,
    MalformedMessage,
    RequestTimedOut,
    internal_error,
)
from llm_gateway.models.options import TIMEOUT_RANGE_S

if TYPE_CHECKING:
    from llm_gateway.entrypoints.http.boundary import RequestObserver

    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]  # to its stubs a synchronous one, hence Any where it is called


@dataclass(frozen=True, slots=True)
class Asked:
    """What a method knows of a call beside its message.

    Attributes:
        request_id: Its name in logs and records.
        time_left: The client's deadline, or the longest that a call may take.
        caller: Who calls.
    """

    request_id: str
    time_left: Deadline
    caller: Caller


ASKED: ContextVar[Asked] = ContextVar("asked")
"""The call that is being answered; gRPC has no other way from an interceptor to a method."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Stands before the methods of one service; health and reflection need no key and are bounded in number.

    Args:
        service: Full name of the service.
        observer: Logs and metrics.
        callers: Authenticates callers.
        limiter: Places for calls.
        message_timeout_s: Longest that a message may take after its headers.
    """

    def __init__(
        self,
        service: str,
        observer: RequestObserver,
        callers: Callers,
        limiter: CallLimit,
        message_timeout_s: float,
    ) -> None:
        self._prefix = f"/{service}/"
        self._observer = observer
        self._callers = callers
        self._limiter = limiter
        self._message_timeout_s = message_timeout_s
        self._under_way: set[asyncio.Task[Any]] = set()
        self._keyless = KeylessRpcs(message_timeout_s)

    @override
    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """See grpc.aio.ServerInterceptor."""
        handler, method = await continuation(handler_call_details), handler_call_details.method
        if handler is None:
            return None
        if not method.startswith(self._prefix):
            return self._keyless.bounded(handler)

        async def answered(_: object, context: Context) -> Any:
            return await self._answered(method, handler, context)

        # As a stream of requests, which is the same on the wire, the one message is read here, with a time
        # limit; without a deserializer, so that one that cannot be read is an error of the usual shape.
        serializer = handler.response_serializer
        return grpc.stream_unary_rpc_method_handler(answered, response_serializer=serializer)

    async def idle(self, within_s: float) -> None:
        """Wait until no call is under way, not even to write down what it cost."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=within_s)

    async def _answered(self, method: str, handler: Any, context: Context) -> Any:
        self._remember_task()
        request_id, began = uuid.uuid4().hex, time.perf_counter()
        context.set_trailing_metadata(((status.REQUEST_ID_TRAILER, request_id),))
        code = CallCancelled.status  # unless it ends in another way
        try:
            answer, refusal = await self._tried(method, handler, context, request_id)
            code = 200 if refusal is None else refusal.status
        finally:
            duration_ms = 1000 * (time.perf_counter() - began)
            self._observer.served("gRPC", method, code, duration_ms, request_id)
        if refusal is not None:
            told = status.trailers(refusal, request_id)
            await context.abort(status.status_of(refusal), status.message_of(refusal), told)
        return answer

    async def _tried(
        self, method: str, handler: Any, context: Context, request_id: str
    ) -> tuple[Any, GatewayError | None]:
        """The answer, or what the client is told instead."""
        time_left = _time_left(context)
        try:
            caller = await self._caller(method, context)  # a stranger is not waited for, nor read
            message = await self._message(context)
            with self._limiter.place():
                ASKED.set(Asked(request_id, time_left, caller))
                return await handler.unary_unary(_read(handler, message), context), None
        except GatewayError as error:
            self._observer.refused(error, request_id)
            return None, error
        except Exception as error:
            self._observer.crashed(error, request_id)
            return None, internal_error()

    async def _message(self, context: Context) -> bytes:
        """The bytes of the one message.

        Raises:
            RequestTimedOut: It did not come in time.
            MalformedMessage: There is none.
        """
        try:
            async with asyncio.timeout(self._message_timeout_s):
                message = await context.read()
        except TimeoutError:
            raise RequestTimedOut(f"The message did not come within {self._message_timeout_s:g} s.") from None
        if not isinstance(message, bytes):
            raise MalformedMessage("There is no message; send one.")
        return message

    async def _caller(self, method: str, context: Context) -> Caller:
        caller = await self._callers.authenticate(_authorization(context))
        caller.permit(cast("Method", method.removeprefix(self._prefix)))
        return caller

    def _remember_task(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)


def _time_left(context: Context) -> Deadline:
    longest_s = TIMEOUT_RANGE_S[1]
    left_s: float | None = context.time_remaining()  # None, whatever its type says: the client set none
    return Deadline.after(longest_s if left_s is None else min(left_s, longest_s))


def _authorization(context: Context) -> str | None:
    """The one credential.

    Raises:
        AmbiguousRequest: There are two, and a proxy in front may have looked at the other one.
    """
    given = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
    if len(given) > 1:
        raise AmbiguousRequest("'authorization' is there twice; send one.", param="authorization")
    return given[0] if given and isinstance(given[0], str) else None


def _read(handler: Any, message: bytes) -> Any:
    try:
        return handler.request_deserializer(message)
    except DecodeError as error:
        raise MalformedMessage("The message cannot be read; see llm_gateway.proto.") from error
