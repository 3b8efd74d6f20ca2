"""Repairs the prompt index from the bucket; invoked by a schedule and after a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_gateway.entrypoints.aws_lambda.function import LambdaHandler, loaded

if TYPE_CHECKING:
    from llm_gateway.bootstrap.services import Parts


def build(parts: Parts) -> LambdaHandler:
    """Compares and repairs."""
    from llm_gateway.entrypoints.aws_lambda.event_loop import run
    from llm_gateway.entrypoints.aws_lambda.prompt_events import repair_index

    indexer = parts.indexer

    def handle(_event: Any, _context: Any) -> dict[str, Any]:
        return dict(run(repair_index(indexer, parts.telemetry)))

    return handle


parts, handler = loaded("reconcile", build)
