"""One SQLite file for all that a process of its own keeps: its schema, and the one thread that writes.

Whatever has come in while the writer was busy is one transaction, and nobody hears that something is
kept before that is on the disk (WAL, `synchronous=FULL`), so a process that is killed loses nothing it
has acknowledged. Readers have connections of their own and wait for nobody.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from llm_gateway.errors import StoreUnavailable

T = TypeVar("T")
Writing = Callable[[sqlite3.Connection], T]

# Each step leads from one version of the file to the next; none is ever changed.
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
) WITHOUT ROWID
""",
    "ALTER TABLE rollup ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",
    """
CREATE TABLE outcome (
    key TEXT PRIMARY KEY, request TEXT NOT NULL, holder TEXT NOT NULL, held_until REAL NOT NULL,
    expires_at REAL NOT NULL, ended INTEGER NOT NULL DEFAULT 0, outcome BLOB
);
CREATE INDEX outcome_by_time ON outcome (expires_at);
CREATE TABLE budget_spent (
    budget TEXT NOT NULL, period TEXT NOT NULL, usd TEXT NOT NULL, tokens INTEGER NOT NULL,
    PRIMARY KEY (budget, period)
) WITHOUT ROWID;
CREATE TABLE budget_hold (
    budget TEXT NOT NULL, month TEXT NOT NULL, holder TEXT NOT NULL, day TEXT NOT NULL,
    usd TEXT NOT NULL, tokens INTEGER NOT NULL, held_until REAL NOT NULL, dead INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (budget, month, holder)
) WITHOUT ROWID;
CREATE TABLE budget_told (
    budget TEXT NOT NULL, period TEXT NOT NULL, unit TEXT NOT NULL, percent INTEGER NOT NULL,
    PRIMARY KEY (budget, period, unit, percent)
) WITHOUT ROWID
""",
)
_MOST_AT_ONCE = 500
_BUSY_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    """Something to write, and who waits for it."""

    write: Writing[T]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[T]

    def settle(self, result: T | StoreUnavailable) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(self._settle, result)

    def _settle(self, result: T | StoreUnavailable) -> None:
        if self.done.done():  # nobody waits any more
            return
        if isinstance(result, StoreUnavailable):
            self.done.set_exception(result)
        else:
            self.done.set_result(result)


class SqliteFile:
    """The file, open for one process.

    Args:
        path: The file; it is made if it is not there.

    Raises:
        StoreUnavailable: The file cannot be opened, or is of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._closed = False
        self._gate = threading.Lock()  # so that nothing is put behind the end
        with as_unavailable():
            self._connection = self._open()
            try:
                _migrate(self._connection)
            except BaseException:
                self._connection.close()
                raise
        self._writer = threading.Thread(target=self._write_until_closed, name="sqlite writer", daemon=True)
        self._writer.start()

    async def write(self, work: Writing[T]) -> T:
        """Let the writer do `work`; what it returns, once that is on the disk.

        Raises:
            StoreUnavailable: Nothing is written.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        job = _Job(work, loop, done)
        with self._gate:
            if self._closed:
                raise StoreUnavailable("The usage store is closed.", details={"reason": "closed"})
            self._jobs.put(job)
        return await done

    async def read(self, sql: str, arguments: Sequence[str | int]) -> list[tuple[Any, ...]]:
        """The rows of a question.

        Raises:
            StoreUnavailable: They cannot be read.
        """
        return await asyncio.to_thread(self._rows, sql, arguments)

    def close(self) -> None:
        """Write what is waiting, and end the writer."""
        with self._gate:
            self._closed = True
            self._jobs.put(None)
        self._writer.join()

    def _rows(self, sql: str, arguments: Sequence[str | int]) -> list[tuple[Any, ...]]:
        with as_unavailable(), closing(self._open()) as connection:
            return connection.execute(sql, arguments).fetchall()

    def _open(self) -> sqlite3.Connection:
        self._make_private()
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

    def _make_private(self) -> None:
        """Make a new file readable by its owner alone; SQLite gives the files beside it the same mode."""
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

    def _write_until_closed(self) -> None:
        with closing(self._connection) as connection:
            while (job := self._jobs.get()) is not None:
                jobs, closed = self._waiting(job)
                self._write(connection, jobs)
                if closed:
                    return

    def _waiting(self, first: _Job[Any]) -> tuple[list[_Job[Any]], bool]:
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

    def _write(self, connection: sqlite3.Connection, jobs: Sequence[_Job[Any]]) -> None:
        try:
            with as_unavailable():
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
    for statements in _MIGRATIONS[version:]:
        for statement in statements.split(";"):
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")
    connection.execute("COMMIT")


@contextmanager
def as_unavailable() -> Iterator[None]:
    """Whatever goes wrong inside, in the gateway's terms: the writer must go on."""
    try:
        yield
    except StoreUnavailable:
        raise
    except Exception as error:
        raise StoreUnavailable(
            "The usage store did not respond; try again.", details={"reason": type(error).__name__}
        ) from error
