"""What a store of budgets has to do, in the simplest words, and histories to try it with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_gateway.budgets.holds import BudgetStore, Hold
from llm_gateway.budgets.limits import Amount, Limit
from tests.fakes import NOON

Step = tuple[str, int, int]
State = Literal["held", "swept", "ended"]
LIMITS = (
    Limit("day", "usd", Decimal(10)),
    Limit("month", "usd", Decimal(25)),
    Limit("month", "tokens", Decimal(2000)),
)


def histories(*, examples: int, longest: int) -> Callable[..., Callable[[], None]]:
    """Arbitrary orders of reserving, settling (also late, also again), releasing, and time going by.

    A crash is a hold that nothing is ever done with again.
    """
    deed = st.sampled_from(["reserve", "reserve", "again", "settle", "settle", "release", "wait"])
    step = st.tuples(deed, st.integers(0, 30), st.integers(0, 100))
    quick = settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )

    def decorate(test: Callable[[list[Step]], None]) -> Callable[[], None]:
        made: Callable[[], None] = quick(
            given(history=st.lists(step, min_size=longest // 2, max_size=longest))(test)
        )
        return made

    return decorate


@dataclass
class Model:
    """Every hold there ever was, and what became of it."""

    budget: str
    now: datetime = NOON
    holds: list[Hold] = field(default_factory=list)
    state: list[State] = field(default_factory=list)
    spent: list[Amount] = field(default_factory=list)
    late: list[bool] = field(default_factory=list)

    def add(self, percent: int) -> Hold:
        most = Amount(Decimal(percent) / 20, percent)
        until = self.now + timedelta(seconds=60)
        return Hold(self.budget, f"{len(self.holds):04}", self.now, most, until)

    def used(self, limit: Limit, moment: datetime, *, late: bool = True) -> Decimal:
        length = 10 if limit.width == "day" else 7
        total = Decimal(0)
        for hold, state, spent, was_late in zip(self.holds, self.state, self.spent, self.late, strict=True):
            if hold.moment.isoformat()[:length] == moment.isoformat()[:length]:
                counted = spent if late or not was_late else Amount()
                total += (hold.most if state == "held" else counted).of(limit.unit)
        return total

    def fits(self, hold: Hold) -> bool:
        return all(self.used(x, hold.moment) + hold.most.of(x.unit) <= x.most for x in LIMITS)

    def reserve(self, hold: Hold) -> bool:
        if not self.fits(hold):
            for n, other in enumerate(self.holds):
                same_item = other.moment.month == hold.moment.month
                if self.state[n] == "held" and other.held_until <= self.now and same_item:
                    self.state[n] = "swept"
        if not self.fits(hold):
            return False
        self.holds.append(hold)
        self.state.append("held")
        self.spent.append(Amount())
        self.late.append(False)
        return True

    def settle(self, number: int, spent: Amount) -> None:
        if self.state[number] != "ended":
            self.late[number] = self.state[number] == "swept"
            self.state[number], self.spent[number] = "ended", spent


def replayed(history: list[Step], store: BudgetStore, model: Model) -> None:
    """Do the same to the store and to the model, and compare them after every step."""
    for deed, which, percent in history:
        if deed == "wait":
            model.now += timedelta(seconds=20 * percent if percent < 90 else 40_000)
        elif deed == "reserve" or not model.holds:
            hold = model.add(percent)
            standing = asyncio.run(store.reserve(hold, LIMITS, model.now))
            assert standing.taken == model.reserve(hold)
            _compare(model, hold, standing.used)
        elif deed == "again":
            number = which % len(model.holds)
            if model.state[number] == "held":
                assert asyncio.run(store.reserve(model.holds[number], LIMITS, model.now)).taken
        else:
            number = which % len(model.holds)
            hold = model.holds[number]
            if model.now > hold.held_until + timedelta(minutes=50):
                continue  # no call is settled so late: stores may have forgotten it
            part = percent if deed == "settle" else 0
            spent = Amount(hold.most.usd * part / 100, hold.most.tokens * part // 100)
            standing = asyncio.run(store.settle(hold, spent))
            model.settle(number, spent)
            _compare(model, hold, standing.used)


def _compare(model: Model, hold: Hold, used: object) -> None:
    for limit in LIMITS:
        assert used[limit.width, limit.unit] == model.used(limit, hold.moment)  # type: ignore[index]
        assert model.used(limit, hold.moment, late=False) <= limit.most
