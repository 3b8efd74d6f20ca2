"""How many calls a process answers at once: one more is refused at once, instead of all being slow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llm_gateway.errors import Overloaded

_RETRY_AFTER_S = 1.0


class CallLimit:
    """Places for calls; the entrances of a process share one, in one event loop.

    Args:
        most: How many there are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0
        self._closed = False

    def close(self) -> None:
        """Refuse all further calls: the process is about to end."""
        self._closed = True

    async def check_open(self) -> None:
        """Raise Overloaded once no further call is taken."""
        if self._closed:
            raise _closing()

    @property
    def closed(self) -> bool:
        """True once no further call is taken."""
        return self._closed

    @property
    def taken(self) -> int:
        """Calls under way."""
        return self._taken

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for one call; nobody queues, as whoever waits unseen cannot be told when to come back.

        Raises:
            Overloaded: All are taken, or the process is about to end.
        """
        if self._closed:
            raise _closing()
        if self._taken >= self._most:
            raise Overloaded(
                "The gateway answers as many calls as it can; come back in a moment.",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


def _closing() -> Overloaded:
    return Overloaded(
        "This process of the gateway is about to end; try again, another one answers.",
        retry_after_s=_RETRY_AFTER_S,
    )
