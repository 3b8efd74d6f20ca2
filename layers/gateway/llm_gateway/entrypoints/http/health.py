"""GET /health and GET /health/ready: both without a key, and silent about what is behind the gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from fastapi import APIRouter, Response

from llm_gateway import __version__
from llm_gateway.api.health import Health, Readiness
from llm_gateway.errors import GatewayError

Check = Callable[[], Awaitable[object]]
_CHECK_TIMEOUT_S = 2.0
_TRUSTED_S = 1.0  # so that requests without a key do not reach the stores each time


class ReadinessObserver(Protocol):
    """Is told which dependencies fail, as the answer does not say."""

    def readiness_changed(self, failed: Sequence[str]) -> None:
        """Other checks fail than before; none is good news."""
        ...


class Dependencies:
    """What calls need, checked at most once a second.

    Args:
        checks: By name of a dependency, something that fails if it cannot be used.
        observer: Hears of changes.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        observer: ReadinessObserver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checks = checks
        self._observer = observer
        self._clock = clock
        self._failed: tuple[str, ...] = ()
        self._checked_at: float | None = None
        self._asking = asyncio.Lock()

    async def ready(self) -> bool:
        """True if all of them answer, or did a moment ago."""
        async with self._asking:
            if self._checked_at is None or self._clock() - self._checked_at >= _TRUSTED_S:
                results = await asyncio.gather(*(_passes(check) for check in self._checks.values()))
                self._note(tuple(name for name, ok in zip(self._checks, results, strict=True) if not ok))
        return not self._failed

    def _note(self, failed: tuple[str, ...]) -> None:
        self._checked_at = self._clock()
        if failed != self._failed:
            self._failed = failed
            self._observer.readiness_changed(failed)


def router(checks: Mapping[str, Check], observer: ReadinessObserver) -> APIRouter:
    """The endpoints.

    Args:
        checks: By name of a dependency, something that fails if it cannot be used.
        observer: Hears which of them fail.
    """
    routes = APIRouter()
    dependencies = Dependencies(checks, observer)

    @routes.get("/health", operation_id="Health")
    async def health() -> Health:
        """Tell that the process runs; asks nothing of anyone."""
        return Health(status="ok", version=__version__)

    @routes.get("/health/ready", operation_id="Readiness", responses={503: {"model": Readiness}})
    async def ready(response: Response) -> Readiness:
        """Tell whether calls can be served; 503 if not. Which dependency fails is in the log."""
        healthy = await dependencies.ready()
        response.status_code = 200 if healthy else 503
        return Readiness(status="ready" if healthy else "not_ready")

    return routes


async def _passes(check: Check) -> bool:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S):
            await check()
    except (GatewayError, TimeoutError):
        return False
    return True
