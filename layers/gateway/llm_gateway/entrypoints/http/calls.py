"""POST /v1/call."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from llm_gateway.deadline import Deadline
from llm_gateway.entrypoints.http.app import request_id_of
from llm_gateway.entrypoints.http.json_body import read_json
from llm_gateway.gateway import Gateway
from llm_gateway.models import TIMEOUT_RANGE_S
from llm_gateway.settings import Settings
from llm_gateway.validation import validated
from llm_gateway.wire import CallRequest, CallResponse

_REQUEST_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CallRequest"}}},
    }
}


def router(gateway: Gateway, settings: Settings) -> APIRouter:
    """The endpoint."""
    routes = APIRouter()

    @routes.post(
        "/v1/call", response_model=CallResponse, openapi_extra=_REQUEST_BODY, operation_id="CallPrompt"
    )
    async def call_prompt(request: Request) -> Response:
        """Render a stored prompt with the given variables and answer with the model's text."""
        time_left = _time_left(request.scope.get("aws.context"), settings)
        call = validated(CallRequest, await read_json(request, settings.max_body_bytes))
        answer = await gateway.call_prompt(call, request_id_of(request.scope), time_left)
        return Response(answer.model_dump_json(), media_type="application/json")

    return routes


def lambda_time_left(context: Any, reserve_s: float) -> Deadline:
    """The latest end of a call in Lambda: its own timeout, less a reserve for accounting and answer."""
    return Deadline.after(max(0.0, context.get_remaining_time_in_millis() / 1000 - reserve_s))


def _time_left(context: Any, settings: Settings) -> Deadline:
    """Over HTTP nobody hears an answer that comes after the API in front has given up."""
    reserve_s = settings.deadline_reserve_s
    deadline = Deadline.after(TIMEOUT_RANGE_S[1]) if context is None else lambda_time_left(context, reserve_s)
    if settings.api_timeout_ms is None:
        return deadline
    return deadline.sooner(settings.api_timeout_ms / 1000 - reserve_s)
