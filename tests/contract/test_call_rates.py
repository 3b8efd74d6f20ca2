"""What every counter of calls promises: memory, and DynamoDB by the local AWS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from llm_gateway.access.caller import OPEN, Caller, CallRates, Scopes
from llm_gateway.access.errors import CallRateExceeded
from llm_gateway.adapters.aws.call_rates import DynamoCallRates
from llm_gateway.adapters.memory.call_rates import InMemoryCallRates
from tests.contract.tables import client, create_table
from tests.fakes import NOON

SHOP = Caller("shop", "one", Scopes(calls_per_minute=5))


class Clock:
    """A clock that is set by hand."""

    now = NOON + timedelta(seconds=50)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "local-aws"])
def rates(request: pytest.FixtureRequest, clock: Callable[[], datetime]) -> CallRates:
    if request.param == "memory":
        return InMemoryCallRates(clock)
    dynamodb = client("dynamodb", request.getfixturevalue("emulator"))
    return DynamoCallRates(dynamodb, create_table(dynamodb, "BudgetTable"), clock)


def taken(rates: CallRates, caller: Caller, times: int) -> int:
    """How many of so many calls at the same time are let through."""

    async def one() -> bool:
        try:
            await rates.take(caller)
        except CallRateExceeded:
            return False
        return True

    async def every() -> list[bool]:
        return await asyncio.gather(*(one() for _ in range(times)))

    return sum(asyncio.run(every()))


def test_calls_side_by_side_never_pass_the_rate_together(rates: CallRates) -> None:
    assert taken(rates, SHOP, 20) == 5
    assert taken(rates, SHOP, 3) == 0


def test_every_minute_begins_anew_and_the_error_says_when(rates: CallRates, clock: Clock) -> None:
    taken(rates, SHOP, 5)
    with pytest.raises(CallRateExceeded, match="5 calls a minute; try again in 10 s") as caught:
        asyncio.run(rates.take(SHOP))
    assert caught.value.retry_after_s == 10
    clock.now += timedelta(seconds=10)
    assert taken(rates, SHOP, 6) == 5


def test_keys_are_counted_apart(rates: CallRates) -> None:
    taken(rates, SHOP, 5)
    assert taken(rates, Caller("shop", "two", Scopes(calls_per_minute=5)), 6) == 5


def test_who_has_no_rate_is_not_counted(rates: CallRates) -> None:
    assert taken(rates, OPEN, 20) == 20
