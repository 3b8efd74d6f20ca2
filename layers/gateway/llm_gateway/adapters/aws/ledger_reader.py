"""The ledger read by time: the shards of an hour side by side, a page of each at once."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llm_gateway.adapters.aws.ledger import ledger_partitions, record_of
from llm_gateway.adapters.aws.sdk import ask
from llm_gateway.usage.rebuild import LedgerEntry

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_PAGE = 200


class DynamoLedgerReader:
    """Reads the ledger; see LedgerReader.

    Args:
        client: DynamoDB.
        table: The table.
        page: Items that are asked for at once of each shard.
    """

    def __init__(self, client: DynamoDBClient, table: str, page: int = _PAGE) -> None:
        self._client = client
        self._table = table
        self._page = page
        self.unreadable = 0

    async def entries(self, hour: datetime) -> AsyncIterator[LedgerEntry]:
        """See LedgerReader.entries."""
        async for item in self._items(hour):
            try:
                yield LedgerEntry(record_of(item), "counted" in item)
            except ValueError:
                self.unreadable += 1

    async def _items(self, hour: datetime) -> AsyncIterator[dict[str, Any]]:
        """The shards' items, merged by their sort key, which begins with the time."""
        shards = [_Shard(self._client, self._table, pk, self._page) for pk in ledger_partitions(hour)]
        await asyncio.gather(*(shard.fill() for shard in shards))
        heap = [(shard.next_key, number) for number, shard in enumerate(shards) if shard.items]
        heapq.heapify(heap)
        while heap:
            shard = shards[heap[0][1]]
            yield shard.items.pop()
            await shard.fill()
            if shard.items:
                heapq.heapreplace(heap, (shard.next_key, heap[0][1]))
            else:
                heapq.heappop(heap)


class _Shard:
    """One partition: the rest of its page at hand, the last item first."""

    def __init__(self, client: DynamoDBClient, table: str, pk: str, page: int) -> None:
        self._client = client
        self._arguments: dict[str, Any] = {
            "TableName": table,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": pk}},
            "ConsistentRead": True,
            "Limit": page,
        }
        self._more = True
        self.items: list[dict[str, Any]] = []

    @property
    def next_key(self) -> str:
        return str(self.items[-1]["sk"]["S"])

    async def fill(self) -> None:
        """Have an item, if there is one more."""
        while not self.items and self._more:
            answer = await ask(self._client.query, **self._arguments)
            self.items = list(reversed(answer["Items"]))
            self._more = "LastEvaluatedKey" in answer
            self._arguments["ExclusiveStartKey"] = answer.get("LastEvaluatedKey")
