"""The prompt index in DynamoDB.

Keys: `pk="prompt"`, `sk=<path>` for entries, so that a page of a directory is one query of exactly
its items; `pk="generation"`, `sk="generation"` for the number that grows with every change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from llm_gateway.models import PromptEntry
from llm_gateway.prompts.catalogue import EntryPage
from llm_gateway.prompts.path import EXTENSIONS, has_extension
from llm_gateway.stores.aws import Refused, ask

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_GENERATION = {"pk": {"S": "generation"}, "sk": {"S": "generation"}}
_BEFORE_EVERY_EVENT = "0"  # compares below every padded sequencer
_DELETED_KEPT_S = 7 * 86_400


class DynamoPromptIndex:
    """Reads and writes entries; see PromptIndex and WritablePromptIndex."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    async def generation(self) -> int:
        """See PromptIndex.generation; 0 before the first change."""
        answer = await ask(self._client.get_item, TableName=self._table, Key=_GENERATION)
        return int(answer.get("Item", {}).get("value", {"N": "0"})["N"])

    async def find(self, path: str) -> Sequence[PromptEntry]:
        """See PromptIndex.find; one read either way.

        Consistent, unlike the others: an entry is read because the generation moved, and what is
        read now is kept until it moves again.
        """
        if has_extension(path):
            key = {"pk": {"S": "prompt"}, "sk": {"S": path}}
            answer = await ask(self._client.get_item, TableName=self._table, Key=key, ConsistentRead=True)
            items = [answer["Item"]] if "Item" in answer else []
        else:
            stem = {":path": {"S": f"{path}."}}
            items, _ = await self._query("begins_with(sk, :path)", stem, ConsistentRead=True)
        entries = [_entry(item) for item in items]
        names = {path, *(path + extension for extension in EXTENSIONS)}
        return [entry for entry in entries if entry.path in names and entry.state != "deleted"]

    async def page(self, directory: str, limit: int, after: str | None) -> EntryPage:
        """See PromptIndex.page; reads as many items as it returns, and the deleted between them."""
        condition, values = "", {}
        if directory:
            condition, values = "begins_with(sk, :directory)", {":directory": {"S": f"{directory}/"}}
        found: list[PromptEntry] = []
        more = True
        while more and len(found) <= limit:
            items, more = await self._query(condition, values, after, Limit=limit - len(found) + 1)
            entries = [_entry(item) for item in items]
            found += [entry for entry in entries if entry.state != "deleted"]
            after = entries[-1].path if entries else after
        page = found[:limit]
        return EntryPage(entries=page, next_after=page[-1].path if len(found) > limit else None)

    async def put(self, entry: PromptEntry, sequencer: str) -> bool:
        """See WritablePromptIndex.put."""
        nothing_newer = "attribute_not_exists(pk) OR sequencer < :sequencer"
        return await self._write(entry, sequencer, nothing_newer)

    async def repair(self, entry: PromptEntry, seen: str | None) -> bool:
        """See WritablePromptIndex.repair."""
        if seen is None:
            return await self.put(entry, _BEFORE_EVERY_EVENT)
        return await self._write(entry, seen, "sequencer = :sequencer")

    async def everything(self) -> Mapping[str, tuple[PromptEntry, str]]:
        """See WritablePromptIndex.everything."""
        found: dict[str, tuple[PromptEntry, str]] = {}
        after: str | None = None
        more = True
        while more:
            items, more = await self._query("", {}, after, ConsistentRead=True)
            found |= {item["sk"]["S"]: (_entry(item), item["sequencer"]["S"]) for item in items}
            after = items[-1]["sk"]["S"] if items else after
        return found

    async def _write(self, entry: PromptEntry, sequencer: str, condition: str) -> bool:
        try:
            await ask(
                self._client.put_item,
                TableName=self._table,
                Item=_item(entry, sequencer),
                ConditionExpression=condition,
                ExpressionAttributeValues={":sequencer": {"S": sequencer}},
            )
        except Refused:
            return False
        return True

    async def bump_generation(self) -> None:
        """See WritablePromptIndex.bump_generation."""
        await ask(
            self._client.update_item,
            TableName=self._table,
            Key=_GENERATION,
            UpdateExpression="ADD #value :one",
            ExpressionAttributeNames={"#value": "value"},
            ExpressionAttributeValues={":one": {"N": "1"}},
        )

    async def _query(
        self, condition: str, values: Mapping[str, Any], after: str | None = None, **more: Any
    ) -> tuple[list[dict[str, Any]], bool]:
        """Items, and whether there may be more of them."""
        arguments: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :pk" + (f" AND {condition}" if condition else ""),
            "ExpressionAttributeValues": {":pk": {"S": "prompt"}, **values},
            **more,
        }
        if after is not None:
            arguments["ExclusiveStartKey"] = {"pk": {"S": "prompt"}, "sk": {"S": after}}
        answer = await ask(self._client.query, **arguments)
        return list(answer["Items"]), "LastEvaluatedKey" in answer


def _item(entry: PromptEntry, sequencer: str) -> dict[str, Any]:
    item: dict[str, Any] = {
        "pk": {"S": "prompt"},
        "sk": {"S": entry.path},
        "sequencer": {"S": sequencer},
        "entry": {"S": _codec().dump_json(entry).decode()},
    }
    if entry.state == "deleted":
        item["expires_at"] = {"N": str(int(entry.last_modified.timestamp()) + _DELETED_KEPT_S)}
    return item


def _entry(item: Mapping[str, Any]) -> PromptEntry:
    return _codec().validate_json(item["entry"]["S"])


@cache
def _codec() -> TypeAdapter[PromptEntry]:
    return TypeAdapter(PromptEntry)
