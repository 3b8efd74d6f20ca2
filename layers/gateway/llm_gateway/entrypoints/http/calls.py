"""POST /v1/call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llm_gateway.api.calls import IDEMPOTENCY_KEY, CallRequest
from llm_gateway.bootstrap.settings import Settings
from llm_gateway.calls.idempotency import CallsPrompts
from llm_gateway.deadline import Deadline
from llm_gateway.entrypoints.aws_lambda.invoke import lambda_time_left
from llm_gateway.entrypoints.http.boundary import (
    RequestBoundary,
    RequestObserver,
    exception_handlers,
    request_id_of,
)
from llm_gateway.entrypoints.http.callers import RequestCallers
from llm_gateway.entrypoints.http.json_body import read_body
from llm_gateway.errors import InvalidParameter, RequestTimedOut
from llm_gateway.models.options import TIMEOUT_RANGE_S
from llm_gateway.validation import decode_json, validated
from llm_gateway.workers import INLINE, LIGHT_BYTES, Workers

PATH = "/v1/call"
_KEY_FIELD = "idempotency_key"
_REPLAYED: dict[str, Any] = {
    "Idempotent-Replayed": {
        "description": "`true` if this is an earlier answer again.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}
OPERATION: dict[str, Any] = {
    "responses": {
        "200": {
            "description": "The model's answer.",
            "headers": _REPLAYED,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CallResponse"}}},
        }
    },
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "The same key with the same request gives the first answer again, at no cost.",
            "schema": {"type": "string", "pattern": IDEMPOTENCY_KEY},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CallRequest"}}},
    },
}


Endpoint = Callable[[Request], Awaitable[Response]]


def endpoint(
    calls: CallsPrompts, callers: RequestCallers, settings: Settings, workers: Workers = INLINE
) -> Endpoint:
    """The endpoint; `workers` read bodies that are large."""

    async def call_prompt(request: Request) -> Response:
        """Render a stored prompt with the given variables and answer with the model's text."""
        time_left = _time_left(request.scope.get("aws.context"), settings)
        caller = await callers(request)
        body = await read_body(request, settings.max_body_bytes)

        def read() -> CallRequest:
            return validated(
                CallRequest, _with_key(decode_json(body), request.headers.get("idempotency-key"))
            )

        first = read if len(body) <= LIGHT_BYTES else None
        # Before it is read a call cannot say how long it may take: at least as long as any call may.
        shortest = time_left.sooner(TIMEOUT_RANGE_S[0])
        call = await workers.run(read, shortest, owner=caller.service or "", first=first)
        _check_in_time(call, time_left)
        answer = await calls.call_prompt(call, request_id_of(request.scope), time_left, caller)
        headers = {"idempotent-replayed": "true"} if answer.replayed else None
        return Response(answer.model_dump_json(), media_type="application/json", headers=headers)

    return call_prompt


def call_app(
    calls: CallsPrompts, callers: RequestCallers, settings: Settings, observer: RequestObserver
) -> Starlette:
    """An application of this endpoint alone, which needs no more than Starlette."""
    app = Starlette(
        routes=[Route(PATH, endpoint(calls, callers, settings), methods=["POST"])],
        exception_handlers=exception_handlers(observer),
        middleware=[Middleware(RequestBoundary, observer=observer)],
    )
    app.router.redirect_slashes = False
    return app


def _with_key(body: Mapping[str, Any], header: str | None) -> Mapping[str, Any]:
    if header is None:
        return body
    if body.get(_KEY_FIELD) not in (None, header):
        raise InvalidParameter(
            "The header 'Idempotency-Key' and the field differ; give one of them.", param=_KEY_FIELD
        )
    return {**body, _KEY_FIELD: header}


def _check_in_time(call: CallRequest, time_left: Deadline) -> None:
    """The call's own time counts from its first byte, so a slow body uses it up."""
    if call.timeout_s is not None and not time_left.sooner(call.timeout_s).remaining_s():
        raise RequestTimedOut("The body took longer to arrive than 'timeout_s' allows.", param="timeout_s")


def _time_left(context: Any, settings: Settings) -> Deadline:
    """Over HTTP nobody hears an answer that comes after the API in front has given up."""
    reserve_s = settings.deadline_reserve_s
    deadline = Deadline.after(TIMEOUT_RANGE_S[1]) if context is None else lambda_time_left(context, reserve_s)
    if settings.api_timeout_ms is None:
        return deadline
    return deadline.sooner(settings.api_timeout_ms / 1000 - reserve_s)
