"""Ledger and rollups in a SQLite file, for a process of its own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Context, Decimal, localcontext
from functools import cache
from typing import TYPE_CHECKING

from llm_gateway.rollup import (
    DIMENSION_NAMES,
    TOTAL_NAMES,
    BucketWidth,
    Dimensions,
    Rollup,
    Totals,
    rollups_of,
)
from llm_gateway.stores.sqlite_file import SqliteFile, as_unavailable
from llm_gateway.usage import UsageRecord

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_EXACT = Context(prec=100)


class SqliteUsage:
    """Keeps, counts and reads; see UsageLedger and RollupStore.

    Args:
        file: Where.
        counts_at_once: True counts each record in the transaction that keeps it, so that nothing else
            has to.
    """

    def __init__(self, file: SqliteFile, *, counts_at_once: bool = False) -> None:
        self._file = file
        self._counts_at_once = counts_at_once

    async def record(self, record: UsageRecord) -> None:
        """See UsageLedger.record."""
        with as_unavailable():
            text = _codec().dump_json(record).decode()
        row = (record.call_id, record.started_at.isoformat(), text)

        def keep(connection: sqlite3.Connection) -> int:
            connection.execute(
                "INSERT OR IGNORE INTO ledger (call_id, started_at, record) VALUES (?, ?, ?)", row
            )
            return _count(connection, [record]) if self._counts_at_once else 0

        await self._file.write(keep)

    async def count(self, records: Sequence[UsageRecord]) -> int:
        """See RollupStore.count."""
        return await self._file.write(lambda connection: _count(connection, records))

    async def read(self, width: BucketWidth, start: datetime, end: datetime) -> Sequence[Rollup]:
        """See RollupStore.read."""
        question = (width, start.isoformat(), end.isoformat())
        sql = "SELECT start, dimensions, totals FROM rollup WHERE width = ? AND start >= ? AND start < ?"
        return [_rollup(width, *row) for row in await self._file.read(sql, question)]

    async def records(self, start: datetime, end: datetime) -> Sequence[UsageRecord]:
        """The calls that began in [start, end), in order."""
        sql = (
            "SELECT record FROM ledger WHERE started_at >= ? AND started_at < ? ORDER BY started_at, call_id"
        )
        rows = await self._file.read(sql, (start.isoformat(), end.isoformat()))
        return [_codec().validate_json(text) for (text,) in rows]

    async def forget(self, before: datetime) -> int:
        """Delete calls that began before a moment, and tell how many; their sums stay."""
        moment = (before.isoformat(),)
        return await self._file.write(
            lambda connection: (
                connection.execute("DELETE FROM ledger WHERE started_at < ? AND counted = 1", moment).rowcount
            )
        )


def _count(connection: sqlite3.Connection, records: Sequence[UsageRecord]) -> int:
    """Mark those that are not counted yet and add them, as the ledger has them, to their sums."""
    mark = "UPDATE ledger SET counted = 1 WHERE call_id = ? AND counted = 0 RETURNING record"
    marked = [connection.execute(mark, (record.call_id,)).fetchall() for record in records]
    new = [_codec().validate_json(text) for rows in marked for (text,) in rows]
    with localcontext(_EXACT):
        _add(connection, rollups_of(new))
    return len(new)


def _add(connection: sqlite3.Connection, rollups: Sequence[Rollup]) -> None:
    for rollup in rollups:
        key = (rollup.width, rollup.start.isoformat(), _dimensions(rollup.dimensions))
        found = connection.execute(
            "SELECT totals FROM rollup WHERE width = ? AND start = ? AND dimensions = ?", key
        ).fetchone()
        totals = rollup.totals + (_totals(found[0]) if found else Totals())
        text = json.dumps({name: str(value) for name, value in asdict(totals).items()})
        connection.execute("INSERT OR REPLACE INTO rollup VALUES (?, ?, ?, ?)", (*key, text))


def _dimensions(dimensions: Dimensions) -> str:
    return json.dumps([getattr(dimensions, name) for name in DIMENSION_NAMES])


def _totals(text: str) -> Totals:
    values = json.loads(text)
    cost = Decimal(values.pop("cost_usd", 0))
    return Totals(
        **{name: int(values.get(name, 0)) for name in TOTAL_NAMES if name != "cost_usd"}, cost_usd=cost
    )


def _rollup(width: BucketWidth, start: str, dimensions: str, totals: str) -> Rollup:
    return Rollup(width, datetime.fromisoformat(start), Dimensions(*json.loads(dimensions)), _totals(totals))


@cache
def _codec() -> TypeAdapter[UsageRecord]:
    from pydantic import TypeAdapter

    return TypeAdapter(UsageRecord)
