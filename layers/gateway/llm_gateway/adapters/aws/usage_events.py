"""An EventBridge bus that calls are told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from llm_gateway.adapters.aws.sdk import ask
from llm_gateway.errors import StoreUnavailable
from llm_gateway.formats import to_decimal_text
from llm_gateway.models.completion import TokenUsage
from llm_gateway.usage.record import UsageRecord

SOURCE = "llm-gateway"
DETAIL_TYPE = "llm-gateway call"
_ENTRIES_PER_REQUEST = 10  # EventBridge's limit
_ATTEMPTS = 3
_FIRST_WAIT_S = 0.2
_PLAIN = tuple(f.name for f in fields(UsageRecord) if f.name not in ("usage", "started_at", "cost_usd"))
_TOKENS = tuple(f.name for f in fields(TokenUsage))


class EventBridgeBus:
    """Puts records on a bus, ten at once; see UsageBus.

    Args:
        client: EventBridge.
        name: Name of the bus.
        first_wait_s: Before entries that were not taken are put again; it doubles.
    """

    def __init__(self, client: Any, name: str, first_wait_s: float = _FIRST_WAIT_S) -> None:
        self._client = client
        self._name = name
        self._first_wait_s = first_wait_s

    async def publish(self, records: Sequence[UsageRecord]) -> set[str]:
        """See UsageBus.publish."""
        missing: set[str] = set()
        for start in range(0, len(records), _ENTRIES_PER_REQUEST):
            batch = list(records[start : start + _ENTRIES_PER_REQUEST])
            missing |= {record.call_id for record in await self._put(batch)}
            if missing:  # the bus has trouble: what follows would only be put twice
                return missing | {record.call_id for record in records[start + _ENTRIES_PER_REQUEST :]}
        return missing

    async def _put(self, records: list[UsageRecord]) -> list[UsageRecord]:
        """What the bus did not take in a few attempts."""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(self._first_wait_s * 2 ** (attempt - 1))
            try:
                answer = await ask(self._client.put_events, Entries=[self._entry(r) for r in records])
            except StoreUnavailable:
                continue
            ends = zip(records, answer["Entries"], strict=True)
            records = [record for record, end in ends if "EventId" not in end]
            if not records:
                break
        return records

    def _entry(self, record: UsageRecord) -> dict[str, Any]:
        return {
            "EventBusName": self._name,
            "Source": SOURCE,
            "DetailType": DETAIL_TYPE,
            "Time": record.started_at,
            "Detail": json.dumps(detail_of(record), ensure_ascii=False),
        }


def detail_of(record: UsageRecord) -> dict[str, Any]:
    """A record as the event tells it: all names always there, null where unknown, cost as exact text."""
    plain = {name: getattr(record, name) for name in _PLAIN}
    tokens = {name: getattr(record.usage, name) for name in _TOKENS}
    cost = None if record.cost_usd is None else to_decimal_text(record.cost_usd)
    return {**plain, "started_at": record.started_at.isoformat(), **tokens, "cost_usd": cost}
