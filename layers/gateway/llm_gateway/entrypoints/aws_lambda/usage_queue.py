"""The queue of records that the ledger did not take, on their way into it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from llm_gateway.adapters.aws.usage_queue import from_message
from llm_gateway.errors import StoreUnavailable
from llm_gateway.usage.ledger import UsageLedger


class DrainObserver(Protocol):
    """Told what became of a batch."""

    def note(self, message: str, **facts: Any) -> None:
        """Something an operator may want to know."""
        ...

    def count(self, counts: dict[str, float | None]) -> None:
        """Add to metrics."""
        ...


async def drain(event: Mapping[str, Any], ledger: UsageLedger, observer: DrainObserver) -> dict[str, Any]:
    """Write each record of a batch to the ledger; those that did not get there come back.

    A record that is on the ledger already changes nothing there, so a message may come any number of
    times. One that cannot be read goes to the dead letters in the end.
    """
    messages = event["Records"]
    done = await asyncio.gather(*(_drained(message, ledger) for message in messages))
    failed = [message["messageId"] for message, ok in zip(messages, done, strict=True) if not ok]
    observer.note("usage drained", records=len(messages) - len(failed), failed=len(failed))
    observer.count({"UsageDrained": len(messages) - len(failed)})
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


async def _drained(message: Mapping[str, Any], ledger: UsageLedger) -> bool:
    try:
        await ledger.record(from_message(str(message["body"])))
    except (ValueError, StoreUnavailable):
        return False
    return True
