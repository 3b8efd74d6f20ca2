"""What is held of a budget and how it stands, and the store that keeps both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from llm_gateway.budgets.limits import Amount, Limit, Limits, Unit, Width

THRESHOLDS = (80, 100)
"""Percent of a limit that somebody is told of."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A part of a budget that one call has taken.

    Attributes:
        budget: Name of the budget.
        holder: Whoever holds it; no two are the same.
        moment: When the call began, aware UTC; tells the day and the month that it counts in.
        most: What is held.
        held_until: When the holder is taken for dead, aware UTC.
    """

    budget: str
    holder: str
    moment: datetime
    most: Amount
    held_until: datetime


@dataclass(frozen=True, slots=True)
class Mark:
    """One threshold of one window."""

    width: Width
    unit: Unit
    percent: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How a budget stands, in the day and the month of a hold.

    Attributes:
        taken: True if the hold is among what is held.
        used: What is spent and held.
        held: What is held by calls that are under way, or died and were not yet found.
        told: Thresholds that somebody was told of.
    """

    taken: bool
    used: Mapping[tuple[Width, Unit], Decimal]
    held: Mapping[tuple[Width, Unit], Decimal]
    told: frozenset[Mark] = field(default_factory=frozenset)

    def spent(self, limit: Limit) -> Decimal:
        """What is spent of a limit."""
        key = (limit.width, limit.unit)
        return self.used.get(key, Decimal(0)) - self.held.get(key, Decimal(0))

    def in_the_way(self, limits: Limits, amount: Amount) -> Limit | None:
        """The first limit that leaves no room for `amount`, None if all do."""
        for limit in limits:
            used = self.used.get((limit.width, limit.unit), Decimal(0))
            if used + amount.of(limit.unit) > limit.most:
                return limit
        return None


NOTHING = Standing(taken=False, used={}, held={})


class BudgetStore(Protocol):
    """What is spent and held, by budget; all writes are atomic."""

    async def reserve(self, hold: Hold, limits: Limits, now: datetime) -> Standing:
        """Hold a part of a budget if no limit is crossed by it, counting out what dead holders hold.

        Raises:
            StoreUnavailable: Nobody knows; if it is held, then until its time is up.
        """
        ...

    async def settle(self, hold: Hold, spent: Amount) -> Standing:
        """Put what was spent in the place of what was held; a second time changes nothing.

        What was spent counts even if the holder was taken for dead in the meantime.

        Raises:
            StoreUnavailable: It stays held until its time is up.
        """
        ...

    async def mark(self, hold: Hold, mark: Mark) -> bool:
        """True for the first one that marks a threshold in the window of the hold.

        Raises:
            StoreUnavailable: Nobody knows.
        """
        ...
