"""Who sends an HTTP request: by its header, or by what API Gateway found out before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from starlette.requests import Request

from llm_gateway.access.caller import OPEN, Caller, Callers, Method
from llm_gateway.access.errors import Unauthorized
from llm_gateway.bootstrap.settings import Access
from llm_gateway.entrypoints.caller_context import caller_in


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
        callers: Who is known; None lets everybody in.
    """

    def __init__(self, callers: Callers | None) -> None:
        self._callers = callers

    async def __call__(self, request: Request) -> Caller:
        """See RequestCallers."""
        if self._callers is None:
            return OPEN
        return await self._callers.authenticate(request.headers.get("authorization"))


class EventCallers:
    """Callers as API Gateway tells of them: by the authorizer's context, or by IAM's identity.

    Args:
        access: How callers prove who they are.
    """

    def __init__(self, access: Access) -> None:
        self._access = access

    async def __call__(self, request: Request) -> Caller:
        """See RequestCallers."""
        context = request.scope["aws.event"]["requestContext"]
        if self._access == "iam":
            return _iam_caller(context)
        caller = caller_in(context.get("authorizer") or {})
        if caller is not None:
            return caller
        if self._access == "open":
            return OPEN
        raise Unauthorized


def permitted(callers: RequestCallers, method: Method) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: the caller, who may use `method`."""

    async def caller_of(request: Request) -> Caller:
        caller = await callers(request)
        caller.permit(method)
        return caller

    return caller_of


def _iam_caller(context: Mapping[str, Any]) -> Caller:
    """The service named as the role or user that signed the request; of another account, with its id."""
    identity = context.get("identity") or {}
    kind, _, name = str(identity.get("userArn") or "").rpartition(":")[2].partition("/")
    if not name:
        raise Unauthorized("Sign the request with AWS Signature Version 4.")
    name = name.partition("/")[0] if kind == "assumed-role" else name.rpartition("/")[2]
    account = identity.get("accountId")
    own = account in (None, context.get("accountId"))
    return Caller(name if own else f"{account}/{name}")
