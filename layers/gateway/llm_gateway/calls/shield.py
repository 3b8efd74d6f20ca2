"""Finishes work even if the caller disconnects."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, whole, even if whoever waits for it is cancelled meanwhile; the cancellation comes after it.

    For what has to be written down once it happened: short, and bounded in time by itself.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    finally:
        if not task.done():
            await asyncio.wait([task])
