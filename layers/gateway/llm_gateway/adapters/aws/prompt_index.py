"""The prompt index in DynamoDB.

Keys, `pk` and `sk`:
    `prompt`, path                  an entry, so that a page of a directory is one query of its items
    `generation`, `generation`      the number that grows with every change
    `history#<path>`, version       one revision
    `labels`, path                  the labels of a prompt
    `moves#<path>`, time#label      one move of a label, for the record
    `includers#<partial>`, path     a prompt that includes the partial, or did
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter

from llm_gateway.adapters.aws.sdk import Refused, ask
from llm_gateway.prompts.catalogue.catalogue import EntryPage
from llm_gateway.prompts.catalogue.entries import PromptEntry, Revision, Stamp
from llm_gateway.prompts.catalogue.labels import LabelMove
from llm_gateway.prompts.catalogue.shares import Labels
from llm_gateway.prompts.files.path import EXTENSIONS, has_extension

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_GENERATION = {"pk": {"S": "generation"}, "sk": {"S": "generation"}}
_DELETED_KEPT_S = 7 * 86_400
_NEVER = datetime.fromtimestamp(0, UTC)
_UNREADABLE = "the index cannot read its own entry of this prompt; it is repaired with the next comparison"
Stored = TypeVar("Stored", PromptEntry, Revision, Labels, LabelMove)


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
            item = await self._get("prompt", path)
            items = [] if item is None else [item]
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

    async def stamp(self, path: str) -> tuple[PromptEntry, Stamp] | None:
        """See WritablePromptIndex.stamp."""
        item = await self._get("prompt", path)
        if item is None:
            return None
        return _entry(item), Stamp(item["sequencer"]["S"], int(item["writes"]["N"]))

    async def put(self, entry: PromptEntry, stamp: Stamp, seen: Stamp | None) -> bool:
        """See WritablePromptIndex.put."""
        unchanged: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if seen is not None:
            unchanged = {
                "ConditionExpression": "sequencer = :sequencer AND writes = :writes",
                "ExpressionAttributeValues": {
                    ":sequencer": {"S": seen.sequencer},
                    ":writes": {"N": str(seen.writes)},
                },
            }
        return await self._put(_item(entry, stamp), **unchanged)

    async def everything(self) -> Mapping[str, PromptEntry]:
        """See WritablePromptIndex.everything."""
        return {item["sk"]["S"]: _entry(item) for item in await self._all("prompt")}

    async def revision(self, path: str, version: str) -> Revision | None:
        """See PromptIndex.revision."""
        item = await self._get(f"history#{path}", version)
        return None if item is None else _loaded(Revision, item["revision"]["S"])

    async def history(self, path: str) -> Sequence[Revision]:
        """See PromptIndex.history."""
        items = await self._all(f"history#{path}")
        revisions = list(_readable(Revision, (item["revision"]["S"] for item in items)))
        return sorted(revisions, key=lambda revision: revision.made_at, reverse=True)

    async def add_revision(self, path: str, revision: Revision) -> None:
        """See WritablePromptIndex.add_revision."""
        item = _key(f"history#{path}", revision.version)
        item["revision"] = {"S": _dumped(revision)}
        await self._put(item, ConditionExpression="attribute_not_exists(pk)")

    async def add_includer(self, partial: str, path: str) -> None:
        """See WritablePromptIndex.add_includer."""
        await self._put(_key(f"includers#{partial}", path))

    async def includers(self, partial: str) -> Sequence[str]:
        """See WritablePromptIndex.includers."""
        return [item["sk"]["S"] for item in await self._all(f"includers#{partial}")]

    async def labels(self, path: str) -> Labels:
        """See PromptIndex.labels."""
        item = await self._get("labels", path)
        return Labels() if item is None else _loaded(Labels, item["labels"]["S"])

    async def move_label(self, move: LabelMove, seen: Labels) -> bool:
        """See LabelStore.move_label: labels and record in one transaction."""
        labels = {**_key("labels", move.path), "labels": {"S": _dumped(move.applied_to(seen))}}
        labels["revision"] = {"N": str(seen.revision + 1)}
        record = _key(f"moves#{move.path}", f"{move.moved_at.isoformat()}#{move.label}")
        record["move"] = {"S": _dumped(move)}
        unchanged: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if seen.revision:
            unchanged = {
                "ConditionExpression": "revision = :seen",
                "ExpressionAttributeValues": {":seen": {"N": str(seen.revision)}},
            }
        writes: list[Any] = [{"Item": labels, **unchanged}, {"Item": record}]
        puts: list[Any] = [{"Put": {"TableName": self._table, **write}} for write in writes]
        try:
            await ask(self._client.transact_write_items, TransactItems=puts)
        except Refused:
            return False
        await self.bump_generation()
        return True

    async def moves(self, path: str) -> Sequence[LabelMove]:
        """See LabelStore.moves."""
        items = await self._all(f"moves#{path}")
        return list(_readable(LabelMove, (item["move"]["S"] for item in reversed(items))))

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

    async def _get(self, pk: str, sk: str) -> dict[str, Any] | None:
        answer = await ask(
            self._client.get_item, TableName=self._table, Key=_key(pk, sk), ConsistentRead=True
        )
        return dict(answer["Item"]) if "Item" in answer else None

    async def _put(self, item: dict[str, Any], **condition: Any) -> bool:
        try:
            await ask(self._client.put_item, TableName=self._table, Item=item, **condition)
        except Refused:
            return False
        return True

    async def _all(self, pk: str) -> list[dict[str, Any]]:
        """Every item under `pk`, in the order of `sk`."""
        found: list[dict[str, Any]] = []
        more, after = True, None
        while more:
            items, more = await self._query("", {}, after, pk=pk, ConsistentRead=True)
            found += items
            after = items[-1]["sk"]["S"] if items else after
        return found

    async def _query(
        self,
        condition: str,
        values: Mapping[str, Any],
        after: str | None = None,
        pk: str = "prompt",
        **more: Any,
    ) -> tuple[list[dict[str, Any]], bool]:
        """Items, and whether there may be more of them."""
        arguments: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :pk" + (f" AND {condition}" if condition else ""),
            "ExpressionAttributeValues": {":pk": {"S": pk}, **values},
            **more,
        }
        if after is not None:
            arguments["ExclusiveStartKey"] = _key(pk, after)
        answer = await ask(self._client.query, **arguments)
        return list(answer["Items"]), "LastEvaluatedKey" in answer


def _key(pk: str, sk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _item(entry: PromptEntry, stamp: Stamp) -> dict[str, Any]:
    item = {
        **_key("prompt", entry.path),
        "sequencer": {"S": stamp.sequencer},
        "writes": {"N": str(stamp.writes)},
        "entry": {"S": _dumped(entry)},
    }
    if entry.state == "deleted":
        item["expires_at"] = {"N": str(int(entry.last_modified.timestamp()) + _DELETED_KEPT_S)}
    return item


def _entry(item: Mapping[str, Any]) -> PromptEntry:
    """The entry of an item; one that cannot be read is broken, which a comparison with the files repairs."""
    try:
        return _loaded(PromptEntry, item["entry"]["S"])
    except ValueError:
        path = item["sk"]["S"]
        return PromptEntry(path, None, "", 0, _NEVER, "broken", error=_UNREADABLE, sources={path: None})


def _dumped(value: object) -> str:
    return _codec(type(value)).dump_json(value).decode()


def _loaded(kind: type[Stored], text: str) -> Stored:
    value: Stored = _codec(kind).validate_json(text)
    return value


def _readable(kind: type[Stored], texts: Iterable[str]) -> Iterator[Stored]:
    """Records that can be read; one that cannot must not hide the others."""
    for text in texts:
        with suppress(ValueError):
            yield _loaded(kind, text)


_codec: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)
