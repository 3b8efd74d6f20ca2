"""Writes records to the ledger that it did not take at first; invoked by their queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_gateway.entrypoints.aws_lambda.function import LambdaHandler, loaded

if TYPE_CHECKING:
    from llm_gateway.bootstrap.services import Parts


def build(parts: Parts) -> LambdaHandler:
    """Drains batches."""
    from llm_gateway.entrypoints.aws_lambda.event_loop import run
    from llm_gateway.entrypoints.aws_lambda.usage_queue import drain

    ledger = parts.usage_table

    def handle(event: Any, _context: Any) -> dict[str, Any]:
        return run(drain(event, ledger, parts.telemetry))

    return handle


parts, handler = loaded("drain_usage", build)
