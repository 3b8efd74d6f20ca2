"""One event loop for the life of a Lambda environment, so that connections outlive an invocation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def event_loop() -> asyncio.AbstractEventLoop:
    """The loop, made the current one, which is what Mangum takes."""
    loop = _loop()
    asyncio.set_event_loop(loop)
    return loop


def forget_loop() -> None:
    """Let the next run have a loop of its own; what hangs on the old one is lost."""
    _loop.cache_clear()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end."""
    return event_loop().run_until_complete(work)
