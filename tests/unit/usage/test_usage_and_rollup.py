"""Money and sums."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from llm_gateway.errors import StoreUnavailable
from llm_gateway.models.catalogue import ModelPrice
from llm_gateway.models.completion import TokenUsage
from llm_gateway.usage.ledger import LedgerWithSpare
from llm_gateway.usage.pricing import cost_usd
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.rollups import (
    BucketWidth,
    ReportWidth,
    Rollup,
    Totals,
    UsageQuestion,
    answer,
    rollups_of,
)
from tests.fakes import NOON, InMemoryUsage, RecordingObserver

PRICE = ModelPrice(Decimal("2.50"), Decimal("10.00"), Decimal("1.25"))


def test_cached_tokens_leave_the_full_rate_first() -> None:
    assert cost_usd(TokenUsage(1000, 200, 400), PRICE) == Decimal("0.004")


def test_tokens_written_to_the_cache_leave_the_full_rate_too() -> None:
    dearer = replace(PRICE, cache_write=Decimal("3.00"))
    usage = TokenUsage(1000, 200, 400, 0, 500)
    assert cost_usd(usage, dearer) == Decimal("0.00425")
    assert cost_usd(usage, PRICE) == Decimal("0.004"), "without a rate of their own they cost the full one"


@pytest.mark.parametrize(
    ("usage", "price"),
    [(TokenUsage(1000, 200), None), (TokenUsage(None, 200), PRICE), (TokenUsage(1000, None), PRICE)],
)
def test_what_is_not_known_has_no_cost_and_is_not_free(usage: TokenUsage, price: ModelPrice | None) -> None:
    assert cost_usd(usage, price) is None


@pytest.mark.parametrize("usage", [TokenUsage(10, 1, 11), TokenUsage(10, 1, 6, 0, 5), TokenUsage(10, 1, -1)])
def test_more_cached_and_written_than_input_breaks_the_adapters_promise(usage: TokenUsage) -> None:
    with pytest.raises(ValueError, match="cached"):
        cost_usd(usage, PRICE)


moments = st.datetimes(datetime(2026, 10, 25), datetime(2026, 12, 2), timezones=st.just(UTC))
token_counts = st.one_of(st.none(), st.integers(0, 10**6))
records = st.builds(
    UsageRecord,
    call_id=st.uuids().map(str),
    request_id=st.just("r"),
    started_at=moments,
    status=st.sampled_from(["answered", "failed", "timed_out"]),
    error_code=st.none(),
    calling_service=st.sampled_from([None, "shop", "billing"]),
    prompt=st.sampled_from(["a.md", "b.md"]),
    prompt_version=st.just("v1"),
    provider=st.just("openai"),
    model=st.sampled_from(["gpt-4o", "gpt-4o-mini"]),
    usage=st.builds(TokenUsage, token_counts, token_counts, token_counts, token_counts),
    cost_usd=st.one_of(st.none(), st.decimals(0, 100, places=9)),
    latency_ms=st.integers(0, 120_000),
    attempts=st.integers(1, 4),
    test_mode=st.booleans(),
)
hours = st.datetimes(datetime(2026, 10, 25), datetime(2026, 12, 2), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(minute=0, second=0, microsecond=0)
)


async def counted(calls: list[UsageRecord]) -> InMemoryUsage:
    store = InMemoryUsage()
    for call in calls:
        await store.record(call)
    await store.count(calls)
    return store


@settings(max_examples=40, deadline=None)
@given(
    calls=st.lists(records, max_size=12),
    start=hours,
    length=st.integers(1, 900),
    width=st.sampled_from(["hour", "day", "total"]),
    group_by=st.lists(st.sampled_from(["calling_service", "model", "status", "test_mode"]), unique=True),
)
def test_an_answer_from_sums_is_the_sum_over_the_calls_themselves(
    calls: list[UsageRecord], start: datetime, length: int, width: ReportWidth, group_by: list[str]
) -> None:
    end = start + timedelta(hours=length)
    question = UsageQuestion(start, end, width, {"prompt": "a.md"}, tuple(group_by))

    async def ask() -> Totals:
        rows = await answer(await counted(calls), question)
        assert [row.start for row in rows] == sorted(row.start for row in rows)
        assert len({(row.start, tuple(row.group.items())) for row in rows}) == len(rows)
        return sum((row.totals for row in rows), Totals())

    inside = [call for call in calls if start <= call.started_at < end and call.prompt == "a.md"]
    found = asyncio.run(ask())
    assert found.requests == len(inside)
    assert found.errors == sum(call.status != "answered" for call in inside)
    assert found.input_tokens == sum(call.usage.input_tokens or 0 for call in inside)
    assert found.cost_usd == sum((call.cost_usd or Decimal(0) for call in inside), Decimal(0))


class CountingReads(InMemoryUsage):
    """Notes each range that is read."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges: list[tuple[str, datetime, datetime]] = []

    @override
    async def read(self, width: BucketWidth, start: datetime, end: datetime) -> Sequence[Rollup]:
        self.ranges.append((width, start, end))
        return await super().read(width, start, end)


@pytest.mark.parametrize(
    ("start", "end", "widths"),
    [
        ("2026-11-01T00", "2026-11-03T00", ["day"]),
        ("2026-11-01T05", "2026-11-03T07", ["hour", "day", "hour"]),
        ("2026-11-01T05", "2026-11-01T07", ["hour"]),
        ("2026-11-01T05", "2026-11-02T00", ["hour"]),
        ("2026-11-01T23", "2026-11-02T01", ["hour"]),
    ],
)
def test_whole_days_are_read_as_days(start: str, end: str, widths: list[str]) -> None:
    store = CountingReads()
    first, last = (datetime.fromisoformat(f"{text}:00:00+00:00") for text in (start, end))
    asyncio.run(answer(store, UsageQuestion(first, last, "total")))
    assert [width for width, _, _ in store.ranges] == widths
    edges = [edge for _, low, high in store.ranges for edge in (low, high)]
    assert (edges[0], edges[-1]) == (first, last)
    assert edges[1:-1:2] == edges[2:-1:2], "the parts follow each other without gap or overlap"


def test_a_call_is_in_one_hour_and_one_day() -> None:
    call = UsageRecord(
        "c", "r", NOON.replace(minute=59), "answered", None, None, None, "p", "v", "openai", "m",
        TokenUsage(1, 2), Decimal(1), 5, 1, False,
    )  # fmt: skip
    assert [(r.width, r.start.hour) for r in rollups_of([call])] == [("hour", 12), ("day", 0)]


class Ledger(InMemoryUsage):
    """Takes its time, or refuses."""

    def __init__(self, seconds: float = 0, *, down: bool = False) -> None:
        super().__init__()
        self._seconds = seconds
        self.down = down

    @override
    async def record(self, record: UsageRecord) -> None:
        await asyncio.sleep(self._seconds)
        await super().record(record)


@pytest.mark.parametrize(
    ("ledger", "spared"), [(Ledger(), 0), (Ledger(down=True), 1), (Ledger(seconds=30), 1)]
)
def test_a_ledger_that_refuses_or_dawdles_has_a_spare(ledger: Ledger, spared: int) -> None:
    spare, observer = InMemoryUsage(), RecordingObserver()
    both = LedgerWithSpare(ledger, spare, observer, patience_s=0.05)
    began = time.monotonic()
    asyncio.run(both.record(call()))
    assert time.monotonic() - began < 1
    assert (len(ledger.records), len(spare.records), len(observer.spared)) == (1 - spared, spared, spared)


def test_if_both_refuse_the_caller_is_told() -> None:
    both = LedgerWithSpare(Ledger(down=True), Ledger(down=True), RecordingObserver())
    with pytest.raises(StoreUnavailable):
        asyncio.run(both.record(call()))


def call() -> UsageRecord:
    return UsageRecord(
        "c", "r", NOON, "answered", None, None, None, "p", "v", "openai", "m",
        TokenUsage(1, 2), Decimal(1), 5, 1, False,
    )  # fmt: skip
