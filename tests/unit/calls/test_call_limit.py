"""Places for calls, and work that is done whoever goes away."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from llm_gateway.calls.admission import CallLimit
from llm_gateway.calls.shield import to_the_end
from llm_gateway.errors import Overloaded


def test_one_call_more_than_there_are_places_is_refused_and_told_when_to_come_back() -> None:
    limit = CallLimit(2)
    with limit.place(), limit.place():
        assert limit.taken == 2
        with pytest.raises(Overloaded) as caught, limit.place():
            pytest.fail("there was no place")
    assert (caught.value.retryable, caught.value.retry_after_s) == (True, 1.0)


def test_a_place_is_free_again_whatever_became_of_the_call() -> None:
    limit = CallLimit(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), limit.place():
            raise ZeroDivisionError
    assert limit.taken == 0


def test_a_refusal_takes_no_place() -> None:
    limit = CallLimit(1)
    with ExitStack() as calls:
        calls.enter_context(limit.place())
        for _ in range(3):
            with pytest.raises(Overloaded), limit.place():
                pytest.fail("there was no place")
        assert limit.taken == 1


@pytest.mark.parametrize("cancellations", [1, 3])
def test_work_is_done_to_its_end_before_a_cancellation_takes_effect(cancellations: int) -> None:
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.01)
        done.append("written")

    async def scenario() -> None:
        waiting = asyncio.create_task(to_the_end(work()))
        for _ in range(cancellations):
            await asyncio.sleep(0)
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.sleep(0.02)  # whoever insists goes on without it, and it is done all the same

    asyncio.run(scenario())
    assert done == ["written"]


def test_what_goes_wrong_in_it_is_told() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(to_the_end(work()))
