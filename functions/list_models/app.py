"""ListModels: GET /v1/models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_gateway.entrypoints.aws_lambda.function import LambdaHandler, loaded

if TYPE_CHECKING:
    from llm_gateway.bootstrap.services import Parts


def build(parts: Parts) -> LambdaHandler:
    """Answers requests."""
    from llm_gateway.entrypoints.aws_lambda.callers import EventCallers
    from llm_gateway.entrypoints.aws_lambda.http import http_handler
    from llm_gateway.entrypoints.http import models
    from llm_gateway.entrypoints.http.app import create_app

    callers = EventCallers(parts.settings.access)
    routes = models.router(parts.model_catalogue, parts.settings.default_model, callers)
    return http_handler(create_app(routes, observer=parts.telemetry), parts.telemetry)


parts, handler = loaded("list_models", build)
