"""CallPrompt by Lambda invoke: the JSON of POST /v1/call in, the same JSON out, no envelope."""

from __future__ import annotations

from typing import Any

from llm_gateway.entrypoints.http.app import RequestObserver, internal_error
from llm_gateway.entrypoints.http.calls import lambda_time_left
from llm_gateway.errors import GatewayError
from llm_gateway.gateway import Gateway
from llm_gateway.validation import validated
from llm_gateway.wire import CallRequest


async def answer_invoke(
    gateway: Gateway, event: object, context: Any, *, observer: RequestObserver, reserve_s: float
) -> dict[str, Any]:
    """The answer, or the error in its usual shape; a caller looks for the key `error`."""
    request_id: str = context.aws_request_id
    try:
        request = validated(CallRequest, event)
        answer = await gateway.call_prompt(request, request_id, lambda_time_left(context, reserve_s))
        return answer.model_dump(mode="json")
    except GatewayError as error:
        observer.refused(error, request_id)
        return dict(error.to_wire(request_id))
    except Exception as error:
        observer.crashed(error, request_id)
        return dict(internal_error(request_id))
