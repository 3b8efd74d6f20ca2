"""Every endpoint in one application, and the OpenAPI document it is described by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel

from llm_gateway.access.caller import OPEN, Caller
from llm_gateway.api.calls import CallRequest, CallResponse
from llm_gateway.api.health import ErrorBody
from llm_gateway.entrypoints.http import calls, health, models, prompts, usage
from llm_gateway.entrypoints.http.app import create_app
from llm_gateway.entrypoints.http.callers import HeaderCallers, RequestCallers

if TYPE_CHECKING:
    from llm_gateway.bootstrap.services import Parts
    from llm_gateway.bootstrap.settings import Settings
    from llm_gateway.calls.idempotency import CallsPrompts
    from llm_gateway.workers import Workers

_OPEN_PATHS = {"/health", "/health/ready"}
_EVERYWHERE = (400, 429, 500, 504)
_KEYED = (401, 403, 503, *_EVERYWHERE)
_STATUSES: Mapping[str, Sequence[int]] = {
    "CallPrompt": (*_KEYED, 404, 408, 409, 413, 415, 422, 431, 502),
    "ListModels": _KEYED,
    "ListPrompts": _KEYED,
    "GetPromptMetadata": (*_KEYED, 404),
    "GetUsageStats": _KEYED,
    "Health": _EVERYWHERE,
    "Readiness": (503, *_EVERYWHERE),
}
_MEANINGS = {
    400: "The request cannot be served as it stands.",
    401: "Nobody knows who calls.",
    403: "The caller may not do this.",
    404: "There is no such prompt, version or label.",
    408: "The body did not arrive in time.",
    409: "The idempotency key is in use, or was used for another request.",
    413: "The body is too large.",
    415: "The body is not declared as plain JSON in UTF-8.",
    422: "The prompt is broken, or the vendor or the model refuses.",
    429: "Too many requests, or a budget is used up.",
    431: "The headers are too large.",
    500: "The gateway failed.",
    502: "The model's vendor failed.",
    503: "A store does not answer, or there is no place; try again.",
    504: "The time is up.",
}
_REQUEST_ID: dict[str, Any] = {
    "x-request-id": {"description": "Names the request, in the logs as well.", "schema": {"type": "string"}}
}
_RETRY_AFTER: dict[str, Any] = {
    "retry-after": {"description": "Seconds, where they are known.", "schema": {"type": "string"}}
}


def complete_app(parts: Parts, guarded: CallsPrompts | None = None) -> FastAPI:
    """The whole HTTP API.

    Args:
        parts: What it is made of.
        guarded: Answers calls in the place of those of `parts`.
    """
    callers = HeaderCallers(parts.callers)
    return create_app(
        _call_router(guarded or parts.guarded_calls, callers, parts.settings, parts.workers),
        models.router(parts.model_catalogue, parts.settings.default_model, callers),
        prompts.list_router(parts.prompt_index, callers),
        prompts.metadata_router(parts.prompt_index, callers),
        usage.router(parts.rollups, callers),
        health.router(parts.readiness, parts.telemetry),
        observer=parts.telemetry,
        callers=_ClosedPaths(callers),
    )


class _ClosedPaths:
    """Tells who sends a request, where that matters; see RequestCallers."""

    def __init__(self, callers: RequestCallers) -> None:
        self._callers = callers

    async def __call__(self, request: Request) -> Caller:
        return OPEN if request.url.path in _OPEN_PATHS else await self._callers(request)


def _call_router(
    guarded: CallsPrompts, callers: RequestCallers, settings: Settings, workers: Workers
) -> APIRouter:
    router = APIRouter()
    endpoint = calls.endpoint(guarded, callers, settings, workers)
    extra = calls.OPERATION
    router.add_api_route(
        calls.PATH, endpoint, methods=["POST"], operation_id="CallPrompt", openapi_extra=extra
    )
    return router


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: FastAPI's, with the body it does not see and the errors as they are."""
    document = app.openapi()
    schemas: dict[str, Any] = document["components"]["schemas"]
    schemas |= {**_schema(CallRequest), **_schema(CallResponse, "serialization"), **_schema(ErrorBody)}
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"] = _responses(operation)
            if path not in _OPEN_PATHS:
                operation["security"] = [{"GatewayKey": []}]
    document["components"]["securitySchemes"] = {
        "GatewayKey": {"type": "http", "scheme": "bearer", "bearerFormat": "lgw_<id>_<secret>"}
    }
    return document


def _responses(operation: Mapping[str, Any]) -> dict[str, Any]:
    """The answers of an operation: its own, and each status of an error, always of the one shape."""
    own = {status: answer for status, answer in operation["responses"].items() if status in ("200", "503")}
    errors = {str(status): _error(status) for status in sorted(_STATUSES[operation["operationId"]])}
    answers = {**errors, **own}
    return {
        status: {**answers[status], "headers": {**_REQUEST_ID, **answers[status].get("headers", {})}}
        for status in sorted(answers)
    }


def _error(status: int) -> dict[str, Any]:
    schema = {"schema": {"$ref": "#/components/schemas/ErrorBody"}}
    error: dict[str, Any] = {"description": _MEANINGS[status], "content": {"application/json": schema}}
    return {**error, "headers": _RETRY_AFTER} if status in (409, 429, 503) else error


def _schema(
    model: type[BaseModel], mode: Literal["validation", "serialization"] = "validation"
) -> dict[str, Any]:
    """A model and the models in it, by name."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode=mode)
    return {**schema.pop("$defs", {}), model.__name__: schema}
