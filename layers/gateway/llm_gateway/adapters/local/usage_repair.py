"""The usage file to be checked and set right: its ledger by time, its sums to be replaced if unchanged."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

from llm_gateway.adapters.local.sqlite_file import SqliteFile
from llm_gateway.adapters.local.usage import (
    SqliteUsage,
    put_totals,
    record_codec,
    rollup_of_row,
    rollup_row_key,
)
from llm_gateway.usage.rebuild import LedgerEntry, StoredRollup
from llm_gateway.usage.rollups import BucketWidth, Totals

_PAGE = 500
_ENTRIES = """
SELECT record, counted, started_at, call_id FROM ledger
WHERE (started_at, call_id) > (?, ?) AND started_at < ? ORDER BY started_at, call_id LIMIT ?
"""
_STORED = """
SELECT start, dimensions, totals, revision FROM rollup WHERE width = ? AND start >= ? AND start < ?
"""
_REVISION = "SELECT revision FROM rollup WHERE width = ? AND start = ? AND dimensions = ?"


class SqliteUsageRepair(SqliteUsage):
    """Reads, counts and replaces; see LedgerReader and ReplaceableRollups.

    Every change of a sum leaves a new revision, so that values that come back by chance are not taken for
    values that never changed.

    Args:
        file: Where.
        counts_at_once: See SqliteUsage.
        page: Calls that are read at once.
    """

    def __init__(self, file: SqliteFile, *, counts_at_once: bool = False, page: int = _PAGE) -> None:
        super().__init__(file, counts_at_once=counts_at_once)
        self._page = page
        self.unreadable = 0

    async def entries(self, hour: datetime) -> AsyncIterator[LedgerEntry]:
        """See LedgerReader.entries."""
        after, end = (hour.isoformat(), ""), (hour + timedelta(hours=1)).isoformat()
        while True:
            rows = await self._file.read(_ENTRIES, (*after, end, self._page))
            for text, counted, *_ in rows:
                try:
                    yield LedgerEntry(record_codec().validate_json(text), bool(counted))
                except ValueError:
                    self.unreadable += 1
            if len(rows) < self._page:
                return
            after = (rows[-1][2], rows[-1][3])

    async def stored(self, width: BucketWidth, start: datetime, end: datetime) -> Sequence[StoredRollup]:
        """See ReplaceableRollups.stored."""
        question = (width, start.isoformat(), end.isoformat())
        rows = await self._file.read(_STORED, question)
        return [StoredRollup(rollup_of_row(width, *row), str(revision)) for *row, revision in rows]

    async def replace(self, stored: StoredRollup, totals: Totals) -> bool:
        """See ReplaceableRollups.replace."""
        key = rollup_row_key(stored.rollup)

        def replace(connection: sqlite3.Connection) -> int:
            found = connection.execute(_REVISION, key).fetchone()
            if (None if found is None else str(found[0])) != stored.revision:
                return 0
            put_totals(connection, key, totals)
            return 1

        return bool(await self._file.write(replace))
