"""Counts ledger items into rollups; invoked by the usage table's stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_gateway.bootstrap import Parts
from llm_gateway.entrypoints.event_loop import run
from llm_gateway.entrypoints.usage_stream import roll_up

parts = Parts.from_env("roll_up_usage")
rollups = parts.rollups


@parts.telemetry.logger.inject_lambda_context(clear_state=True)
def handler(event: Mapping[str, Any], _context: Any) -> dict[str, Any]:
    """Count a batch; raising makes Lambda deliver it again."""
    return run(roll_up(event, rollups, parts.telemetry))
