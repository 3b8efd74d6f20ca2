"""GET /v1/usage."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from llm_gateway.access.caller import Caller
from llm_gateway.api.usage import UsageQuery, UsageStats, usage_stats
from llm_gateway.entrypoints.http.callers import RequestCallers, permitted
from llm_gateway.usage.rollups import RollupStore


def router(rollups: RollupStore, callers: RequestCallers) -> APIRouter:
    """The endpoint."""
    routes = APIRouter()
    known = Depends(permitted(callers, "GetUsageStats"))

    @routes.get("/v1/usage", operation_id="GetUsageStats")
    async def get_usage_stats(query: Annotated[UsageQuery, Query()], caller: Caller = known) -> UsageStats:
        """Sum calls, tokens, cost and errors by time and by whatever tells calls apart."""
        return await usage_stats(rollups, query, caller)

    return routes
