"""GET /health and GET /health/ready."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from fastapi import APIRouter, Response

from llm_gateway import __version__
from llm_gateway.errors import GatewayError
from llm_gateway.wire.answers import Health, Readiness

Check = Callable[[], Awaitable[object]]
_CHECK_TIMEOUT_S = 2.0


def router(checks: Mapping[str, Check]) -> APIRouter:
    """The endpoints.

    Args:
        checks: By name of a dependency, something that fails if it cannot be used.
    """
    routes = APIRouter()

    @routes.get("/health", operation_id="Health")
    async def health() -> Health:
        """Tell that the process runs; asks nothing of anyone."""
        return Health(status="ok", version=__version__)

    @routes.get("/health/ready", operation_id="Readiness", responses={503: {"model": Readiness}})
    async def ready(response: Response) -> Readiness:
        """Tell whether every dependency answers; 503 if one does not."""
        results = await asyncio.gather(*(_result(check) for check in checks.values()))
        healthy = all(result == "ok" for result in results)
        response.status_code = 200 if healthy else 503
        return Readiness(
            status="ready" if healthy else "not_ready", checks=dict(zip(checks, results, strict=True))
        )

    return routes


async def _result(check: Check) -> Literal["ok", "failed"]:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            await check()
    except (GatewayError, TimeoutError):
        return "failed"
    return "ok"
