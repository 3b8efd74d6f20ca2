"""GetUsageStats: GET /v1/usage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gateway.entrypoints.aws_lambda.function import LambdaHandler, loaded

if TYPE_CHECKING:
    from llm_gateway.bootstrap.services import Parts


def build(parts: Parts) -> LambdaHandler:
    """Answers requests."""
    from llm_gateway.entrypoints.aws_lambda.callers import EventCallers
    from llm_gateway.entrypoints.aws_lambda.http import http_handler
    from llm_gateway.entrypoints.http import usage
    from llm_gateway.entrypoints.http.app import create_app

    routes = usage.router(parts.rollups, EventCallers(parts.settings.access))
    return http_handler(create_app(routes, observer=parts.telemetry), parts.telemetry)


parts, handler = loaded("get_usage_stats", build)
