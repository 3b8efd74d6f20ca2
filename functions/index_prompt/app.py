"""Keeps the prompt index equal to the bucket; invoked by S3's events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_gateway.bootstrap import Parts
from llm_gateway.entrypoints.event_loop import run
from llm_gateway.entrypoints.s3_events import index_uploads

parts = Parts.from_env("index_prompt")
indexer = parts.indexer


@parts.telemetry.logger.inject_lambda_context(clear_state=True)
def handler(event: Mapping[str, Any], _context: Any) -> dict[str, Any]:
    """Index the files that the event names; raising makes Lambda deliver it again."""
    return dict(run(index_uploads(event, indexer, parts.telemetry)))
