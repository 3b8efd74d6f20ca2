"""The ledger: one item for each call, in the DynamoDB table that its sums are in, too.

Key: `pk=call#<hour>#<shard>`, `sk=<started_at>#<call_id>`: spread over 16 partitions an hour, and
enumerable by time. Both halves follow from the record, so a second write of the same call meets the
first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from boto3.dynamodb.types import TypeDeserializer

from llm_gateway.adapters.aws.sdk import Refused
from llm_gateway.usage.codec import record_of_values
from llm_gateway.usage.record import UsageRecord

PutItem = Callable[..., Awaitable[object]]
LEDGER_PREFIX = "call#"
_SHARDS = 16
_deserialize = TypeDeserializer().deserialize


class DynamoUsageLedger:
    """Writes records; see UsageLedger.

    Args:
        put: The SDK's put_item by `ask`, or something that raises as it does.
        table: The table.
        retention_days: Life of an item.
    """

    def __init__(self, put: PutItem, table: str, retention_days: int) -> None:
        self._put = put
        self._table = table
        self._retention = timedelta(days=retention_days)

    async def record(self, record: UsageRecord) -> None:
        """See UsageLedger.record."""
        try:
            await self._put(
                TableName=self._table,
                Item=ledger_item(record, record.started_at + self._retention),
                ConditionExpression="attribute_not_exists(pk)",
            )
        except Refused:
            return  # this call id is on the ledger already


def ledger_key(record: UsageRecord) -> tuple[str, str]:
    """Partition and sort key of a record, the same for every write of it."""
    shard = int(hashlib.sha256(record.call_id.encode()).hexdigest()[:8], 16) % _SHARDS
    return _partition(record.started_at, shard), f"{record.started_at.isoformat()}#{record.call_id}"


def ledger_partitions(hour: datetime) -> Sequence[str]:
    """Partition keys of everything that started in an hour."""
    return [_partition(hour, shard) for shard in range(_SHARDS)]


def _partition(moment: datetime, shard: int) -> str:
    return f"{LEDGER_PREFIX}{moment:%Y-%m-%dT%H}#{shard:02}"


def ledger_item(record: UsageRecord, expires: datetime) -> dict[str, Any]:
    """A record as DynamoDB keeps it; unknown values are absent."""
    pk, sk = ledger_key(record)
    usage = record.usage
    texts = {
        "pk": pk,
        "sk": sk,
        "call_id": record.call_id,
        "request_id": record.request_id,
        "started_at": record.started_at.isoformat(),
        "status": record.status,
        "error_code": record.error_code,
        "calling_service": record.calling_service,
        "correlation_id": record.correlation_id,
        "prompt": record.prompt,
        "prompt_version": record.prompt_version,
        "provider": record.provider,
        "model": record.model,
    }
    numbers = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cost_usd": record.cost_usd,
        "latency_ms": record.latency_ms,
        "attempts": record.attempts,
        "expires_at": int(expires.timestamp()),
    }
    item: dict[str, Any] = {name: {"S": text} for name, text in texts.items() if text is not None}
    item |= {name: {"N": str(number)} for name, number in numbers.items() if number is not None}
    if record.metadata:
        item["metadata"] = {"M": {name: {"S": text} for name, text in record.metadata.items()}}
    return {**item, "test_mode": {"BOOL": record.test_mode}}


def record_of(item: Mapping[str, Any]) -> UsageRecord:
    """A record back from its item.

    Raises:
        ValueError: The item is no ledger item.
    """
    return record_of_values({name: _deserialize(value) for name, value in item.items()})
