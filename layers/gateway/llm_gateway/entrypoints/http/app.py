"""The ASGI application around the routers: request ids, error answers, nothing else."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_gateway import __version__
from llm_gateway.errors import (
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    RouteNotFound,
    internal_error,
)
from llm_gateway.validation import explained
from llm_gateway.wire import ErrorBody

REQUEST_ID_HEADER = b"x-request-id"
ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The request cannot be served as it stands."},
    "5XX": {"model": ErrorBody, "description": "The gateway or a provider failed."},
}


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


def create_app(*routers: APIRouter, observer: RequestObserver) -> FastAPI:
    """An application that serves `routers`."""
    app = FastAPI(
        title="LLM Gateway",
        version=__version__,
        description="Call stored prompts by name; every token is accounted for.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    for router in routers:
        app.include_router(router, responses=ERROR_RESPONSES)

    def answer(request: Request, error: GatewayError) -> JSONResponse:
        request_id = request_id_of(request.scope)
        observer.refused(error, request_id)
        return JSONResponse(error.to_wire(request_id), error.status, headers=_headers(error))

    @app.exception_handler(GatewayError)
    async def gateway_error(request: Request, error: GatewayError) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(RequestValidationError)
    async def bad_query(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(request, explained(list(error.errors())))

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> JSONResponse:
        return answer(request, _routing_error(error))

    app.add_middleware(RequestBoundary, observer=observer)
    return app


class RequestBoundary:
    """Names each request, and turns a defect into a plain 500 that tells nothing."""

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
            await self._app(scope, receive, send_named)
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


def _headers(error: GatewayError) -> dict[str, str]:
    return {} if error.retry_after_s is None else {"retry-after": str(max(1, round(error.retry_after_s)))}


def _routing_error(error: HTTPException) -> GatewayError:
    match error.status_code:
        case 404:
            return RouteNotFound("There is no such endpoint; see docs/api.md for the list.")
        case 405:
            return MethodNotAllowed("The endpoint does not take this method; see docs/api.md.")
    return InvalidRequest("The request cannot be read.")
