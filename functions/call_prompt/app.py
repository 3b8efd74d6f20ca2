"""CallPrompt: POST /v1/call, and Lambda invokes with the same JSON and no envelope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_gateway.entrypoints.aws_lambda.function import LambdaHandler, loaded

if TYPE_CHECKING:
    from llm_gateway.bootstrap.services import Parts


def build(parts: Parts) -> LambdaHandler:
    """Answers calls, whichever way they come in."""
    from llm_gateway.entrypoints.aws_lambda.callers import EventCallers
    from llm_gateway.entrypoints.aws_lambda.event_loop import run
    from llm_gateway.entrypoints.aws_lambda.http import http_handler, is_http
    from llm_gateway.entrypoints.aws_lambda.invoke import answer_invoke
    from llm_gateway.entrypoints.http.calls import call_app

    telemetry, settings = parts.telemetry, parts.settings
    app = call_app(parts.guarded_calls, EventCallers(settings.access), settings, telemetry)
    answer_http, reserve_s = http_handler(app, telemetry), settings.deadline_reserve_s

    def handle(event: Any, context: Any) -> dict[str, Any]:
        if is_http(event):
            return answer_http(event, context)
        return run(answer_invoke(parts.calls, event, context, observer=telemetry, reserve_s=reserve_s))

    return handle


parts, handler = loaded("call_prompt", build)
