"""GET /v1/usage."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from llm_gateway.entrypoints.usage_queries import UsageQuery, usage_stats
from llm_gateway.rollup import RollupStore
from llm_gateway.wire.usage import UsageStats


def router(rollups: RollupStore) -> APIRouter:
    """The endpoint."""
    routes = APIRouter()

    @routes.get("/v1/usage", operation_id="GetUsageStats")
    async def get_usage_stats(query: Annotated[UsageQuery, Query()]) -> UsageStats:
        """Sum calls, tokens, cost and errors by time and by whatever tells calls apart."""
        return await usage_stats(rollups, query)

    return routes
