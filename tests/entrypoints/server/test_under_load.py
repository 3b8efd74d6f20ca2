"""Hundreds of calls at once: what waits for what, and what a signal in between loses."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from llm_gateway.adapters.local.sqlite_file import SqliteFile
from llm_gateway.adapters.local.usage import SqliteUsage
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.rollups import Totals, totals_of
from tests.entrypoints.server.serving import CALL, OPEN, PATIENCE_S, TEST_MODE, Serving, serving
from tests.entrypoints.server.slow_model import SlowModel, slow_model

ROUNDS = 2
AT_ONCE = 200
GROWTH_MB = 120


@dataclass
class Callers:
    """Some who call, over and over, and keep count.

    Attributes:
        answered: Ids of the calls that were answered.
        refused: Codes of calls that were refused.
        broken: Errors in the middle of a request.
        unheard: Calls for which nobody listened any more.
    """

    answered: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    unheard: int = 0

    async def call(self, client: httpx2.AsyncClient, url: str) -> bool:
        """Call once; False if nobody listens."""
        try:
            answer = await client.post(f"{url}/v1/call", json=CALL, headers={"connection": "close"})
        except httpx2.ConnectError:
            self.unheard += 1
            return False
        except httpx2.TransportError as error:
            self.broken.append(type(error).__name__)
            return False
        if answer.status_code == 200:
            self.answered.append(answer.json()["call_id"])
        else:
            self.refused.append(answer.json()["error"]["code"])
        return True

    async def keep_calling(self, client: httpx2.AsyncClient, url: str, until: asyncio.Event) -> None:
        while not until.is_set() and await self.call(client, url):
            await asyncio.sleep(0.005)


@asynccontextmanager
async def client_of_many() -> AsyncIterator[httpx2.AsyncClient]:
    limits = httpx2.Limits(max_connections=AT_ONCE)
    async with httpx2.AsyncClient(limits=limits, timeout=PATIENCE_S) as client:
        yield client


def live(model: SlowModel) -> Mapping[str, str]:
    return {
        **OPEN,
        "LLM_GATEWAY_OPENAI_BASE_URL": model.url,
        "LLM_GATEWAY_OPENAI_API_KEY": "sk-test",
        "LLM_GATEWAY_LOG_LEVEL": "INFO",
    }


async def started(folder: Path, variables: Mapping[str, str]) -> Any:
    """The process, started beside the loop that its model runs in."""
    entered = serving(folder, variables)
    return entered, await asyncio.to_thread(entered.__enter__)


def ledger(folder: Path) -> tuple[list[UsageRecord], Totals]:
    """The calls in the file, and the sums beside them."""

    async def read(store: SqliteUsage) -> tuple[list[UsageRecord], Totals]:
        first, last = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
        rollups = await store.read("day", first, last)
        return list(await store.records(first, last)), sum((r.totals for r in rollups), Totals())

    with closing(SqliteFile(folder / "usage.db")) as file:
        return asyncio.run(read(SqliteUsage(file)))


def test_two_hundred_calls_wait_for_the_model_side_by_side(tmp_path: Path) -> None:
    """The model answers none of them before all have come: a call that waits for another hangs the test."""

    async def run() -> None:
        async with slow_model(0) as model, client_of_many() as client:
            entered, server = await started(tmp_path, live(model))
            try:
                await call_together(client, server, model)
            finally:
                await asyncio.to_thread(entered.__exit__, None, None, None)

    async def call_together(client: httpx2.AsyncClient, server: Serving, model: SlowModel) -> None:
        callers = Callers()
        await callers.call(client, server.url)
        idle_mb, model.together = server.resident_mb(), AT_ONCE
        for _ in range(ROUNDS):
            await asyncio.gather(*(callers.call(client, server.url) for _ in range(AT_ONCE)))
        assert (callers.refused, callers.broken) == ([], [])
        assert len(callers.answered) == model.asked == ROUNDS * AT_ONCE + 1
        assert server.resident_mb() < idle_mb + GROWTH_MB

    asyncio.run(run())
    records, sums = ledger(tmp_path)
    assert len(records) == sums.requests == ROUNDS * AT_ONCE + 1


def test_a_signal_under_load_loses_no_call(tmp_path: Path) -> None:
    callers = Callers()

    async def run() -> int:
        async with slow_model(0.4) as model, client_of_many() as client:
            entered, server = await started(tmp_path, live(model))
            try:
                over = asyncio.Event()
                calling = [
                    asyncio.create_task(callers.keep_calling(client, server.url, over)) for _ in range(40)
                ]
                while model.answered < 80:
                    await asyncio.sleep(0.01)
                server.process.send_signal(signal.SIGTERM)
                code = await asyncio.to_thread(server.process.wait, PATIENCE_S)
                over.set()
                await asyncio.gather(*calling)
                assert model.asked == model.answered == len(callers.answered)
                assert [line["message"] for line in server.lines()[-1:]] == ["stopped"]
                return int(code)
            finally:
                await asyncio.to_thread(entered.__exit__, None, None, None)

    assert asyncio.run(run()) == 0
    assert set(callers.refused) <= {"overloaded"}
    records, sums = ledger(tmp_path)
    assert {record.call_id for record in records} == set(callers.answered)
    assert sums == sum((totals_of(record) for record in records), Totals())


def test_while_it_drains_it_refuses_new_calls_and_is_not_ready(tmp_path: Path) -> None:
    async def run() -> None:
        async with slow_model(2) as model, client_of_many() as client:
            entered, server = await started(tmp_path, live(model))
            try:
                callers, late = Callers(), Callers()
                under_way = asyncio.create_task(callers.call(client, server.url))
                while not model.asked:
                    await asyncio.sleep(0.01)
                server.process.send_signal(signal.SIGTERM)
                while (await client.get(f"{server.url}/health/ready")).status_code == 200:
                    await asyncio.sleep(0.01)
                assert await late.call(client, server.url)
                assert late.refused == ["overloaded"]
                await under_way
                assert len(callers.answered) == 1
                assert await asyncio.to_thread(server.process.wait, PATIENCE_S) == 0
            finally:
                await asyncio.to_thread(entered.__exit__, None, None, None)

    asyncio.run(run())


@pytest.mark.parametrize("end", ["grace", "second signal"])
def test_a_call_that_takes_too_long_does_not_keep_it_from_ending(end: str, tmp_path: Path) -> None:
    grace_s = "1" if end == "grace" else "60"

    async def run() -> None:
        async with slow_model(60) as model, client_of_many() as client:
            variables = {**live(model), "LLM_GATEWAY_SHUTDOWN_GRACE_S": grace_s}
            entered, server = await started(tmp_path, variables)
            try:
                callers = Callers()
                under_way = asyncio.create_task(callers.call(client, server.url))
                while not model.asked:
                    await asyncio.sleep(0.01)
                server.process.send_signal(signal.SIGTERM)
                if end == "second signal":
                    while (await client.get(f"{server.url}/health/ready")).status_code == 200:
                        await asyncio.sleep(0.01)
                    server.process.send_signal(signal.SIGTERM)
                code = await asyncio.to_thread(server.process.wait, PATIENCE_S)
                assert code == (0 if end == "grace" else -signal.SIGTERM)
                await under_way
                assert callers.answered == []
                assert callers.refused == (["overloaded"] if end == "grace" else [])
            finally:
                await asyncio.to_thread(entered.__exit__, None, None, None)

    asyncio.run(run())
    assert [record.error_code for record in ledger(tmp_path)[0]] == (["cancelled"] if end == "grace" else [])


def test_a_process_that_is_killed_under_load_has_lost_no_call_that_it_answered(tmp_path: Path) -> None:
    callers = Callers()

    async def run() -> None:
        async with slow_model(0.05) as model, client_of_many() as client:
            for kill in range(3):
                entered, server = await started(tmp_path, live(model))
                try:
                    over, before = asyncio.Event(), len(callers.answered)
                    calling = [
                        asyncio.create_task(callers.keep_calling(client, server.url, over)) for _ in range(30)
                    ]
                    while len(callers.answered) < before + 60 + 17 * kill:
                        await asyncio.sleep(0.005)
                    server.process.kill()
                    over.set()
                    await asyncio.gather(*calling)
                finally:
                    await asyncio.to_thread(entered.__exit__, None, None, None)

    asyncio.run(run())
    records, sums = ledger(tmp_path)
    kept = [record.call_id for record in records]
    assert len(kept) == len(set(kept))
    assert set(callers.answered) <= set(kept)
    expected = sum((totals_of(record) for record in records), Totals())
    assert sums == expected
    with serving(tmp_path, TEST_MODE) as server:
        told = server.usage()["totals"]
    assert told["requests"] == len(records)
    assert Decimal(told["cost_usd"]) == expected.cost_usd
