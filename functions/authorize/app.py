"""Tells API Gateway who calls; invoked by it with each request whose key it does not remember."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_gateway.entrypoints.aws_lambda.function import LambdaHandler, loaded

if TYPE_CHECKING:
    from llm_gateway.bootstrap.services import Parts


def build(parts: Parts) -> LambdaHandler:
    """Answers with policies."""
    from llm_gateway.entrypoints.aws_lambda.authorizer import authorize
    from llm_gateway.entrypoints.aws_lambda.event_loop import run

    callers = parts.callers

    def handle(event: Any, _context: Any) -> dict[str, Any]:
        return run(authorize(event, callers, parts.telemetry))

    return handle


parts, handler = loaded("authorize", build)
