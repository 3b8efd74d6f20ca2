"""Who sends an HTTP request: by its header, or by what API Gateway found out before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.requests import Request

from llm_gateway.access.caller import Caller, Callers, Method


class RequestCallers(Protocol):
    """Tells who sends a request."""

    async def __call__(self, request: Request) -> Caller:
        """The caller.

        Raises:
            Unauthorized: Nobody that is known.
            StoreUnavailable: It cannot be told right now.
        """
        ...


class HeaderCallers:
    """Callers by their `Authorization` header.

    Args:
        callers: Authenticates them.
    """

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    async def __call__(self, request: Request) -> Caller:
        """See RequestCallers."""
        return await self._callers.authenticate(request.headers.get("authorization"))


def permitted(callers: RequestCallers, method: Method) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: the caller, who may use `method`."""

    async def caller_of(request: Request) -> Caller:
        caller = await callers(request)
        caller.permit(method)
        return caller

    return caller_of
