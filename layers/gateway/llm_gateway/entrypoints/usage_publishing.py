"""The usage table's stream: ledger items on their way to those who want to hear of each call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from llm_gateway.adapters.aws.ledger import record_of
from llm_gateway.entrypoints.usage_stream import StreamObserver, new_ledger_items
from llm_gateway.usage.record import UsageRecord


class UsageBus(Protocol):
    """Where calls are told."""

    async def publish(self, records: Sequence[UsageRecord]) -> set[str]:
        """Tell calls, in order; returns the ids of those that were not taken, or not known to be."""
        ...


async def publish(event: Mapping[str, Any], bus: UsageBus, observer: StreamObserver) -> dict[str, Any]:
    """Tell the bus of every new ledger item of the batch.

    The first that it did not take is reported as failed: Lambda comes again with that one and all after
    it. An item that cannot be read holds up nothing; `roll_up` has reported it already.
    """
    numbers: dict[str, str] = {}
    records: list[UsageRecord] = []
    unreadable = 0
    for sequence_number, image in new_ledger_items(event):
        try:
            record = record_of(image)
        except ValueError:
            unreadable += 1
            continue
        numbers[record.call_id] = sequence_number
        records.append(record)
    missing = await bus.publish(records)
    published = len(records) - len(missing)
    observer.note("usage published", calls=len(records), published=published, unreadable=unreadable)
    observer.count({"CallsPublished": published, "CallsNotPublished": len(missing)})
    failed = [numbers[record.call_id] for record in records if record.call_id in missing]
    return {"batchItemFailures": [{"itemIdentifier": number} for number in failed[:1]]}
