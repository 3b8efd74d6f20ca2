"""How many calls each key made in this minute of the clock, in one process' memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from llm_gateway.access.caller import Caller
from llm_gateway.access.errors import CallRateExceeded


class InMemoryCallRates:
    """See CallRates.

    Args:
        now: Aware UTC.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._minute = ""
        self._calls: Counter[str | None] = Counter()

    async def take(self, caller: Caller) -> None:
        """See CallRates.take."""
        most, now = caller.scopes.calls_per_minute, self._now()
        if most is None:
            return
        minute = f"{now:%Y-%m-%dT%H:%M}"
        if minute != self._minute:
            self._minute, self._calls = minute, Counter()
        if self._calls[caller.key_id] >= most:
            raise CallRateExceeded(most, now)
        self._calls[caller.key_id] += 1
