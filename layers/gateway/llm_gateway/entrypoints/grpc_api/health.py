"""The standard health service, whose watchers do not keep a server from stopping."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc_health.v1 import health, health_pb2
from typing_extensions import override

NAME = health.SERVICE_NAME
_STATES = health_pb2.HealthCheckResponse


class HealthService(health.aio.HealthServicer):
    """Tells of the server as a whole and of one service.

    Args:
        service: Full name of the service.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._names = ("", service)
        self._watches: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self._states: dict[str, Any] = dict.fromkeys(self._names, _STATES.SERVING)

    async def set_serving(self, serving: bool) -> None:
        """Tell whether calls are welcome, those who watch as well."""
        for name in self._names:
            self._states[name] = _STATES.SERVING if serving else _STATES.NOT_SERVING
            await self.set(name, self._states[name])
        self._changed.set()
        self._changed = asyncio.Event()

    def end_watches(self) -> None:
        """Say goodbye to those who watch; they would stay for ever."""
        for watch in self._watches:
            watch.cancel()

    @override
    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        watch = asyncio.create_task(self._watched(request.service, context))
        self._watches.add(watch)
        try:
            await asyncio.wait([watch])
        finally:
            watch.cancel()
            self._watches.discard(watch)

    async def _watched(self, service: str, context: Any) -> None:
        """Tell of each state; unlike the library's own, one that does not read keeps no other from it."""
        last = None
        while True:
            changed = self._changed
            state = self._states.get(service, _STATES.SERVICE_UNKNOWN)
            if state != last:
                await context.write(health_pb2.HealthCheckResponse(status=state))
                last = state
            await changed.wait()
