"""The HTTP API as a process of its own serves it: with a bound on calls, and its metrics."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Response

from llm_gateway.bootstrap.local import LocalParts
from llm_gateway.calls.admission import LimitedCalls
from llm_gateway.entrypoints.http.complete import complete_app
from llm_gateway.telemetry.prometheus import CONTENT_TYPE, PrometheusMetrics


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
