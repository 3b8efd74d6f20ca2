"""Keeps the prompt index equal to the bucket; invoked by S3's events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_gateway.entrypoints.aws_lambda.function import LambdaHandler, loaded

if TYPE_CHECKING:
    from llm_gateway.bootstrap.services import Parts


def build(parts: Parts) -> LambdaHandler:
    """Indexes the files that an event names; raising makes Lambda deliver it again."""
    from llm_gateway.entrypoints.aws_lambda.event_loop import run
    from llm_gateway.entrypoints.aws_lambda.prompt_events import index_uploads

    indexer = parts.indexer

    def handle(event: Any, _context: Any) -> dict[str, Any]:
        return dict(run(index_uploads(event, indexer, parts.telemetry, parts.now)))

    return handle


parts, handler = loaded("index_prompt", build)
