"""ListPrompts: GET /v1/prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gateway.entrypoints.aws_lambda.function import LambdaHandler, loaded

if TYPE_CHECKING:
    from llm_gateway.bootstrap.services import Parts


def build(parts: Parts) -> LambdaHandler:
    """Answers requests."""
    from llm_gateway.entrypoints.aws_lambda.callers import EventCallers
    from llm_gateway.entrypoints.aws_lambda.http import http_handler
    from llm_gateway.entrypoints.http import prompts
    from llm_gateway.entrypoints.http.app import create_app

    routes = prompts.list_router(parts.prompt_index, EventCallers(parts.settings.access))
    return http_handler(create_app(routes, observer=parts.telemetry), parts.telemetry)


parts, handler = loaded("list_prompts", build)
