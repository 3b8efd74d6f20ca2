"""Sums set right from the ledger, on the fake, in a file and on the local AWS, while calls come in."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import pytest

from llm_gateway.adapters.aws.ledger import DynamoUsageLedger
from llm_gateway.adapters.aws.ledger_reader import DynamoLedgerReader
from llm_gateway.adapters.aws.rollup_repair import DynamoRollupRepair
from llm_gateway.adapters.aws.sdk import ask
from llm_gateway.adapters.local.sqlite_file import SqliteFile
from llm_gateway.adapters.local.usage_repair import SqliteUsageRepair
from llm_gateway.errors import InvalidParameter
from llm_gateway.usage.ledger import UsageLedger
from llm_gateway.usage.rebuild import (
    LedgerEntry,
    LedgerReader,
    Rebuild,
    RebuildReport,
    ReplaceableRollups,
    StoredRollup,
    closed_spans,
)
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.rollups import BucketWidth, Totals, totals_of
from local_aws.emulator import Emulator
from tests.contract.tables import client, create_table
from tests.contract.test_usage_stores import record
from tests.fakes import NOON, InMemoryUsage

DAY = NOON.replace(hour=0)
NEXT = DAY + timedelta(days=1)
[SPAN] = closed_spans(DAY, NEXT, NEXT + timedelta(days=3), timedelta(days=400))


class Store(UsageLedger, ReplaceableRollups, LedgerReader, Protocol):
    """All of it."""


class DynamoStore(DynamoRollupRepair):
    """All adapters on one table; pages of two items, so that every reading turns pages."""

    def __init__(self, emulator: Emulator) -> None:
        self.dynamodb = client("dynamodb", emulator)
        self.table = create_table(self.dynamodb, "UsageTable")
        super().__init__(self.dynamodb, self.table)
        self._reader = DynamoLedgerReader(self.dynamodb, self.table, page=2)

    async def record(self, record: UsageRecord) -> None:
        async def put(**arguments: Any) -> object:
            return await ask(self.dynamodb.put_item, **arguments)

        await DynamoUsageLedger(put, self.table, retention_days=400).record(record)

    @property
    def unreadable(self) -> int:
        return self._reader.unreadable

    def entries(self, hour: datetime) -> AsyncIterator[LedgerEntry]:
        return self._reader.entries(hour)


class Interrupted:
    """A reader during whose first hours something happens."""

    def __init__(self, reader: LedgerReader, *events: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._reader = reader
        self._events = list(events)
        self.unreadable = 0

    async def entries(self, hour: datetime) -> AsyncIterator[LedgerEntry]:
        async for entry in self._reader.entries(hour):
            yield entry
        if hour == NOON and self._events:
            await self._events.pop(0)()


@pytest.fixture(params=["memory", "sqlite", "local-aws"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        with closing(SqliteUsageRepair(SqliteFile(tmp_path / "usage.db"), page=2)) as file:
            yield file
    elif request.param == "memory":
        yield InMemoryUsage()
    else:
        yield DynamoStore(request.getfixturevalue("emulator"))  # type: ignore[misc]


CALLS = [record(n, calling_service=f"service-{n % 2}", latency_ms=10 * n) for n in range(40)]


async def keep(store: Store, records: Sequence[UsageRecord] = CALLS, *, count: bool = True) -> None:
    for one in records:
        await store.record(one)
    if count:
        await store.count(records)


async def rebuilt(store: Store, reader: LedgerReader | None = None, **choices: bool) -> RebuildReport:
    return await Rebuild(reader or store, store, **{"repair": True, **choices}).run(SPAN)


async def summed(store: Store, width: BucketWidth) -> Totals:
    return sum((rollup.totals for rollup in await store.read(width, DAY, NEXT)), Totals())


async def assert_exact(store: Store, records: Sequence[UsageRecord] = CALLS) -> None:
    for width in ("hour", "day"):
        assert await summed(store, width) == sum(map(totals_of, records), Totals())


async def plant(store: Store, width: BucketWidth, **changes: Any) -> None:
    """Make the first sum of a width wrong."""
    first = (await store.stored(width, DAY, NEXT))[0]
    assert await store.replace(first, replace(first.rollup.totals, **changes))


def test_sums_that_are_right_show_no_drift_and_are_left_alone(store: Store) -> None:
    async def run() -> None:
        await keep(store)
        for repair in (False, True):
            report = await rebuilt(store, repair=repair)
            assert (report.calls, report.uncounted, report.rollups, report.drifts) == (40, 0, 4, [])
        await assert_exact(store)

    asyncio.run(run())


def test_planted_drift_is_told_by_a_dry_run_and_mended_by_a_rebuild(store: Store) -> None:
    async def run() -> None:
        await keep(store)
        await plant(store, "hour", requests=1, cost_usd=Decimal("0.5"))
        await plant(store, "day", input_tokens=7, latency_max_ms=99_999)
        told = await rebuilt(store, repair=False)
        assert [drift.outcome for drift in told.drifts] == ["found", "found"]
        mended = await rebuilt(store)
        assert [drift.outcome for drift in mended.drifts] == ["repaired", "repaired"]
        await assert_exact(store)
        assert (await rebuilt(store)).drifts == []

    asyncio.run(run())


def test_calls_that_the_stream_never_delivered_are_counted_exactly_once(store: Store) -> None:
    async def run() -> None:
        await keep(store, CALLS[:25])
        await keep(store, CALLS[25:], count=False)
        told = await rebuilt(store, repair=False)
        assert (told.uncounted, told.drifts) == (15, [])
        report = await rebuilt(store)
        assert (report.uncounted, report.drifts) == (15, [])
        assert await store.count(CALLS) == 0  # the stream delivers them after all
        await assert_exact(store)

    asyncio.run(run())


def test_a_call_that_is_counted_while_sums_are_compared_is_lost_by_no_repair(store: Store) -> None:
    async def run() -> None:
        await keep(store, CALLS[:38])
        for stored in await store.stored("hour", DAY, NEXT):
            await store.replace(stored, replace(stored.rollup.totals, requests=100))
        await plant(store, "day", output_tokens=0)

        async def one_more(call: UsageRecord) -> None:
            await keep(store, [call])

        reader = Interrupted(store, lambda: one_more(CALLS[38]), lambda: one_more(CALLS[39]))
        report = await rebuilt(store, reader, lower=True)
        assert [drift.outcome for drift in report.drifts] == ["repaired"] * 3
        await assert_exact(store)

    asyncio.run(run())


def test_rebuilds_and_the_stream_side_by_side_end_with_exact_sums(store: Store) -> None:
    async def run() -> None:
        await keep(store, CALLS[:10])
        await keep(store, CALLS[10:], count=False)
        await plant(store, "day", requests=1)
        stream = [store.count(CALLS[n : n + 6]) for n in range(8, 40, 4)]
        await asyncio.gather(rebuilt(store), rebuilt(store), *stream)
        await rebuilt(store)
        await assert_exact(store)

    asyncio.run(run())


def test_a_sum_that_is_lost_altogether_comes_back(store: Store) -> None:
    async def run() -> None:
        await keep(store)
        for width in ("hour", "day"):
            for stored in await store.stored(width, DAY, NEXT):
                await store.replace(stored, Totals())
        assert len((await rebuilt(store)).drifts) == 4
        await assert_exact(store)

    asyncio.run(run())


def test_a_sum_of_more_calls_than_the_ledger_has_is_kept_unless_it_is_to_be_lowered(store: Store) -> None:
    async def run() -> None:
        await keep(store)
        await plant(store, "day", requests=1_000)
        assert [drift.outcome for drift in (await rebuilt(store)).drifts] == ["kept"]
        assert (await summed(store, "day")).requests == 1_020
        assert [drift.outcome for drift in (await rebuilt(store, lower=True)).drifts] == ["repaired"]
        await assert_exact(store)

    asyncio.run(run())


def test_a_maximum_that_was_raised_for_a_call_about_to_be_counted_is_no_drift(store: Store) -> None:
    async def run() -> None:
        slow = replace(CALLS[39], latency_ms=5_000)
        await keep(store, CALLS[:39])
        await keep(store, [slow], count=False)
        stored = await store.stored("day", DAY, NEXT)
        mine = next(s for s in stored if s.rollup.dimensions.calling_service == slow.calling_service)
        await store.replace(mine, replace(mine.rollup.totals, latency_max_ms=5_000))
        assert (await rebuilt(store, repair=False)).drifts == []

    asyncio.run(run())


def test_a_replacement_of_what_has_changed_does_nothing(store: Store) -> None:
    async def run() -> None:
        await keep(store, CALLS[:10])
        before = (await store.stored("day", DAY, NEXT))[0]
        await keep(store)
        assert not await store.replace(before, Totals())
        await assert_exact(store)

    asyncio.run(run())


def test_the_ledger_is_read_in_order_of_time_and_tells_what_is_counted(store: Store) -> None:
    async def run() -> None:
        await keep(store, CALLS[20:])
        await keep(store, list(reversed(CALLS[:20])), count=False)
        await keep(store, [record(99, started_at=NOON + timedelta(hours=1))])
        found = [entry async for entry in store.entries(NOON)]
        assert [entry.record for entry in found] == CALLS
        assert [entry.counted for entry in found] == [False] * 20 + [True] * 20

    asyncio.run(run())


@pytest.mark.parametrize("store", ["sqlite", "local-aws"], indirect=True)
def test_values_that_came_back_by_chance_are_not_taken_for_unchanged(store: Store) -> None:
    async def run() -> None:
        await keep(store, CALLS[:10])
        before = (await store.stored("day", DAY, NEXT))[0]
        assert await store.replace(before, Totals())
        emptied = (await store.stored("day", DAY, NEXT))[0]
        assert await store.replace(emptied, before.rollup.totals)
        assert not await store.replace(before, Totals())

    asyncio.run(run())


def test_a_sum_that_is_not_there_is_made_unless_it_came_meanwhile(store: Store) -> None:
    async def run() -> None:
        await keep(store, CALLS[:1])
        [there] = await store.stored("day", DAY, NEXT)
        of_nobody = replace(there.rollup, dimensions=replace(there.rollup.dimensions, prompt="other"))
        missing = StoredRollup(replace(of_nobody, totals=Totals()))
        assert await store.replace(missing, Totals(requests=1))
        assert not await store.replace(missing, Totals(requests=2))
        assert (await summed(store, "day")).requests == 2

    asyncio.run(run())


def test_costs_of_many_digits_are_no_drift_in_a_file(tmp_path: Path) -> None:
    async def run(store: SqliteUsageRepair) -> None:
        for n, cost in enumerate(("12345678.0000000000000000001", "9.87654321E-21", "1E+9")):
            await store.record(record(n, cost_usd=Decimal(cost)))
        assert (await rebuilt(store)).drifts == []

    with closing(SqliteUsageRepair(SqliteFile(tmp_path / "usage.db"), counts_at_once=True)) as store:
        asyncio.run(run(store))


def test_a_row_of_a_file_that_holds_no_record_is_told_and_hides_no_other(tmp_path: Path) -> None:
    file = tmp_path / "usage.db"

    async def run(store: SqliteUsageRepair) -> None:
        await keep(store, CALLS[:3])
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("UPDATE ledger SET record = '{}' WHERE call_id = ?", (CALLS[1].call_id,))
        found = [entry.record async for entry in store.entries(NOON)]
        assert (found, store.unreadable) == ([CALLS[0], CALLS[2]], 1)

    with closing(SqliteUsageRepair(SqliteFile(file))) as store:
        asyncio.run(run(store))


def test_only_hours_that_are_over_for_an_hour_and_days_that_are_whole_are_compared() -> None:
    now = NOON + timedelta(minutes=30)
    spans = closed_spans(DAY - timedelta(hours=3), now, now, timedelta(days=400))
    assert [(span.start, span.end) for span in spans] == [
        (DAY - timedelta(hours=3), DAY),
        (DAY, NOON - timedelta(hours=1)),
    ]
    assert {span.widths for span in spans} == {("hour",)}
    assert SPAN.widths == ("hour", "day")


@pytest.mark.parametrize("start", [NOON, NOON - timedelta(days=30)])
def test_hours_that_are_not_over_and_ranges_that_may_have_expired_are_refused(start: datetime) -> None:
    with pytest.raises(InvalidParameter):
        closed_spans(start, NOON + timedelta(hours=1), NOON, timedelta(days=30))
