"""The port that stores usage records, and a ledger that falls back to a second one.

Knows no store.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from llm_gateway.errors import StoreUnavailable
from llm_gateway.usage.record import UsageRecord


class UsageLedger(Protocol):
    """Where records are kept."""

    async def record(self, record: UsageRecord) -> None:
        """Keep a record; a second one with the same call id changes nothing.

        Raises:
            StoreUnavailable: The record is not kept.
        """
        ...


class LedgerObserver(Protocol):
    """Told when the ledger itself did not take a record."""

    def ledger_refused(self, record: UsageRecord, error: StoreUnavailable | TimeoutError) -> None:
        """The record went to the spare."""
        ...


class LedgerWithSpare:
    """A ledger that keeps a record elsewhere when it cannot be written; see UsageLedger.

    Args:
        ledger: Asked first.
        spare: Asked if the ledger refuses or is too slow; what it keeps is drained into the ledger later.
        observer: Hears of that.
        patience_s: Longest wait for the ledger, seconds.
    """

    def __init__(
        self, ledger: UsageLedger, spare: UsageLedger, observer: LedgerObserver, patience_s: float = 0.25
    ) -> None:
        self._ledger = ledger
        self._spare = spare
        self._observer = observer
        self._patience_s = patience_s

    async def record(self, record: UsageRecord) -> None:
        """See UsageLedger.record."""
        try:
            async with asyncio.timeout(self._patience_s):
                await self._ledger.record(record)
        except (StoreUnavailable, TimeoutError) as refusal:
            await self._spare.record(record)
            self._observer.ledger_refused(record, refusal)
