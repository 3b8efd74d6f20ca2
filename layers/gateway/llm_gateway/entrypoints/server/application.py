"""The HTTP API as a process of its own serves it: with a bound on calls, and its metrics."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, FastAPI, Response

from llm_gateway.access.caller import Caller
from llm_gateway.api.calls import CallRequest, CallResponse
from llm_gateway.call_limit import CallLimit
from llm_gateway.deadline import Deadline
from llm_gateway.entrypoints.http.complete import complete_app
from llm_gateway.errors import Overloaded
from llm_gateway.idempotency import CallsPrompts
from llm_gateway.local_parts import LocalParts
from llm_gateway.prometheus import CONTENT_TYPE, PrometheusMetrics


class LimitedCalls:
    """Answers so many calls at once and no more; see CallsPrompts.

    Args:
        calls: Answers them.
        limit: The places there are.
    """

    def __init__(self, calls: CallsPrompts, limit: CallLimit) -> None:
        self._calls = calls
        self._limit = limit

    async def call_prompt(
        self, request: CallRequest, request_id: str, time_left: Deadline, caller: Caller
    ) -> CallResponse:
        """Answer a call.

        Raises:
            Overloaded: There is no place left, or the call was cut off because the process ends.
            GatewayError: As Gateway.call_prompt.
        """
        with self._limit.place():
            try:
                return await self._calls.call_prompt(request, request_id, time_left, caller)
            except asyncio.CancelledError:
                if not self._limit.closed:
                    raise
                raise Overloaded(
                    "The call was cut off as this process of the gateway ends; it may have been paid for."
                ) from None


def application(parts: LocalParts) -> FastAPI:
    """The complete HTTP API."""
    app = complete_app(parts, LimitedCalls(parts.guarded_calls, parts.call_limit))
    if parts.settings.metrics_endpoint:
        app.include_router(_metrics_router(parts.metrics))
    return app


def _metrics_router(metrics: PrometheusMetrics) -> APIRouter:
    routes = APIRouter()

    @routes.get("/metrics", include_in_schema=False)
    async def show_metrics() -> Response:
        return Response(metrics.text(), headers={"content-type": CONTENT_TYPE})

    return routes
