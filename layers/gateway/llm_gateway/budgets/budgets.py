"""Budgets: the most that a call can cost is reserved before it, and what it did cost is settled after it.

Two callers cannot cross a limit together, because what is spent and what is held are one number, and it
only grows by a write that is conditional on the room there is. A holder that died is known by its time:
what it held is given back when somebody needs the room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from llm_gateway.budgets.holds import NOTHING, THRESHOLDS, BudgetStore, Hold, Mark, Standing
from llm_gateway.budgets.limits import SHARED, Amount, Limit, Limits, resets_at
from llm_gateway.budgets.upper_bound import most_of_call
from llm_gateway.deadline import Deadline
from llm_gateway.errors import BudgetExceeded, StoreUnavailable, UnpricedModel
from llm_gateway.formats import to_decimal_text, to_iso
from llm_gateway.json_schema.values import Json
from llm_gateway.models.messages import Message
from llm_gateway.models.routing import Route
from llm_gateway.usage.pricing import Spending, total_cost_usd, total_usage

_MARGIN_S = 5.0  # for the clocks of two holders, and for what a holder does after its deadline
_STORE_TIMEOUT_S = 0.5
_NOTICE_TIMEOUT_S = 0.8


@dataclass(frozen=True, slots=True)
class ThresholdReached:
    """A budget reached one of its thresholds.

    Attributes:
        budget: Its name.
        limit: The limit it is about.
        percent: 80 when so much is spent; 100 when all is, or what is left did not suffice for a call.
        spent: What is spent.
        resets_at: When the window ends, aware UTC.
    """

    budget: str
    limit: Limit
    percent: int
    spent: Decimal
    resets_at: datetime


class BudgetNotices(Protocol):
    """Tells other systems."""

    async def send(self, reached: ThresholdReached) -> None:
        """Send one event.

        Raises:
            StoreUnavailable: It was not sent.
        """
        ...


class BudgetObserver(Protocol):
    """Logs and metrics."""

    def budget_reached(self, reached: ThresholdReached) -> None:
        """A threshold was reached for the first time in its window."""
        ...

    def budget_not_settled(self, hold: Hold, spent: Amount, error: Exception) -> None:
        """What a call spent is missing in its budget."""
        ...

    def budget_notice_not_sent(self, budget: str, error: Exception) -> None:
        """Other systems were not told of a threshold."""
        ...


class Budgets:
    """Lets calls begin that their service can pay for, whatever they will cost.

    Args:
        limits: Limits by budget; see read_budgets.
        store: What is spent and held.
        notices: Tells other systems; None has none.
        observer: Logs and metrics.
        store_timeout_s: Longest wait for the store after a call, seconds.
    """

    def __init__(
        self,
        limits: Mapping[str, Limits],
        store: BudgetStore,
        notices: BudgetNotices | None,
        observer: BudgetObserver,
        *,
        store_timeout_s: float = _STORE_TIMEOUT_S,
    ) -> None:
        self._limits = limits
        self._store = store
        self._notices = notices
        self._observer = observer
        self._store_timeout_s = store_timeout_s

    @property
    def services(self) -> Iterable[str]:
        """The services that have a budget of their own."""
        return self._limits.keys()

    def payable(self, service: str | None, routes: Sequence[Route]) -> Sequence[Route]:
        """The routes that the service's budget can be applied to: in dollars only those with a price.

        Raises:
            UnpricedModel: The first of them has none.
        """
        if all(limit.unit != "usd" for limit in self._limits_of(service)[1]):
            return routes
        model = routes[0].model
        if model.price is None:
            raise UnpricedModel(
                f"There is a budget in USD for this call, and {model.provider}/{model.name} has no price: "
                "name a model that has one.",
                param="model",
            )
        return [route for route in routes if route.model.price is not None]

    async def reserve(
        self,
        call_id: str,
        service: str | None,
        moment: datetime,
        routes: Sequence[Route],
        messages: Sequence[Message],
        deadline: Deadline,
        *,
        repair: bool,
    ) -> Hold | None:
        """Hold the most that a call can cost; None, without a look at the store, if nothing limits it.

        Raises:
            BudgetExceeded: It might cross a limit.
            StoreUnavailable: Nobody knows.
        """
        budget, limits = self._limits_of(service)
        if not limits:
            return None
        held_until = moment + timedelta(seconds=deadline.remaining_s() + _MARGIN_S)
        hold = Hold(budget, call_id, moment, most_of_call(routes, messages, repair=repair), held_until)
        never = NOTHING.in_the_way(limits, hold.most)
        if never is not None:
            raise _exceeded(never, moment, "This call alone may cost more than the budget of a whole")
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                standing = await self._store.reserve(hold, limits, moment)
        except TimeoutError as error:
            raise StoreUnavailable("The budget cannot be looked up right now; try again.") from error
        if standing.taken:
            return hold
        limit = standing.in_the_way(limits, hold.most) or limits[0]
        await self._tell(hold, limits, standing, refused_by=limit)
        raise _exceeded(limit, moment, "This call may cost more than what is left of the budget of this")

    async def settle(self, hold: Hold, spent: Sequence[Spending]) -> None:
        """Count what was spent, and give the rest back; never fails, as the call is over.

        An answer whose cost nobody knows is counted at the most it can have cost, never at nothing.
        """
        cost, tokens = total_cost_usd(spent), total_usage(spent).total_tokens
        most = hold.most if spent else Amount()
        amount = Amount(most.usd if cost is None else cost, most.tokens if tokens is None else tokens)
        try:
            async with asyncio.timeout(self._store_timeout_s):
                standing = await self._store.settle(hold, amount)
        except (StoreUnavailable, TimeoutError) as error:
            self._observer.budget_not_settled(hold, amount, error)
            return
        await self._tell(hold, self._limits.get(hold.budget, ()), standing)

    def _limits_of(self, service: str | None) -> tuple[str, Limits]:
        name = service if service is not None and service in self._limits else SHARED
        return name, self._limits.get(name, ())

    async def _tell(
        self, hold: Hold, limits: Limits, standing: Standing, refused_by: Limit | None = None
    ) -> None:
        """Tell of thresholds that were reached and that nobody was told of."""
        for limit in limits:
            spent = standing.spent(limit)
            exhausted = limit is refused_by and spent + hold.most.of(limit.unit) > limit.most
            for percent in THRESHOLDS:
                mark = Mark(limit.width, limit.unit, percent)
                reached = spent * 100 >= limit.most * percent or (exhausted and percent == 100)
                if reached and mark not in standing.told:
                    ends = resets_at(limit.width, hold.moment)
                    await self._notify(hold, mark, ThresholdReached(hold.budget, limit, percent, spent, ends))

    async def _notify(self, hold: Hold, mark: Mark, reached: ThresholdReached) -> None:
        """Tell, unless somebody else did; the mark decides before anything is sent, so it is once."""
        try:
            async with asyncio.timeout(_NOTICE_TIMEOUT_S):
                if await self._store.mark(hold, mark):
                    self._observer.budget_reached(reached)
                    if self._notices is not None:
                        await self._notices.send(reached)
        except (StoreUnavailable, TimeoutError) as error:
            self._observer.budget_notice_not_sent(hold.budget, error)


def _exceeded(limit: Limit, moment: datetime, what: str) -> BudgetExceeded:
    ends = resets_at(limit.width, moment)
    iso = to_iso(ends)
    most: Json = to_decimal_text(limit.most) if limit.unit == "usd" else int(limit.most)
    return BudgetExceeded(
        f"{what} {limit.width}, which begins anew at {iso}; allow it less with 'parameters.max_tokens'.",
        details={"window": limit.width, "unit": limit.unit, "limit": most, "resets_at": iso},
        retry_after_s=(ends - moment).total_seconds(),
    )
