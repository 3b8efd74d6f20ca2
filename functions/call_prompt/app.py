"""CallPrompt: POST /v1/call, and Lambda invokes with the same JSON and no envelope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_gateway.bootstrap import Parts
from llm_gateway.entrypoints.api_gateway import http_handler, is_http
from llm_gateway.entrypoints.direct_invoke import answer_invoke
from llm_gateway.entrypoints.event_loop import run
from llm_gateway.entrypoints.http import calls
from llm_gateway.entrypoints.http.app import create_app

parts = Parts.from_env("call_prompt")
telemetry = parts.telemetry
routes = calls.router(parts.calls, parts.settings)
answer_http = http_handler(create_app(routes, observer=telemetry), telemetry)


@telemetry.logger.inject_lambda_context(clear_state=True)
def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Answer one call."""
    if is_http(event):
        return answer_http(event, context)
    reserve_s = parts.settings.deadline_reserve_s
    return run(answer_invoke(parts.calls, event, context, observer=telemetry, reserve_s=reserve_s))
