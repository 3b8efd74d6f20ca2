"""Counts ledger items into rollups; invoked by the usage table's stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_gateway.entrypoints.aws_lambda.function import LambdaHandler, loaded

if TYPE_CHECKING:
    from llm_gateway.bootstrap.services import Parts


def build(parts: Parts) -> LambdaHandler:
    """Counts batches; raising makes Lambda deliver one again."""
    from llm_gateway.entrypoints.aws_lambda.event_loop import run
    from llm_gateway.entrypoints.aws_lambda.usage_stream import roll_up

    rollups = parts.rollups

    def handle(event: Any, _context: Any) -> dict[str, Any]:
        return run(roll_up(event, rollups, parts.telemetry))

    return handle


parts, handler = loaded("roll_up_usage", build)
