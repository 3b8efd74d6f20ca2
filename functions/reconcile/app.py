"""Repairs the prompt index from the bucket; invoked by a schedule and after a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_gateway.bootstrap import Parts
from llm_gateway.entrypoints.event_loop import run
from llm_gateway.entrypoints.s3_events import repair_index

parts = Parts.from_env("reconcile")
indexer = parts.indexer


@parts.telemetry.logger.inject_lambda_context(clear_state=True)
def handler(_event: Mapping[str, Any], _context: Any) -> dict[str, Any]:
    """Compare and repair."""
    return dict(run(repair_index(indexer, parts.telemetry)))
