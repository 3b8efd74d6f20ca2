"""What every usage store promises: the fake, and DynamoDB by the local AWS (whose transactions hold)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from llm_gateway.adapters.aws.ledger import DynamoUsageLedger, ledger_item, record_of
from llm_gateway.adapters.aws.rollups import DynamoRollups
from llm_gateway.adapters.aws.sdk import ask
from llm_gateway.adapters.aws.signed_put import SignedPut
from llm_gateway.adapters.aws.usage_queue import from_message, to_message
from llm_gateway.adapters.local.sqlite_file import SqliteFile
from llm_gateway.adapters.local.usage import SqliteUsage
from llm_gateway.api.fields import MAX_METADATA_BYTES
from llm_gateway.formats import to_metadata_text
from llm_gateway.models.completion import TokenUsage
from llm_gateway.usage.ledger import UsageLedger
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.rollups import RollupStore, Totals, totals_of
from local_aws.emulator import Emulator
from tests.contract.tables import client, create_table
from tests.fakes import NOON, InMemoryUsage


class UsageStore(UsageLedger, RollupStore, Protocol):
    """Both halves of it."""


class DynamoUsage(DynamoRollups):
    """Both adapters on one table, the ledger by either way of writing."""

    def __init__(self, emulator: Emulator, *, lean: bool) -> None:
        self._dynamodb = client("dynamodb", emulator)
        self._usage_table = create_table(self._dynamodb, "UsageTable")
        self._lean = lean
        super().__init__(self._dynamodb, self._usage_table)

    async def record(self, record: UsageRecord) -> None:
        async with httpx2.AsyncClient() as http:
            signed = SignedPut(http, self._dynamodb, Credentials("test", "test"))
            put = signed if self._lean else partial(ask, self._dynamodb.put_item)
            await DynamoUsageLedger(put, self._usage_table, retention_days=400).record(record)


@pytest.fixture(params=["memory", "sqlite", "local-aws", "local-aws-lean"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UsageStore]:
    if request.param == "sqlite":
        with closing(SqliteFile(tmp_path / "usage.db")) as file:
            yield SqliteUsage(file)
    elif request.param == "memory":
        yield InMemoryUsage()
    else:
        yield DynamoUsage(request.getfixturevalue("emulator"), lean=request.param == "local-aws-lean")


def record(number: int = 0, **changes: object) -> UsageRecord:
    usage = TokenUsage(1000 + number, 200, 400, None)
    plain = UsageRecord(
        call_id=f"{number:032x}",
        request_id="r",
        started_at=NOON + timedelta(seconds=number),
        status="answered",
        error_code=None,
        calling_service="shop",
        correlation_id=None,
        prompt="support/reply.prompt",
        prompt_version="v1",
        provider="openai",
        model="gpt-4o-mini",
        usage=usage,
        cost_usd=Decimal("0.000000000001") * (number + 1),
        latency_ms=10,
        attempts=1,
        test_mode=False,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


CALLS = 40
histories = st.lists(st.lists(st.integers(0, CALLS - 1), min_size=1, max_size=60), max_size=5)


async def keep(store: UsageStore, records: Sequence[UsageRecord]) -> None:
    for one in records:
        await store.record(one)


async def totals(store: UsageStore, width: str = "day") -> Totals:
    start = NOON.replace(hour=0)
    found = await store.read(width, start, start + timedelta(days=1))  # type: ignore[arg-type]
    return sum((rollup.totals for rollup in found), Totals())


def test_a_record_comes_back_from_its_item_as_it_was() -> None:
    unknown = record(cost_usd=None, calling_service=None, usage=TokenUsage(), error_code="x")
    for one in (record(), unknown, record(metadata={"team": "✓", "empty": ""})):
        assert record_of(ledger_item(one, NOON)) == one


def size_of(value: Any) -> int:
    """As DynamoDB counts: UTF-8, numbers by their digits, 3 bytes for a map and 1 for each part of it."""
    [(kind, content)] = value.items()
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + size_of(part) for name, part in content.items())
    return len(str(content).encode())


@settings(max_examples=100, deadline=None)
@given(metadata=st.dictionaries(st.text(min_size=1, max_size=64), st.text(max_size=250), max_size=16))
def test_a_call_of_long_names_costs_one_write_unit_with_all_the_metadata_it_may_have(
    metadata: dict[str, str],
) -> None:
    """A unit is 1 KB. Prompt paths and versions may be longer than is usual, and names of wide letters."""
    assume(len(to_metadata_text(metadata).encode()) <= MAX_METADATA_BYTES)
    long = record(
        7,
        request_id=str(uuid.uuid4()),
        status="timed_out",
        error_code="output_schema_mismatch",
        correlation_id=str(uuid.uuid4()),
        calling_service="c" * 64,
        prompt="support/replies/" + "p" * 48,
        prompt_version="096fKKXRTRtl3on89fVO.nfljtsv6qko~0123456789abcdef",
        model="gpt-4o-mini-2024-07-18",
        usage=TokenUsage(123_456, 12_345, 12_345, 12_345, 12_345),
        cost_usd=Decimal("0.0123456789"),
        metadata=metadata,
    )
    item = {**ledger_item(long, NOON), "counted": {"BOOL": True}}
    assert sum(len(name) + size_of(value) for name, value in item.items()) < 1024


def test_an_ordinary_call_costs_one_write_unit() -> None:
    ordinary = record(
        7,
        request_id=str(uuid.uuid4()),
        correlation_id="ticket-1017",
        calling_service="customer-support",
        prompt="support/replies/late-parcel.prompt",
        prompt_version="096fKKXRTRtl3on89fVO.nfljtsv6qko~0123456789abcdef",
        cost_usd=Decimal("0.0123456789"),
    )
    item = ledger_item(ordinary, NOON)
    assert sum(len(name) + size_of(value) for name, value in item.items()) < 1024 - MAX_METADATA_BYTES


def test_a_record_comes_back_from_its_message_as_it_was() -> None:
    for one in (record(), record(cost_usd=None, calling_service="✓ | #", usage=TokenUsage())):
        assert from_message(to_message(one)) == one


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", '{"pk": {"S": "x"}}', "null", '{"call_id": 5}'])
def test_a_message_that_holds_no_record_is_a_value_error(body: str) -> None:
    with pytest.raises(ValueError, match="holds no record"):
        from_message(body)


@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=histories)
def test_sums_are_exact_whatever_the_history_of_deliveries(
    emulator: Emulator, history: Sequence[Sequence[int]]
) -> None:
    """Batches come again, split otherwise, out of order, side by side, and are cut off in the middle."""
    store = DynamoUsage(emulator, lean=False)
    records = [record(n, calling_service=f"service-{n % 3}", latency_ms=n) for n in range(CALLS)]

    async def run() -> None:
        await keep(store, records)
        for batch in history:
            halves = batch[: len(batch) // 2], batch[len(batch) // 2 :]
            pending = [asyncio.ensure_future(store.count([records[n] for n in half])) for half in halves]
            await asyncio.wait(pending, timeout=0.004 * (len(batch) % 5))
            for work in pending:  # the function dies; what AWS has taken in, it has taken in
                work.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        await asyncio.sleep(0.05)  # threads that the dead function left behind
        await store.count(records)  # the last delivery succeeds
        for width in ("hour", "day"):
            found = await totals(store, width)
            assert found == sum((totals_of(one) for one in records), Totals())

    asyncio.run(run())


def test_an_item_that_is_no_record_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="call_id"):
        record_of({"pk": {"S": "call#x"}, "sk": {"S": "y"}})


def test_counted_calls_add_up_exactly_in_hours_and_days(store: UsageStore) -> None:
    async def run() -> None:
        records = [record(n) for n in range(70)]
        await keep(store, records)
        assert await store.count(records) == 70
        for width in ("hour", "day"):
            assert await totals(store, width) == Totals(
                requests=70,
                input_tokens=sum(1000 + n for n in range(70)),
                output_tokens=70 * 200,
                cached_input_tokens=70 * 400,
                cost_usd=Decimal("0.000000000001") * sum(range(1, 71)),
                latency_ms=700,
                latency_max_ms=10,
            )

    asyncio.run(run())


def test_a_call_counts_once_however_often_and_in_whatever_company_it_is_delivered(store: UsageStore) -> None:
    async def run() -> None:
        records = [record(n) for n in range(6)]
        await keep(store, records)
        assert await store.count(records[:4]) == 4
        assert await store.count(records[2:]) == 2
        assert await store.count([*records, *reversed(records)]) == 0
        assert (await totals(store)).requests == 6

    asyncio.run(run())


def test_a_second_write_of_the_same_call_changes_nothing(store: UsageStore) -> None:
    async def run() -> None:
        await keep(store, [record(), record()])
        await store.count([record()])
        await store.record(record())
        assert await store.count([record()]) == 0
        assert (await totals(store)).requests == 1

    asyncio.run(run())


def test_parallel_counters_of_the_same_calls_count_each_once(store: UsageStore) -> None:
    async def run() -> None:
        records = [record(n) for n in range(20)]
        await keep(store, records)
        counted = await asyncio.gather(*(store.count(records[n : n + 10]) for n in (0, 3, 6, 10)))
        assert sum(counted) == 20
        assert (await totals(store)).requests == 20

    asyncio.run(run())


def test_what_tells_calls_apart_stays_apart_whatever_it_is_written_with(store: UsageStore) -> None:
    services = [None, "shop", "shop#2", "a|b/c", '{"quoted": "✓"}', "None"]

    async def run() -> None:
        records = [record(n, calling_service=service) for n, service in enumerate(services)]
        await keep(store, records)
        await store.count(records)
        start = NOON.replace(hour=0)
        found = await store.read("day", start, start + timedelta(days=1))
        assert {r.dimensions.calling_service for r in found} == set(services)
        assert all(r.totals.requests == 1 for r in found)

    asyncio.run(run())


def test_reading_takes_the_start_and_leaves_the_end(store: UsageStore) -> None:
    async def run() -> None:
        hours = [NOON - timedelta(hours=1), NOON, NOON + timedelta(hours=1), NOON + timedelta(days=1)]
        records = [record(n, started_at=hour) for n, hour in enumerate(hours)]
        await keep(store, records)
        await store.count(records)
        found = await store.read("hour", NOON, NOON + timedelta(hours=1))
        assert [r.start for r in found] == [NOON]
        assert len(await store.read("hour", hours[0], hours[-1] + timedelta(hours=1))) == 4
        assert len(await store.read("day", NOON.replace(day=1, hour=0), NOON + timedelta(days=30))) == 2

    asyncio.run(run())


def test_the_longest_latency_is_kept_whatever_the_order(store: UsageStore) -> None:
    async def run() -> None:
        records = [record(n, latency_ms=latency) for n, latency in enumerate((30, 900, 7, 400))]
        await keep(store, records)
        for one in records:
            await store.count([one])
        found = await totals(store)
        assert (found.latency_ms, found.latency_max_ms) == (1337, 900)

    asyncio.run(run())


def test_a_replay_is_a_request_that_is_no_error_and_cost_nothing(store: UsageStore) -> None:
    async def run() -> None:
        nothing = TokenUsage(0, 0, 0, 0)
        records = [record(1), record(2, status="replayed", usage=nothing, cost_usd=Decimal(0))]
        await keep(store, records)
        await store.count(records)
        found = await totals(store)
        assert (found.requests, found.errors, found.unpriced, found.output_tokens) == (2, 0, 0, 200)

    asyncio.run(run())


def test_unknown_is_not_free(store: UsageStore) -> None:
    async def run() -> None:
        records = [
            record(1, usage=TokenUsage(), cost_usd=None),
            record(2, status="timed_out", usage=TokenUsage(), cost_usd=None),
        ]
        await keep(store, records)
        await store.count(records)
        found = await totals(store)
        assert (found.requests, found.errors, found.unpriced) == (2, 1, 1)

    asyncio.run(run())
