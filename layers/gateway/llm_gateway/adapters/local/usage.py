"""Ledger and rollups in a SQLite file, for a process of its own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal, localcontext
from functools import cache
from typing import TYPE_CHECKING

from llm_gateway.adapters.local.sqlite_file import SqliteFile, as_unavailable
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.rollups import (
    DIMENSION_NAMES,
    EXACT,
    TOTAL_NAMES,
    BucketWidth,
    Dimensions,
    Rollup,
    Totals,
    rollups_of,
)

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_PUT_TOTALS = """
INSERT INTO rollup (width, start, dimensions, totals) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET totals = excluded.totals, revision = revision + 1
"""


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
            text = record_codec().dump_json(record).decode()
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
        return [rollup_of_row(width, *row) for row in await self._file.read(sql, question)]

    async def records(self, start: datetime, end: datetime) -> Sequence[UsageRecord]:
        """The calls that began in [start, end), in order."""
        sql = (
            "SELECT record FROM ledger WHERE started_at >= ? AND started_at < ? ORDER BY started_at, call_id"
        )
        rows = await self._file.read(sql, (start.isoformat(), end.isoformat()))
        return [record_codec().validate_json(text) for (text,) in rows]

    async def forget(self, before: datetime) -> int:
        """Delete calls that began before a moment, and tell how many; their sums stay."""
        moment = (before.isoformat(),)
        return await self._file.write(
            lambda connection: (
                connection.execute("DELETE FROM ledger WHERE started_at < ? AND counted = 1", moment).rowcount
            )
        )

    def close(self) -> None:
        """Write what is waiting, and close the file."""
        self._file.close()


def _count(connection: sqlite3.Connection, records: Sequence[UsageRecord]) -> int:
    """Mark those that are not counted yet and add them, as the ledger has them, to their sums."""
    mark = "UPDATE ledger SET counted = 1 WHERE call_id = ? AND counted = 0 RETURNING record"
    marked = [connection.execute(mark, (record.call_id,)).fetchall() for record in records]
    new = [record_codec().validate_json(text) for rows in marked for (text,) in rows]
    with localcontext(EXACT):
        _add(connection, rollups_of(new))
    return len(new)


def _add(connection: sqlite3.Connection, rollups: Sequence[Rollup]) -> None:
    for rollup in rollups:
        key = rollup_row_key(rollup)
        found = connection.execute(
            "SELECT totals FROM rollup WHERE width = ? AND start = ? AND dimensions = ?", key
        ).fetchone()
        put_totals(connection, key, rollup.totals + (_totals(found[0]) if found else Totals()))


def put_totals(connection: sqlite3.Connection, key: tuple[str, str, str], totals: Totals) -> None:
    """Give a rollup these totals, and with them a new revision."""
    text = json.dumps({name: str(value) for name, value in asdict(totals).items()})
    connection.execute(_PUT_TOTALS, (*key, text))


def rollup_row_key(rollup: Rollup) -> tuple[str, str, str]:
    """What a rollup's row is found by."""
    dimensions = json.dumps([getattr(rollup.dimensions, name) for name in DIMENSION_NAMES])
    return rollup.width, rollup.start.isoformat(), dimensions


def _totals(text: str) -> Totals:
    values = json.loads(text)
    cost = Decimal(values.pop("cost_usd", 0))
    return Totals(
        **{name: int(values.get(name, 0)) for name in TOTAL_NAMES if name != "cost_usd"}, cost_usd=cost
    )


def rollup_of_row(width: BucketWidth, start: str, dimensions: str, totals: str) -> Rollup:
    """A rollup back from its row; dimensions that a newer version added behind ours are ignored."""
    known = json.loads(dimensions)[: len(DIMENSION_NAMES)]
    return Rollup(width, datetime.fromisoformat(start), Dimensions(*known), _totals(totals))


@cache
def record_codec() -> TypeAdapter[UsageRecord]:
    """Records from and to their text on the ledger."""
    from pydantic import TypeAdapter

    return TypeAdapter(UsageRecord)
