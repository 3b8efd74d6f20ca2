"""What every HTTP answer has, whatever endpoint gave it: a request id, and errors of one shape."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_gateway.entrypoints.http.ambiguity import refuse_ambiguous
from llm_gateway.errors import GatewayError, InvalidRequest, MethodNotAllowed, RouteNotFound, internal_error

if TYPE_CHECKING:
    from llm_gateway.entrypoints.http.callers import RequestCallers

REQUEST_ID_HEADER = b"x-request-id"
ExceptionHandler = Callable[[Request, Any], Coroutine[Any, Any, Response]]


class RequestObserver(Protocol):
    """Told of every request, and of those that did not end well."""

    def served(self, method: str, path: str, status: int, duration_ms: float, request_id: str) -> None:
        """The request was answered, with whatever status."""
        ...

    def refused(self, error: GatewayError, request_id: str | None) -> None:
        """The request was answered with `error`."""
        ...

    def crashed(self, error: BaseException, request_id: str | None) -> None:
        """The request met a defect."""
        ...


def error_answer(request: Request, error: GatewayError, observer: RequestObserver) -> JSONResponse:
    """The answer that tells of an error."""
    request_id = request_id_of(request.scope)
    observer.refused(error, request_id)
    return JSONResponse(error.to_wire(request_id), error.status, headers=error_headers(error))


def exception_handlers(
    observer: RequestObserver, callers: RequestCallers | None = None
) -> dict[int | type[Exception], ExceptionHandler]:
    """Answers to what endpoints raise, by class.

    Args:
        observer: Logs and metrics.
        callers: Who may learn which methods an endpoint takes; None is everybody. API Gateway asks for the
            caller before it looks at the method, and so does the process.
    """

    async def gateway_error(request: Request, error: GatewayError) -> JSONResponse:
        return error_answer(request, error, observer)

    async def no_route(request: Request, error: HTTPException) -> JSONResponse:
        answered = _routing_error(error)
        if callers is not None and isinstance(answered, MethodNotAllowed):
            try:
                await callers(request)
            except GatewayError as refusal:
                answered = refusal
        return error_answer(request, answered, observer)

    return {GatewayError: gateway_error, HTTPException: no_route}


class RequestBoundary:
    """Names each request, refuses an ambiguous one, and turns a defect into a 500 that tells nothing."""

    def __init__(self, app: ASGIApp, observer: RequestObserver) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _new_request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        began, status = time.perf_counter(), 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", []), (REQUEST_ID_HEADER, request_id.encode())]
                message = {**message, "headers": headers}
            await send(message)

        try:
            refuse_ambiguous(scope)
            await self._app(scope, receive, send_named)
        except GatewayError as error:  # whatever endpoints raise is answered further inside
            await error_answer(Request(scope), error, self._observer)(scope, receive, send_named)
        except Exception as error:
            self._observer.crashed(error, request_id)
            if status == 0:
                await JSONResponse(internal_error().to_wire(request_id), 500)(scope, receive, send_named)
        duration_ms = 1000 * (time.perf_counter() - began)
        self._observer.served(scope["method"], _route(scope), status, duration_ms, request_id)


def request_id_of(scope: Mapping[str, Any]) -> str:
    """The id that RequestBoundary gave the request."""
    return str(scope["state"]["request_id"])


def error_event(error: GatewayError, request_id: str | None) -> dict[str, Any]:
    """An error as a proxy answer to API Gateway, for when the application was never reached."""
    return {
        "statusCode": error.status,
        "headers": {"content-type": "application/json"},
        "body": json.dumps(error.to_wire(request_id)),
        "isBase64Encoded": False,
    }


def _route(scope: Scope) -> str:
    """The path as the route is written, not as the caller filled it in."""
    route = scope.get("route")
    return str(getattr(route, "path", "unknown"))


def _new_request_id(scope: Scope) -> str:
    """API Gateway's id, which its access log and the caller's headers show too, or a fresh one."""
    event = scope.get("aws.event") or {}
    given = (event.get("requestContext") or {}).get("requestId")
    return str(given) if given else uuid.uuid4().hex


def error_headers(error: GatewayError) -> dict[str, str]:
    """The headers that go with an error: what else is allowed, or when to come back."""
    if isinstance(error, MethodNotAllowed):
        return {"allow": error.allow}
    return {} if error.retry_after_s is None else {"retry-after": str(max(1, round(error.retry_after_s)))}


def _routing_error(error: HTTPException) -> GatewayError:
    match error.status_code:
        case 404:
            return RouteNotFound("There is no such endpoint; see docs/api.md for the list.")
        case 405:
            return MethodNotAllowed((error.headers or {}).get("Allow", ""))
    return InvalidRequest("The request cannot be read.")
