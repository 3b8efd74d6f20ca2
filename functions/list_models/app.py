"""ListModels: GET /v1/models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_gateway.bootstrap import Parts
from llm_gateway.entrypoints.api_gateway import http_handler
from llm_gateway.entrypoints.http import models
from llm_gateway.entrypoints.http.app import create_app

parts = Parts.from_env("list_models")
routes = models.router(parts.model_catalogue, parts.settings.default_model)
answer_http = http_handler(create_app(routes, observer=parts.telemetry), parts.telemetry)


@parts.telemetry.logger.inject_lambda_context(clear_state=True)
def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Answer one request."""
    return answer_http(event, context)
