"""The usage file: what is acknowledged survives, however the process ends."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from llm_gateway.adapters.local.sqlite_file import SqliteFile
from llm_gateway.adapters.local.usage import SqliteUsage
from llm_gateway.errors import StoreUnavailable
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.rollups import Totals, totals_of
from tests.contract.test_usage_stores import record
from tests.fakes import NOON

ROOT = Path(__file__).parent.parent.parent
DAY = timedelta(days=1)
WRITER = """
import asyncio, pathlib, sys, uuid
from dataclasses import replace
from llm_gateway.adapters.local.sqlite_file import SqliteFile
from llm_gateway.adapters.local.usage import SqliteUsage
from tests.contract.test_usage_stores import record

async def write(store):
    while True:
        one = replace(record(7), call_id=uuid.uuid4().hex)
        await store.record(one)
        print(one.call_id, flush=True)

async def main():
    store = SqliteUsage(SqliteFile(pathlib.Path(sys.argv[1])), counts_at_once=True)
    await asyncio.gather(*(write(store) for _ in range(8)))

asyncio.run(main())
"""


@contextmanager
def opened(file: Path, *, counts_at_once: bool = False) -> Iterator[SqliteUsage]:
    with closing(SqliteFile(file)) as kept:
        yield SqliteUsage(kept, counts_at_once=counts_at_once)


def found(store: SqliteUsage) -> tuple[list[UsageRecord], Totals]:
    async def look() -> tuple[list[UsageRecord], Totals]:
        start = NOON.replace(hour=0)
        rollups = await store.read("day", start, start + DAY)
        sums = sum((rollup.totals for rollup in rollups), Totals())
        return list(await store.records(start, start + DAY)), sums

    return asyncio.run(look())


def test_a_process_that_is_killed_loses_nothing_it_has_acknowledged(tmp_path: Path) -> None:
    file, acknowledged = tmp_path / "usage.db", list[str]()
    for _ in range(4):
        path = {"PYTHONPATH": f"{ROOT}/layers/gateway:{ROOT}/tools:{ROOT}"}
        command = [sys.executable, "-c", WRITER, str(file)]
        with subprocess.Popen(command, env=path, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            acknowledged.append(writer.stdout.readline().strip())
            time.sleep(random.uniform(0.05, 0.4))
            writer.send_signal(signal.SIGKILL)
            lines = writer.stdout.read().split("\n")
        acknowledged += [line for line in lines[:-1] if line]
    with opened(file, counts_at_once=True) as store:
        records, sums = found(store)
    kept = [one.call_id for one in records]
    assert len(acknowledged) > 50
    assert set(acknowledged) <= set(kept)
    assert len(kept) == len(set(kept))
    assert sums == sum((totals_of(one) for one in records), Totals())


def test_records_that_come_at_once_are_kept_and_counted_at_once(tmp_path: Path) -> None:
    records = [record(n) for n in range(1200)]

    async def keep(store: SqliteUsage) -> int:
        await asyncio.gather(*(store.record(one) for one in [*records, *records]))
        return await store.count(records)

    with opened(tmp_path / "usage.db", counts_at_once=True) as store:
        assert asyncio.run(keep(store)) == 0
        kept, sums = found(store)
    assert kept == records
    assert sums == sum((totals_of(one) for one in records), Totals())


def test_what_is_waiting_is_written_before_the_store_closes(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "usage.db")
    store = SqliteUsage(file)

    async def leave() -> None:
        waiting = [asyncio.ensure_future(store.record(record(n))) for n in range(50)]
        await asyncio.sleep(0)
        await asyncio.to_thread(file.close)
        await asyncio.gather(*waiting)
        with pytest.raises(StoreUnavailable):
            await store.record(record(99))

    asyncio.run(leave())
    with opened(tmp_path / "usage.db") as again:
        assert len(found(again)[0]) == 50


def test_old_calls_are_forgotten_and_their_sums_stay(tmp_path: Path) -> None:
    async def age(store: SqliteUsage) -> int:
        for n in range(4):
            await store.record(replace(record(n), started_at=NOON + timedelta(hours=n)))
        return await store.forget(NOON + timedelta(hours=2))

    with opened(tmp_path / "usage.db", counts_at_once=True) as store:
        assert asyncio.run(age(store)) == 2
        kept, sums = found(store)
    assert (len(kept), sums.requests) == (2, 4)


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "usage.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match="version 99"):
        SqliteFile(file)


def test_a_file_of_the_first_version_is_read_and_counted_on(tmp_path: Path) -> None:
    file = tmp_path / "usage.db"
    with opened(file, counts_at_once=True) as store:
        asyncio.run(store.record(record(1)))
    with closing(sqlite3.connect(file)) as connection:  # as that version left it
        connection.execute("ALTER TABLE rollup DROP COLUMN revision")
        for table in ("outcome", "budget_spent", "budget_hold", "budget_told"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version = 1")
    with opened(file, counts_at_once=True) as store:
        asyncio.run(store.record(record(2)))
        assert found(store) == ([record(1), record(2)], totals_of(record(1)) + totals_of(record(2)))


def test_a_file_that_is_no_database_is_told_of(tmp_path: Path) -> None:
    file = tmp_path / "usage.db"
    file.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreUnavailable):
        SqliteFile(file)


def test_a_record_that_cannot_be_written_down_hinders_no_other(tmp_path: Path) -> None:
    async def run(store: SqliteUsage) -> None:
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(store.record(record(1, calling_service="\ud800")), timeout=5)
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(store.count([record(1, call_id="\ud800")]), timeout=5)
        await asyncio.wait_for(store.record(record(2)), timeout=5)

    with opened(tmp_path / "usage.db", counts_at_once=True) as store:
        asyncio.run(run(store))
        assert [one.call_id for one in found(store)[0]] == [record(2).call_id]


def test_a_caller_that_is_gone_does_not_stop_the_writer(tmp_path: Path) -> None:
    async def leave(store: SqliteUsage) -> None:
        asyncio.ensure_future(store.record(record(1)))  # noqa: RUF006
        await asyncio.sleep(0.05)

    file = tmp_path / "usage.db"
    with opened(file) as store:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            asyncio.run(leave(store))
            other.execute("ROLLBACK")
        asyncio.run(asyncio.wait_for(store.record(record(2)), timeout=5))
        assert found(store)[0] == [record(1), record(2)]


def test_sums_are_those_of_the_ledger_whatever_is_delivered_to_be_counted(tmp_path: Path) -> None:
    async def run(store: SqliteUsage) -> None:
        await store.record(record(1))
        assert await store.count([replace(record(1), latency_ms=999)] * 2) == 1

    with opened(tmp_path / "usage.db") as store:
        asyncio.run(run(store))
        assert found(store)[1] == totals_of(record(1))


def test_sums_have_every_digit_of_their_costs(tmp_path: Path) -> None:
    async def run(store: SqliteUsage) -> Decimal:
        for n, cost in enumerate(("12345678.0000000000000000001", "9.87654321E-21", "1E+9")):
            await store.record(record(n, cost_usd=Decimal(cost)))
        (rollup,) = await store.read("hour", NOON, NOON + timedelta(hours=1))
        return rollup.totals.cost_usd

    with opened(tmp_path / "usage.db", counts_at_once=True) as store:
        assert asyncio.run(run(store)) == Decimal("1012345678.00000000000000000010987654321")
