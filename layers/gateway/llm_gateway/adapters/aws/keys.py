"""Gateway keys in a DynamoDB table of their own, one item each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llm_gateway.access.key_record import ends_of, key_of, texts_of
from llm_gateway.access.keys import GatewayKey
from llm_gateway.adapters.aws.sdk import Refused, ask

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class DynamoKeys:
    """See KeyStore."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    async def get(self, key_id: str) -> GatewayKey | None:
        """See KeyStore.get."""
        answer = await ask(
            self._client.get_item, TableName=self._table, Key={"key_id": {"S": key_id}}, ConsistentRead=True
        )
        return _key(answer["Item"]) if "Item" in answer else None

    async def add(self, key: GatewayKey) -> None:
        """See KeyStore.add."""
        try:
            await ask(
                self._client.put_item,
                TableName=self._table,
                Item={name: {"S": text} for name, text in texts_of(key).items()},
                ConditionExpression="attribute_not_exists(key_id)",
            )
        except Refused:
            raise ValueError(f"there is a key {key.key_id} already") from None

    async def end(self, key_id: str, *, expires_at: datetime | None, revoked_at: datetime | None) -> None:
        """See KeyStore.end."""
        ends = ends_of(expires_at, revoked_at)
        try:
            await ask(
                self._client.update_item,
                TableName=self._table,
                Key={"key_id": {"S": key_id}},
                UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in ends),
                ConditionExpression="attribute_exists(key_id)",
                ExpressionAttributeValues={f":{name}": {"S": text} for name, text in ends.items()},
            )
        except Refused:
            raise KeyError(key_id) from None

    async def all(self) -> Sequence[GatewayKey]:
        """See KeyStore.all."""
        keys: list[GatewayKey] = []
        start: dict[str, Any] = {}
        while True:
            page = await ask(self._client.scan, TableName=self._table, ConsistentRead=True, **start)
            keys += [_key(item) for item in page["Items"]]
            if "LastEvaluatedKey" not in page:
                return sorted(keys, key=lambda key: (key.created_at, key.key_id))
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def _key(item: Mapping[str, Any]) -> GatewayKey:
    return key_of({name: value["S"] for name, value in item.items()})
