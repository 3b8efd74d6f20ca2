"""Tells an EventBridge bus of each call; invoked by the usage table's stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_gateway.entrypoints.aws_lambda.function import LambdaHandler, loaded

if TYPE_CHECKING:
    from llm_gateway.bootstrap.services import Parts


def build(parts: Parts) -> LambdaHandler:
    """Publishes batches; what the bus does not take is reported, and delivered again."""
    from llm_gateway.entrypoints.aws_lambda.event_loop import run
    from llm_gateway.entrypoints.aws_lambda.usage_stream import publish

    bus = parts.usage_bus

    def handle(event: Any, _context: Any) -> dict[str, Any]:
        return run(publish(event, bus, parts.telemetry))

    return handle


parts, handler = loaded("publish_usage", build)
