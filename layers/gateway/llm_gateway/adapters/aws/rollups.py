"""Rollups: sums over calls, in the DynamoDB table that the ledger is in, and joined to it by its stream.

Key: `pk=rollup#hour#<day>` or `pk=rollup#day#<month>`, `sk=<bucket>#<digest>`: a question reads one
partition for each day or month of its range, whatever the number of calls. The digest stands for the
dimensions, whose own text may hold any character.

Exactly once: a ledger item is marked `counted` in the same transaction that adds it to its rollups,
on condition that it was not. Redelivery, another split of the batch or a crash in between change
nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from llm_gateway.adapters.aws.ledger import ledger_key
from llm_gateway.adapters.aws.sdk import Refused, ask
from llm_gateway.errors import StoreUnavailable
from llm_gateway.formats import known_fields
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.rollups import (
    MAX_NAME,
    SUM_NAMES,
    TOTAL_NAMES,
    BucketWidth,
    Dimensions,
    Rollup,
    Totals,
    floor_day,
    rollups_of,
)

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_CALLS_PER_TRANSACTION = 30  # with at most two rollups each: 90 of the 100 items allowed
_CONFLICT_ATTEMPTS = 12
_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


class DynamoRollups:
    """Counts records into rollups and reads them; see RollupStore."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    async def count(self, records: Sequence[UsageRecord]) -> int:
        """See RollupStore.count."""
        unique = list({record.call_id: record for record in records}.values())
        counted = 0
        for start in range(0, len(unique), _CALLS_PER_TRANSACTION):
            counted += await self._count_chunk(unique[start : start + _CALLS_PER_TRANSACTION])
        return counted

    async def _count_chunk(self, records: list[UsageRecord]) -> int:
        """One transaction; records it finds counted or gone are left out of the next try."""
        for attempt in range(_CONFLICT_ATTEMPTS):
            if not records:
                return 0
            rollups = rollups_of(records)
            await self._raise_maxima(rollups)
            marks = [self._mark(record) for record in records]
            sums = [self._add(rollup) for rollup in rollups]
            try:
                await ask(self._client.transact_write_items, TransactItems=[*marks, *sums])
                return len(records)
            except Refused as refusal:
                verdicts = dict(zip((r.call_id for r in records), refusal.reasons, strict=False))
                records = [r for r in records if verdicts.get(r.call_id) != "ConditionalCheckFailed"]
                await asyncio.sleep(random.uniform(0, 0.02 * 2 ** min(attempt, 6)))
        raise StoreUnavailable("Usage could not be counted; the stream delivers it again.")

    async def _raise_maxima(self, rollups: Sequence[Rollup]) -> None:
        """A maximum may be raised any number of times; so it goes before the sums, which may not be lost."""
        for rollup in rollups:
            pk, sk = rollup_key(rollup)
            bucket, dimensions = labels_of(rollup)
            try:
                await ask(
                    self._client.update_item,
                    TableName=self._table,
                    Key={"pk": {"S": pk}, "sk": {"S": sk}},
                    UpdateExpression=f"SET #bucket = :bucket, #dimensions = :dimensions, {MAX_NAME} = :value",
                    ConditionExpression=f"attribute_not_exists({MAX_NAME}) OR {MAX_NAME} < :value",
                    ExpressionAttributeNames={"#bucket": "bucket", "#dimensions": "dimensions"},
                    ExpressionAttributeValues={
                        ":bucket": bucket,
                        ":dimensions": dimensions,
                        ":value": _serialize(rollup.totals.latency_max_ms),
                    },
                )
            except Refused:
                continue  # it is at least that

    def _mark(self, record: UsageRecord) -> Any:
        pk, sk = ledger_key(record)
        on_ledger, not_counted = "attribute_exists(pk)", "attribute_not_exists(counted)"
        return {
            "Update": {
                "TableName": self._table,
                "Key": {"pk": {"S": pk}, "sk": {"S": sk}},
                "UpdateExpression": "SET counted = :true",
                "ConditionExpression": f"{on_ledger} AND {not_counted}",
                "ExpressionAttributeValues": {":true": {"BOOL": True}},
            }
        }

    def _add(self, rollup: Rollup) -> Any:
        pk, sk = rollup_key(rollup)
        totals = {f"#{name}": getattr(rollup.totals, name) for name in SUM_NAMES}
        values = {f":{name[1:]}": _serialize(value) for name, value in totals.items()}
        bucket, dimensions = labels_of(rollup)
        return {
            "Update": {
                "TableName": self._table,
                "Key": {"pk": {"S": pk}, "sk": {"S": sk}},
                "UpdateExpression": "SET #bucket = :bucket, #dimensions = :dimensions ADD "
                + ", ".join(f"{name} :{name[1:]}" for name in totals),
                "ExpressionAttributeNames": {
                    "#bucket": "bucket",
                    "#dimensions": "dimensions",
                    **{name: name[1:] for name in totals},
                },
                "ExpressionAttributeValues": {
                    ":bucket": bucket,
                    ":dimensions": dimensions,
                    **values,
                },
            }
        }

    async def read(self, width: BucketWidth, start: datetime, end: datetime) -> Sequence[Rollup]:
        """See RollupStore.read."""
        return [rollup_of(width, item) for item in await self._items(width, start, end)]

    async def _items(
        self, width: BucketWidth, start: datetime, end: datetime, *, consistent: bool = False
    ) -> list[dict[str, Any]]:
        return [
            item
            for partition in _partitions(width, start, end)
            for item in await self._items_of(partition, start, end, consistent)
        ]

    async def _items_of(
        self, partition: str, start: datetime, end: datetime, consistent: bool
    ) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        arguments: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": consistent,
            "KeyConditionExpression": "pk = :pk AND sk BETWEEN :start AND :end",
            "ExpressionAttributeValues": {
                ":pk": {"S": partition},
                ":start": {"S": start.isoformat()},
                ":end": {"S": end.isoformat()},  # without a digest: sorts before every item of `end`
            },
        }
        while True:
            answer = await ask(self._client.query, **arguments)
            items += answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return items
            arguments["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def labels_of(rollup: Rollup) -> tuple[Any, Any]:
    """Bucket and dimensions as values of the item."""
    return {"S": rollup.start.isoformat()}, {"S": json.dumps(asdict(rollup.dimensions))}


def rollup_key(rollup: Rollup) -> tuple[str, str]:
    """Partition and sort key of a rollup."""
    dimensions = json.dumps(asdict(rollup.dimensions), sort_keys=True)
    digest = hashlib.sha256(dimensions.encode()).hexdigest()[:32]
    return _partition(rollup.width, rollup.start), f"{rollup.start.isoformat()}#{digest}"


def _partition(width: BucketWidth, start: datetime) -> str:
    period = start.strftime("%Y-%m-%d" if width == "hour" else "%Y-%m")
    return f"rollup#{width}#{period}"


def _partitions(width: BucketWidth, start: datetime, end: datetime) -> Iterator[str]:
    """Each partition that holds a bucket starting in [start, end), once, in order."""
    seen = None
    day = floor_day(start)
    while day < end:
        partition = _partition(width, day)
        if partition != seen:
            yield partition
        seen = partition
        day += timedelta(days=1)


def rollup_of(width: BucketWidth, item: Mapping[str, Any]) -> Rollup:
    """A rollup back from its item."""
    values = {name: _deserialize(value) for name, value in item.items()}
    totals = {name: int(values.get(name, 0)) for name in TOTAL_NAMES if name != "cost_usd"}
    return Rollup(
        width=width,
        start=datetime.fromisoformat(values["bucket"]),
        dimensions=Dimensions(**known_fields(Dimensions, json.loads(values["dimensions"]))),
        totals=Totals(**totals, cost_usd=Decimal(values.get("cost_usd", 0))),
    )
