"""The usage table's stream: ledger items on their way into the rollups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
