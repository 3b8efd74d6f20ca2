"""Ledger and rollups in one SQLite file, for a process of its own.

One thread writes. Whatever has come in while it was busy is one transaction, and nobody hears that a
record is kept before that is on the disk (WAL, `synchronous=FULL`), so a process that is killed loses
nothing it has acknowledged. Readers have connections of their own and wait for nobody.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal, localcontext
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from llm_gateway.errors import StoreUnavailable
from llm_gateway.rollup import (
    DIMENSION_NAMES,
    EXACT,
    TOTAL_NAMES,
    BucketWidth,
    Dimensions,
    Rollup,
    Totals,
    rollups_of,
)
from llm_gateway.usage import UsageRecord

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_MIGRATIONS = (
    """
CREATE TABLE ledger (
    call_id TEXT PRIMARY KEY, started_at TEXT NOT NULL, counted INTEGER NOT NULL DEFAULT 0,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX ledger_by_time ON ledger (started_at);
CREATE TABLE rollup (
    width TEXT NOT NULL, start TEXT NOT NULL, dimensions TEXT NOT NULL, totals TEXT NOT NULL,
    PRIMARY KEY (width, start, dimensions)
) WITHOUT ROWID;
""",
    "ALTER TABLE rollup ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;",
)
"""Each makes of a file of one version one of the next; a new file has version 0."""
_MOST_AT_ONCE = 500
_BUSY_TIMEOUT_S = 5.0
_PUT_TOTALS = """
INSERT INTO rollup (width, start, dimensions, totals) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET totals = excluded.totals, revision = revision + 1
"""

Write = Callable[[sqlite3.Connection], int]


@dataclass(frozen=True, slots=True)
class _Job:
    """A write, and who waits for it."""

    write: Write
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[int]

    def settle(self, result: int | StoreUnavailable) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self._settle, result)

    def _settle(self, result: int | StoreUnavailable) -> None:
        if self.done.done():  # nobody waits any more
            return
        if isinstance(result, StoreUnavailable):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


class SqliteUsage:
    """Keeps, counts and reads; see UsageLedger and RollupStore.

    Args:
        path: The file; it is made if it is not there.
        counts_at_once: True counts each record in the transaction that keeps it, so that nothing else
            has to.

    Raises:
        StoreUnavailable: The file cannot be opened, or is of a newer version.
    """

    def __init__(self, path: Path, *, counts_at_once: bool = False) -> None:
        self._path = path
        self._counts_at_once = counts_at_once
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed = False
        self._gate = threading.Lock()  # so that nothing is put behind the end
        with _as_unavailable():
            self._connection = self._open()
            try:
                _migrate(self._connection)
            except BaseException:
                self._connection.close()
                raise
        self._writer = threading.Thread(target=self._write_until_closed, name="usage writer", daemon=True)
        self._writer.start()

    async def record(self, record: UsageRecord) -> None:
        """See UsageLedger.record."""
        with _as_unavailable():
            text = record_codec().dump_json(record).decode()
        row = (record.call_id, record.started_at.isoformat(), text)

        def keep(connection: sqlite3.Connection) -> int:
            connection.execute(
                "INSERT OR IGNORE INTO ledger (call_id, started_at, record) VALUES (?, ?, ?)", row
            )
            return _count(connection, [record]) if self._counts_at_once else 0

        await self._written(keep)

    async def count(self, records: Sequence[UsageRecord]) -> int:
        """See RollupStore.count."""
        return await self._written(lambda connection: _count(connection, records))

    async def read(self, width: BucketWidth, start: datetime, end: datetime) -> Sequence[Rollup]:
        """See RollupStore.read."""
        question = (width, start.isoformat(), end.isoformat())
        sql = "SELECT start, dimensions, totals FROM rollup WHERE width = ? AND start >= ? AND start < ?"
        rows = await asyncio.to_thread(self._rows, sql, question)
        return [rollup_of_row(width, *row) for row in rows]

    async def records(self, start: datetime, end: datetime) -> Sequence[UsageRecord]:
        """The calls that began in [start, end), in order."""
        sql = (
            "SELECT record FROM ledger WHERE started_at >= ? AND started_at < ? ORDER BY started_at, call_id"
        )
        rows = await asyncio.to_thread(self._rows, sql, (start.isoformat(), end.isoformat()))
        return [record_codec().validate_json(text) for (text,) in rows]

    async def forget(self, before: datetime) -> int:
        """Delete calls that began before a moment, and tell how many; their sums stay."""
        moment = (before.isoformat(),)
        return await self._written(
            lambda connection: (
                connection.execute("DELETE FROM ledger WHERE started_at < ? AND counted = 1", moment).rowcount
            )
        )

    def close(self) -> None:
        """Write what is waiting, and end the writer."""
        with self._gate:
            self._closed = True
            self._jobs.put(None)
        self._writer.join()

    async def _written(self, write: Write) -> int:
        loop = asyncio.get_running_loop()
        job = _Job(write, loop, loop.create_future())
        with self._gate:
            if self._closed:
                raise StoreUnavailable("The usage store is closed.", details={"reason": "closed"})
            self._jobs.put(job)
        return await job.done

    def _rows(self, sql: str, arguments: tuple[str | int, ...]) -> list[tuple[Any, ...]]:
        with _as_unavailable(), closing(self._open()) as connection:
            return connection.execute(sql, arguments).fetchall()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _write_until_closed(self) -> None:
        with closing(self._connection) as connection:
            while (job := self._jobs.get()) is not None:
                jobs, closed = self._waiting(job)
                self._write(connection, jobs)
                if closed:
                    return

    def _waiting(self, first: _Job) -> tuple[list[_Job], bool]:
        """What has come in meanwhile, and whether that is all there will be."""
        jobs = [first]
        while len(jobs) < _MOST_AT_ONCE:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _write(self, connection: sqlite3.Connection, jobs: Sequence[_Job]) -> None:
        try:
            with _as_unavailable():
                connection.execute("BEGIN IMMEDIATE")
                results = [job.write(connection) for job in jobs]
                connection.execute("COMMIT")
        except StoreUnavailable as error:
            with suppress(sqlite3.Error):
                connection.rollback()
            for job in jobs:
                job.settle(error)
            return
        for job, result in zip(jobs, results, strict=True):
            job.settle(result)


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(_MIGRATIONS):
        connection.execute("ROLLBACK")
        raise StoreUnavailable(
            f"The usage file is of version {version}, which this gateway does not know.",
            details={"reason": "version"},
        )
    for migration in _MIGRATIONS[version:]:
        for statement in migration.split(";"):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
    connection.execute("COMMIT")


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
    """A rollup back from its row."""
    return Rollup(width, datetime.fromisoformat(start), Dimensions(*json.loads(dimensions)), _totals(totals))


@contextmanager
def _as_unavailable() -> Iterator[None]:
    try:
        yield
    except StoreUnavailable:
        raise
    except Exception as error:  # whatever it is, the writer must go on
        raise StoreUnavailable(
            "The usage store did not respond; try again.", details={"reason": type(error).__name__}
        ) from error


@cache
def record_codec() -> TypeAdapter[UsageRecord]:
    """Records from and to their text on the ledger."""
    from pydantic import TypeAdapter

    return TypeAdapter(UsageRecord)
