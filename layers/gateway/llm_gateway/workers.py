"""Where work is done that would keep others waiting: rendering, schemas, decoding of what is large.

In Lambda a process has one call at a time, and work is done where it stands. A process that answers many
calls in one event loop does it elsewhere, so that the loop stays free; see adapters/local/worker_threads.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from llm_gateway.deadline import Deadline

LIGHT_BYTES = 16_384
"""A document up to this size is read at once: a few milliseconds at most."""

LIGHT_VALUES = 2_000
"""Values of a request that are walked through at once: a few milliseconds at most."""

PROMPTS = "prompt files"
"""Owner of the work that reading prompt files takes, which belongs to no single caller."""

PARSING_S = 60.0
"""Longest wait for that work, in seconds; a call that waits for it gives up sooner."""

T = TypeVar("T")


class NotQuick(Exception):
    """An attempt to do a piece of work at once was given up: it takes more than a moment."""


class Workers(Protocol):
    """Does pieces of work that never await."""

    async def run(
        self,
        work: Callable[[], T],
        deadline: Deadline,
        *,
        owner: str = "",
        first: Callable[[], T] | None = None,
        paid: bool = False,
    ) -> T:
        """What `work` returns, or raises.

        Args:
            work: The whole piece; it bounds its own time, as it cannot be interrupted.
            deadline: When the call that needs it is over.
            owner: Whose it is; no owner keeps the work of the others waiting.
            first: The same piece tried at once where that is worth while; raises NotQuick if it is too large.
            paid: True if a model was paid before: then it is not refused, however much work waits.

        Raises:
            ProviderTimeout: The deadline passed before the work was done.
            Overloaded: Too much work waits.
        """
        ...


class InlineWorkers:
    """Does all work at once, in the caller's own thread; see Workers."""

    async def run(
        self,
        work: Callable[[], T],
        deadline: Deadline,  # noqa: ARG002 (the work bounds itself)
        *,
        owner: str = "",  # noqa: ARG002
        first: Callable[[], T] | None = None,  # noqa: ARG002 (once is enough here)
        paid: bool = False,  # noqa: ARG002
    ) -> T:
        """Do it."""
        return work()


INLINE = InlineWorkers()
"""For a process that has one call at a time."""
