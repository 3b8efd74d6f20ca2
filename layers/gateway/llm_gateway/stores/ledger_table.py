"""The ledger: one item for each call, in the DynamoDB table that its sums are in, too.

Key: `pk=call#<hour>#<shard>`, `sk=<started_at>#<call_id>`: spread over 16 partitions an hour, and
enumerable by time. Both halves follow from the record, so a second write of the same call meets the
first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from llm_gateway.models import TokenUsage
from llm_gateway.stores.aws import Refused, ask
from llm_gateway.usage import UsageRecord

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from pydantic import TypeAdapter

LEDGER_PREFIX = "call#"
_SHARDS = 16
_RECORD_FIELDS = tuple(f.name for f in fields(UsageRecord) if f.name != "usage")
_TOKEN_COUNTS = tuple(f.name for f in fields(TokenUsage))
_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


class DynamoUsageLedger:
    """Writes records; see UsageLedger."""

    def __init__(self, client: DynamoDBClient, table: str, retention_days: int) -> None:
        self._client = client
        self._table = table
        self._retention = timedelta(days=retention_days)

    async def record(self, record: UsageRecord) -> None:
        """See UsageLedger.record."""
        try:
            await ask(
                self._client.put_item,
                TableName=self._table,
                Item=ledger_item(record, record.started_at + self._retention),
                ConditionExpression="attribute_not_exists(pk)",
            )
        except Refused:
            return  # this call id is on the ledger already


def ledger_key(record: UsageRecord) -> tuple[str, str]:
    """Partition and sort key of a record, the same for every write of it."""
    shard = int(hashlib.sha256(record.call_id.encode()).hexdigest()[:8], 16) % _SHARDS
    hour = record.started_at.strftime("%Y-%m-%dT%H")
    return f"{LEDGER_PREFIX}{hour}#{shard:02}", f"{record.started_at.isoformat()}#{record.call_id}"


def ledger_item(record: UsageRecord, expires: datetime) -> dict[str, Any]:
    """A record as DynamoDB keeps it; unknown values are absent."""
    pk, sk = ledger_key(record)
    values: dict[str, Any] = {name: getattr(record, name) for name in _RECORD_FIELDS}
    values |= {name: getattr(record.usage, name) for name in _TOKEN_COUNTS}
    values |= {"pk": pk, "sk": sk, "expires_at": int(expires.timestamp())}
    values["started_at"] = record.started_at.isoformat()
    return {name: _serialize(value) for name, value in values.items() if value is not None}


def record_of(item: Mapping[str, Any]) -> UsageRecord:
    """A record back from its item.

    Raises:
        ValueError: The item is no ledger item.
    """
    values = {name: _deserialize(value) for name, value in item.items()}
    usage = {name: values.get(name) for name in _TOKEN_COUNTS}
    optional = dict.fromkeys(("error_code", "calling_service", "correlation_id", "cost_usd"))
    return _codec().validate_python({**optional, **values, "usage": usage})


@cache
def _codec() -> TypeAdapter[UsageRecord]:
    from pydantic import TypeAdapter

    return TypeAdapter(UsageRecord)
