"""Rollups that can be set right: read as they are now, and replaced if they still are so."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from boto3.dynamodb.types import TypeSerializer

from llm_gateway.adapters.aws.rollups import DynamoRollups, labels_of, rollup_key, rollup_of
from llm_gateway.adapters.aws.sdk import Refused, ask
from llm_gateway.usage.rebuild import StoredRollup
from llm_gateway.usage.rollups import TOTAL_NAMES, BucketWidth, Totals

_serialize = TypeSerializer().serialize


class DynamoRollupRepair(DynamoRollups):
    """Reads, counts and replaces; see ReplaceableRollups.

    Each replacement leaves a new `revision`, so that values that come back by chance are not taken for
    values that never changed.
    """

    async def stored(self, width: BucketWidth, start: datetime, end: datetime) -> Sequence[StoredRollup]:
        """See ReplaceableRollups.stored."""
        items = await self._items(width, start, end, consistent=True)
        return [
            StoredRollup(rollup_of(width, item), item["revision"]["S"] if "revision" in item else None)
            for item in items
        ]

    async def replace(self, stored: StoredRollup, totals: Totals) -> bool:
        """See ReplaceableRollups.replace."""
        pk, sk = rollup_key(stored.rollup)
        bucket, dimensions = labels_of(stored.rollup)
        old = {f":old_{name}": _serialize(getattr(stored.rollup.totals, name)) for name in TOTAL_NAMES}
        new = {f":new_{name}": _serialize(getattr(totals, name)) for name in TOTAL_NAMES}
        changed = "".join(f", #{name} = :new_{name}" for name in TOTAL_NAMES)
        seen = {} if stored.revision is None else {":seen": {"S": stored.revision}}
        values: dict[str, Any] = {
            ":bucket": bucket, ":dimensions": dimensions, ":revision": {"S": uuid.uuid4().hex},
            **seen, **old, **new,
        }  # fmt: skip
        try:
            await ask(
                self._client.update_item,
                TableName=self._table,
                Key={"pk": {"S": pk}, "sk": {"S": sk}},
                UpdateExpression="SET #bucket = :bucket, #dimensions = :dimensions, revision = :revision"
                + changed,
                ConditionExpression=" AND ".join([_same_revision(stored), *_same_totals(stored)]),
                ExpressionAttributeNames={
                    "#bucket": "bucket",
                    "#dimensions": "dimensions",
                    **{f"#{name}": name for name in TOTAL_NAMES},
                },
                ExpressionAttributeValues=values,
            )
        except Refused:
            return False
        return True


def _same_revision(stored: StoredRollup) -> str:
    return "attribute_not_exists(revision)" if stored.revision is None else "revision = :seen"


def _same_totals(stored: StoredRollup) -> list[str]:
    """What was read as 0 may as well be absent."""
    equal = {name: f"#{name} = :old_{name}" for name in TOTAL_NAMES}
    return [
        condition
        if getattr(stored.rollup.totals, name)
        else f"(attribute_not_exists(#{name}) OR {condition})"
        for name, condition in equal.items()
    ]
