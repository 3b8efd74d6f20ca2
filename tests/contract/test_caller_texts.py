"""Whatever callers call themselves and attach to a call: no key, no sum and no export is broken by it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from llm_gateway.adapters.aws.usage_events import detail_of
from llm_gateway.adapters.local.sqlite_file import SqliteFile
from llm_gateway.adapters.local.usage_repair import SqliteUsageRepair
from llm_gateway.api.calls import CallRequest
from llm_gateway.errors import RequestError
from llm_gateway.usage.export import csv_writer, export_ledger, json_writer
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.rollups import UsageQuestion, answer
from llm_gateway.validation import validated
from tests.contract.test_rebuild import DynamoStore, Store
from tests.contract.test_usage_stores import record
from tests.fakes import NOON, InMemoryUsage

HOUR = timedelta(hours=1)
hours = count()  # each example has one of its own
printable = st.characters(exclude_categories=("C", "Zl", "Zp"))
signs = st.sampled_from("=+-@＝＋－＠'\"\\,;|#/{}[]%\u202f\U0001f9fe")  # noqa: RUF001


def texts(least: int, most: int) -> st.SearchStrategy[str]:
    return st.text(printable | signs, min_size=least, max_size=most)


services = st.none() | texts(1, 64)
metadata = st.dictionaries(texts(1, 12), texts(0, 12), max_size=3)
FORMULAS = [(f'{sign}HYPERLINK("x"),1', {sign: f"{sign}1"}) for sign in "=+-@'"]


@pytest.fixture(params=["memory", "sqlite", "local-aws"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        with closing(SqliteUsageRepair(SqliteFile(tmp_path / "usage.db"))) as file:
            yield file
    elif request.param == "memory":
        yield InMemoryUsage()
    else:
        yield DynamoStore(request.getfixturevalue("emulator"))  # type: ignore[misc]


def call(number: int, service: str | None, attached: dict[str, str]) -> UsageRecord:
    """A call as a request makes it."""
    given = {"prompt": "p", "calling_service": service, "metadata": attached}
    request = validated(CallRequest, given)
    plain = record(number, calling_service=request.calling_service, metadata=request.metadata)
    return replace(plain, call_id=uuid.uuid4().hex)


def read_back(cell: str) -> str | None:
    """A cell as docs/command-line.md says that it is read."""
    return (cell[1:] if re.match(r"'+[=+\-@＝＋－＠\t\r\n]", cell) else cell) or None  # noqa: RUF001


async def exported(store: Store, hour: int) -> tuple[list[dict[str, str]], list[dict[str, object]]]:
    as_csv, as_json = io.StringIO(newline=""), io.StringIO(newline="")
    start = NOON + hour * HOUR
    for write in (csv_writer(as_csv), json_writer(as_json)):
        await export_ledger(store, start, start + HOUR, write)
    as_csv.seek(0)
    return list(csv.DictReader(as_csv)), [json.loads(line) for line in as_json.getvalue().splitlines()]


async def assert_kept(store: Store, calls: Sequence[UsageRecord], hour: int) -> None:
    for one in calls:
        await store.record(one)
    assert await store.count(calls) == len(calls)
    start = NOON + hour * HOUR
    assert [entry.record async for entry in store.entries(start)] == list(calls)
    rows = await answer(store, UsageQuestion(start, start + HOUR, "hour", group_by=("calling_service",)))
    summed = {row.group["calling_service"]: row.totals.requests for row in rows}
    services = [one.calling_service for one in calls]
    assert summed == {service: services.count(service) for service in services}
    table, lines = await exported(store, hour)
    assert [read_back(row["calling_service"]) for row in table] == services
    assert not any(row["calling_service"].startswith(tuple("=+-@")) for row in table)
    assert [line["calling_service"] for line in lines] == services
    attached = [one.metadata for one in calls]
    assert [json.loads(row["metadata"]) for row in table] == attached
    assert [line["metadata"] for line in lines] == attached
    assert [json.loads(json.dumps(detail_of(one)))["metadata"] for one in calls] == attached


@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(given=st.lists(st.tuples(services, metadata), min_size=1, max_size=5))
@example(given=FORMULAS)
def test_any_printable_text_comes_through_ledger_sums_exports_and_events(
    store: Store, given: list[tuple[str | None, dict[str, str]]]
) -> None:
    hour = next(hours)
    calls = [
        replace(call(n, *one), started_at=NOON + hour * HOUR + timedelta(seconds=n))
        for n, one in enumerate(given)
    ]
    asyncio.run(assert_kept(store, calls, hour))


@pytest.mark.parametrize(
    ("attached", "field"),
    [
        ({"": "x"}, "metadata"),
        ({"k" * 65: "x"}, "metadata"),
        ({"tab\t": "x"}, "metadata"),
        ({"line": "a\u2028b"}, "metadata.line"),
        ({"half": "\ud800"}, "metadata.half"),
        ({"number": 1}, "metadata.number"),
        ({f"key-{n}": "" for n in range(17)}, "metadata"),
        ({"long": "x" * 246}, "metadata"),
        ({"wide": "✓" * 82}, "metadata"),
        ("text", "metadata"),
    ],
)
def test_metadata_that_are_not_small_and_printable_are_refused(attached: object, field: str) -> None:
    with pytest.raises(RequestError) as caught:
        validated(CallRequest, {"prompt": "p", "metadata": attached})
    assert caught.value.param is not None
    assert (caught.value.status, caught.value.param.startswith(field)) == (400, True)


def test_256_bytes_of_metadata_are_taken() -> None:
    for attached in ({"long": "x" * 245}, {"wide": "✓" * 81 + "xx"}):
        assert validated(CallRequest, {"prompt": "p", "metadata": attached}).metadata == attached
