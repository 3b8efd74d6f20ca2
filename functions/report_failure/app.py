"""Tells callers who do not wait of invokes that failed; Lambda's failure destination of call_prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_gateway.entrypoints.aws_lambda.function import LambdaHandler, loaded

if TYPE_CHECKING:
    from llm_gateway.bootstrap.services import Parts


def build(parts: Parts) -> LambdaHandler:
    """Reports one failure after the other."""
    from llm_gateway.entrypoints.aws_lambda.event_loop import run
    from llm_gateway.entrypoints.aws_lambda.failures import report_failure

    failures = parts.queue("failure")

    def handle(event: Any, _context: Any) -> dict[str, Any]:
        run(report_failure(event, failures, parts.telemetry))
        return {}

    return handle


parts, handler = loaded("report_failure", build)
