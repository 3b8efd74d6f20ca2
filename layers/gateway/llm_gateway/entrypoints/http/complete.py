"""Every endpoint in one application, and the OpenAPI document it is described by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from llm_gateway.entrypoints.http import calls, health, models, prompts, usage
from llm_gateway.entrypoints.http.app import create_app
from llm_gateway.entrypoints.http.callers import HeaderCallers, RequestCallers
from llm_gateway.wire.calls import CallRequest, CallResponse

if TYPE_CHECKING:
    from llm_gateway.bootstrap import Parts
    from llm_gateway.idempotency import CallsPrompts
    from llm_gateway.settings import Settings

_OPEN_PATHS = {"/health"}


def complete_app(parts: Parts, guarded: CallsPrompts | None = None) -> FastAPI:
    """The whole HTTP API.

    Args:
        parts: What it is made of.
        guarded: Answers calls in the place of those of `parts`.
    """
    callers = HeaderCallers(parts.callers)
    return create_app(
        _call_router(guarded or parts.guarded_calls, callers, parts.settings),
        models.router(parts.model_catalogue, parts.settings.default_model, callers),
        prompts.list_router(parts.prompt_index, callers),
        prompts.metadata_router(parts.prompt_index, callers),
        usage.router(parts.rollups, callers),
        health.router(parts.readiness),
        observer=parts.telemetry,
    )


def _call_router(guarded: CallsPrompts, callers: RequestCallers, settings: Settings) -> APIRouter:
    router = APIRouter()
    endpoint = calls.endpoint(guarded, callers, settings)
    extra = calls.OPERATION
    router.add_api_route(
        calls.PATH, endpoint, methods=["POST"], operation_id="CallPrompt", openapi_extra=extra
    )
    return router


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: FastAPI's, with the body it does not see and the errors as they are."""
    document = app.openapi()
    schemas: dict[str, Any] = document["components"]["schemas"]
    schemas |= {**_schema(CallRequest), **_schema(CallResponse, "serialization")}
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # bad input is a 400 of our own shape
            if path not in _OPEN_PATHS:
                operation["security"] = [{"GatewayKey": []}]
    document["components"]["securitySchemes"] = {
        "GatewayKey": {"type": "http", "scheme": "bearer", "bearerFormat": "lgw_<id>_<secret>"}
    }
    return document


def _schema(
    model: type[BaseModel], mode: Literal["validation", "serialization"] = "validation"
) -> dict[str, Any]:
    """A model and the models in it, by name."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode=mode)
    return {**schema.pop("$defs", {}), model.__name__: schema}
