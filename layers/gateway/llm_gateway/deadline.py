"""One deadline per call, shared by rendering, attempts, backoff and accounting."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

MonotonicClock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment by which a call has ended.

    Attributes:
        started: Start of the call, seconds on `clock`.
        expires: End of the call, seconds on `clock`.
        clock: A monotonic clock; tests pass their own.
    """

    started: float
    expires: float
    clock: MonotonicClock = field(default=time.monotonic, repr=False, compare=False)

    @classmethod
    def after(cls, seconds: float, clock: MonotonicClock = time.monotonic) -> Deadline:
        """A deadline `seconds` from now."""
        now = clock()
        return cls(started=now, expires=now + seconds, clock=clock)

    def sooner(self, seconds_from_start: float) -> Deadline:
        """The same call, ending at most `seconds_from_start` after it began."""
        expires = min(self.expires, self.started + seconds_from_start)
        return Deadline(started=self.started, expires=expires, clock=self.clock)

    def remaining_s(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.expires - self.clock())

    def elapsed_s(self) -> float:
        """Seconds since the call began."""
        return self.clock() - self.started
