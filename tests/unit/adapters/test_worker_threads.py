"""Work beside the event loop: whose turn it is, when waiting ends, and that the loop stays free."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from llm_gateway.adapters.local.worker_threads import WorkerThreads
from llm_gateway.deadline import Deadline
from llm_gateway.errors import Overloaded
from llm_gateway.models.errors import ProviderTimeout
from llm_gateway.workers import InlineWorkers, NotQuick

T = TypeVar("T")
PATIENCE_S = 20.0


def with_workers(story: Callable[[WorkerThreads], Awaitable[T]], **bounds: int) -> T:
    async def told() -> T:
        workers = WorkerThreads(**bounds)
        try:
            return await story(workers)
        finally:
            workers.close()

    return asyncio.run(told())


def long() -> Deadline:
    return Deadline.after(PATIENCE_S)


def not_quick() -> str:
    raise NotQuick


def thread() -> str:
    return threading.current_thread().name


def test_work_runs_in_another_thread_and_quick_work_at_once() -> None:
    async def story(workers: WorkerThreads) -> list[str]:
        return [
            await workers.run(thread, long()),
            await workers.run(thread, long(), first=thread),
            await workers.run(thread, long(), first=not_quick),
        ]

    apart, here, again = with_workers(story)
    assert here == threading.main_thread().name
    assert apart.startswith("gateway-work")
    assert again.startswith("gateway-work")


def test_one_call_at_a_time_needs_no_thread_and_no_first_attempt() -> None:
    done = asyncio.run(InlineWorkers().run(thread, long(), first=not_quick))
    assert done == threading.main_thread().name


def test_what_work_raises_is_raised() -> None:
    def work() -> str:
        raise KeyError("x")

    with pytest.raises(KeyError):
        with_workers(lambda workers: workers.run(work, long()))


def test_a_call_that_waits_for_its_turn_ends_at_its_deadline_and_its_work_never_begins() -> None:
    begun: list[str] = []

    async def story(workers: WorkerThreads) -> None:
        gate = threading.Event()
        busy = asyncio.create_task(workers.run(gate.wait, long(), owner="a"))
        await asyncio.sleep(0)
        try:
            with pytest.raises(ProviderTimeout) as caught:
                await workers.run(lambda: begun.append("late"), Deadline.after(0.05), owner="a")
            assert (caught.value.status, caught.value.attempts, caught.value.retryable) == (504, 0, True)
            assert workers.waiting == 0
        finally:
            gate.set()
        await busy

    with_workers(story)
    assert begun == []


def test_a_thread_that_is_busy_for_a_call_that_gave_up_is_free_only_when_it_is_done() -> None:
    async def story(workers: WorkerThreads) -> None:
        gate, order = threading.Event(), list[str]()
        with pytest.raises(ProviderTimeout):
            await workers.run(gate.wait, Deadline.after(0.05), owner="a")
        later = asyncio.create_task(workers.run(lambda: order.append("later"), long(), owner="a"))
        await asyncio.sleep(0.05)
        assert (order, workers.waiting) == ([], 1)
        gate.set()
        await later
        assert order == ["later"]

    with_workers(story)


def test_one_owner_never_has_every_thread() -> None:
    async def story(workers: WorkerThreads) -> None:
        gate = threading.Event()
        hostile = [asyncio.create_task(workers.run(gate.wait, long(), owner="hostile")) for _ in range(5)]
        await asyncio.sleep(0)
        assert await workers.run(thread, long(), owner="other")
        assert workers.waiting == 4
        gate.set()
        await asyncio.gather(*hostile)

    with_workers(story)


def test_owners_take_turns_however_much_one_of_them_has_waiting() -> None:
    async def story(workers: WorkerThreads) -> list[str]:
        gates, order = [threading.Event(), threading.Event()], list[str]()
        busy = [
            asyncio.create_task(workers.run(gate.wait, long(), owner=f"busy {n}"))
            for n, gate in enumerate(gates)
        ]
        await asyncio.sleep(0)
        names = ["a", "a", "a", "b", "b", "c"]
        waiting = [
            asyncio.create_task(workers.run(lambda name=name: order.append(name), long(), owner=name))  # type: ignore[misc]
            for name in names
        ]
        await asyncio.sleep(0)
        gates[0].set()  # the other thread stays busy, so that one follows the other
        await asyncio.gather(*waiting)
        gates[1].set()
        await asyncio.gather(*busy)
        return order

    assert with_workers(story) == ["a", "b", "c", "a", "b", "a"]


def test_so_much_work_waits_and_more_is_refused_unless_it_was_paid_for() -> None:
    async def story(workers: WorkerThreads) -> None:
        gate = threading.Event()
        waiting = [asyncio.create_task(workers.run(gate.wait, long(), owner="a")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await workers.run(thread, long(), owner="a")
        assert caught.value.retry_after_s == 1
        paid = asyncio.create_task(workers.run(thread, long(), owner="a", paid=True))
        await asyncio.sleep(0)
        gate.set()
        assert await paid
        await asyncio.gather(*waiting)

    with_workers(story, most_waiting=2)


def test_a_caller_that_goes_away_leaves_no_place_taken() -> None:
    async def story(workers: WorkerThreads) -> None:
        gate = threading.Event()
        busy = asyncio.create_task(workers.run(gate.wait, long(), owner="a"))
        gone = asyncio.create_task(workers.run(thread, long(), owner="a"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert workers.waiting == 0
        gate.set()
        await busy
        assert await workers.run(thread, long(), owner="a")

    with_workers(story)


def test_turns_of_callers_that_all_leave_as_a_thread_becomes_free_are_not_lost() -> None:
    async def story(workers: WorkerThreads) -> None:
        gate = threading.Event()
        busy = asyncio.create_task(workers.run(gate.wait, long(), owner="a"))
        gone = [asyncio.create_task(workers.run(thread, long(), owner="a")) for _ in range(3)]
        await asyncio.sleep(0)
        gate.set()
        time.sleep(0.05)  # so that the end of the work waits in the loop while the callers leave
        for caller in gone:
            caller.cancel()
        await asyncio.gather(busy, *gone, return_exceptions=True)
        assert await workers.run(thread, long(), owner="a")
        assert workers.waiting == 0

    with_workers(story)
