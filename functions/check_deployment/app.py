"""Calls a new version of call_prompt before it gets traffic; invoked by CodeDeploy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_gateway.entrypoints.aws_lambda.function import LambdaHandler, loaded

if TYPE_CHECKING:
    from llm_gateway.bootstrap.services import Parts


def build(parts: Parts) -> LambdaHandler:
    """Checks deployments."""
    from llm_gateway.entrypoints.aws_lambda.deployment_check import check_deployment
    from llm_gateway.entrypoints.aws_lambda.event_loop import run

    request, checked = parts.deployment_check, parts.checked_version

    def handle(event: Any, _context: Any) -> dict[str, Any]:
        return run(check_deployment(event, request, checked.invoke, checked.report, parts.telemetry))

    return handle


parts, handler = loaded("check_deployment", build)
