"""The usage table's stream: ledger items on their way to the rollups and to subscribers.

Lambda delivers a batch again from the first item that is reported as failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from llm_gateway.adapters.aws.ledger import LEDGER_PREFIX, record_of
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.rollups import RollupStore


class StreamObserver(Protocol):
    """Told what became of a batch."""

    def note(self, message: str, **facts: Any) -> None:
        """Something an operator may want to know."""
        ...

    def count(self, counts: dict[str, float | None]) -> None:
        """Add to metrics."""
        ...


async def roll_up(event: Mapping[str, Any], rollups: RollupStore, observer: StreamObserver) -> dict[str, Any]:
    """Count every new ledger item of the batch.

    An item that cannot be read is reported as failed, so that after its retries it goes to the
    failure queue; the others are counted all the same, and not again when the batch comes back.

    Raises:
        StoreUnavailable: So that Lambda delivers the batch again.
    """
    records: list[UsageRecord] = []
    unreadable: list[str] = []
    for sequence_number, image in new_ledger_items(event):
        try:
            records.append(record_of(image))
        except ValueError:
            unreadable.append(sequence_number)
    counted = await rollups.count(records)
    observer.note("usage rolled up", calls=len(records), counted=counted, unreadable=len(unreadable))
    observer.count({"CallsCounted": counted, "LedgerItemsUnreadable": len(unreadable)})
    return {"batchItemFailures": [{"itemIdentifier": number} for number in unreadable]}


def new_ledger_items(event: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The table holds rollups too, and its items change and expire: only new ledger items count."""
    for record in event.get("Records", []):
        change = record["dynamodb"]
        is_call = change["Keys"]["pk"]["S"].startswith(LEDGER_PREFIX)
        if record["eventName"] == "INSERT" and is_call:
            yield change["SequenceNumber"], change["NewImage"]


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
