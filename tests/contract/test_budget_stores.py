"""What every store of budgets promises: the fake, SQLite, and DynamoDB by the local AWS."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

import pytest

from llm_gateway.adapters.aws.budgets import DynamoBudgets
from llm_gateway.adapters.local.budgets import SqliteBudgets
from llm_gateway.adapters.local.sqlite_file import SqliteFile
from llm_gateway.budgets.holds import BudgetStore, Hold, Mark, Standing
from llm_gateway.budgets.limits import Amount, Limit, Limits
from tests.contract.budget_model import Model, histories, replayed
from tests.contract.tables import client, create_table
from tests.fakes import NOON, InMemoryBudgets

T = TypeVar("T")
DAY_USD, MONTH_TOKENS = Limit("day", "usd", Decimal(1)), Limit("month", "tokens", Decimal(1000))
LIMITS = (DAY_USD, MONTH_TOKENS)
MOST = Amount(Decimal("0.4"), 100)


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> DynamoBudgets:
    dynamodb = client("dynamodb", request.getfixturevalue("emulator"))
    return DynamoBudgets(dynamodb, create_table(dynamodb, "BudgetTable"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteFile]:
    with closing(SqliteFile(tmp_path_factory.mktemp("budgets") / "usage.db")) as file:
        yield file


@pytest.fixture(params=["memory", "sqlite", "local-aws"])
def store(request: pytest.FixtureRequest) -> BudgetStore:
    if request.param == "memory":
        return InMemoryBudgets()
    if request.param == "sqlite":
        return SqliteBudgets(request.getfixturevalue("file"))
    made: DynamoBudgets = request.getfixturevalue("table")
    return made


@pytest.fixture
def first() -> Hold:
    return hold("first", budget=f"Zürich #1 | {uuid.uuid4().hex}")


def hold(holder: str, budget: str = "shop", most: Amount = MOST, moment: datetime = NOON) -> Hold:
    return Hold(budget, holder, moment, most, moment + timedelta(seconds=30.5))


def reserve(store: BudgetStore, made: Hold, now: datetime = NOON, limits: Limits = LIMITS) -> Standing:
    return asyncio.run(store.reserve(made, limits, now))


def settle(store: BudgetStore, made: Hold, usd: str, tokens: int = 10) -> Standing:
    return asyncio.run(store.settle(made, Amount(Decimal(usd), tokens)))


def test_what_fits_is_held_and_what_does_not_is_not(store: BudgetStore, first: Hold) -> None:
    second, third = replace(first, holder="second"), replace(first, holder="third")
    assert reserve(store, first).taken
    standing = reserve(store, second)
    assert standing.taken
    assert standing.held["day", "usd"] == Decimal("0.8")
    assert standing.used["month", "tokens"] == 200
    refused = reserve(store, third)
    assert not refused.taken
    assert refused.in_the_way(LIMITS, MOST) == DAY_USD
    assert refused.used["day", "usd"] == Decimal("0.8")


def test_what_was_spent_takes_the_place_of_what_was_held_to_the_last_digit(
    store: BudgetStore, first: Hold
) -> None:
    reserve(store, first)
    standing = settle(store, first, "0.000000000001", 7)
    assert standing.used["day", "usd"] == standing.spent(DAY_USD) == Decimal("0.000000000001")
    assert standing.spent(MONTH_TOKENS) == 7
    assert not standing.taken


def test_a_limit_can_be_used_up_exactly(store: BudgetStore, first: Hold) -> None:
    whole = replace(first, most=Amount(Decimal(1), 1))
    assert reserve(store, whole).taken
    assert settle(store, whole, "1", 1).spent(DAY_USD) == 1
    assert not reserve(store, replace(whole, holder="second", most=Amount(Decimal("1e-12"), 1))).taken


def test_a_released_hold_leaves_nothing(store: BudgetStore, first: Hold) -> None:
    reserve(store, first)
    standing = settle(store, first, "0", 0)
    assert set(standing.used.values()) == {0}


def test_a_write_that_the_sdk_repeats_changes_nothing(store: BudgetStore, first: Hold) -> None:
    reserve(store, first)
    assert reserve(store, first).taken
    assert reserve(store, first).used["day", "usd"] == MOST.usd
    for _ in range(2):
        assert settle(store, first, "0.1").used["day", "usd"] == Decimal("0.1")


def test_more_than_the_bound_is_recorded_as_it_is(store: BudgetStore, first: Hold) -> None:
    reserve(store, first)
    assert settle(store, first, "1.5", 2000).spent(DAY_USD) == Decimal("1.5")
    assert not reserve(store, replace(first, holder="second")).taken


def test_a_dead_holders_part_is_given_back_when_somebody_needs_it(store: BudgetStore, first: Hold) -> None:
    for number in range(2):
        reserve(store, replace(first, holder=f"dead-{number}"))
    late = replace(first, holder="late")
    assert not reserve(store, late, first.held_until - timedelta(seconds=1)).taken
    standing = reserve(store, late, first.held_until)
    assert standing.taken
    assert standing.used["day", "usd"] == MOST.usd


def test_what_a_holder_spent_that_was_taken_for_dead_counts_once(store: BudgetStore, first: Hold) -> None:
    reserve(store, first)
    reserve(store, replace(first, holder="second"))
    reserve(store, replace(first, holder="third"), first.held_until)
    for _ in range(2):
        assert settle(store, first, "0.3").used["day", "usd"] == MOST.usd + Decimal("0.3")


def test_a_day_ends_and_its_month_goes_on(store: BudgetStore, first: Hold) -> None:
    limits = (replace(DAY_USD, most=Decimal("0.5")), Limit("month", "usd", Decimal("0.9")))
    reserve(store, first, limits=limits)
    assert not reserve(store, replace(first, holder="same day"), limits=limits).taken
    tomorrow = NOON + timedelta(hours=12)
    next_day = hold("next day", first.budget, moment=tomorrow)
    assert reserve(store, next_day, NOON, limits).taken
    settle(store, first, "0.4")
    settle(store, next_day, "0.4")
    third = hold("third day", first.budget, moment=tomorrow + timedelta(days=1))
    refused = reserve(store, third, third.moment, limits)
    assert (refused.taken, refused.in_the_way(limits, MOST)) == (False, limits[1])
    assert refused.used["day", "usd"] == 0
    december = hold("december", first.budget, moment=NOON + timedelta(days=9))
    assert reserve(store, december, december.moment, limits).taken


def test_budgets_do_not_meet(store: BudgetStore, first: Hold) -> None:
    reserve(store, first)
    other = reserve(store, hold("first", f"{first.budget} other"))
    assert other.used["day", "usd"] == MOST.usd


def test_a_threshold_is_marked_once_for_each_window(store: BudgetStore, first: Hold) -> None:
    reserve(store, first)
    day, month = Mark("day", "usd", 80), Mark("month", "usd", 80)
    tomorrow = replace(first, moment=NOON + timedelta(days=1))
    marked = [(first, day), (first, day), (first, month), (tomorrow, day), (tomorrow, month)]
    assert [asyncio.run(store.mark(made, mark)) for made, mark in marked] == [True, False, True, True, False]
    assert settle(store, first, "0.1").told == {day, month}


def test_of_fifty_at_once_as_many_are_let_in_as_fit(store: BudgetStore, first: Hold) -> None:
    holds = [
        replace(first, holder=f"holder-{number}", most=Amount(Decimal("0.13"), 1)) for number in range(50)
    ]
    standings = at_once(*(store.reserve(made, LIMITS, NOON) for made in holds))
    assert [standing.taken for standing in standings].count(True) == 7
    assert max(standing.used["day", "usd"] for standing in standings) == Decimal("0.91")


def test_fifty_at_once_share_what_fifty_dead_ones_held(store: BudgetStore, first: Hold) -> None:
    small, large, now = Amount(Decimal("0.02"), 1), Amount(Decimal("0.13"), 1), first.held_until
    dead = [replace(first, holder=f"dead-{number:02}", most=small) for number in range(50)]
    for made in dead:
        reserve(store, made)
    until = now + timedelta(minutes=1)
    holds = [replace(first, holder=f"holder-{number}", most=large, held_until=until) for number in range(50)]
    standings = at_once(*(store.reserve(made, LIMITS, now) for made in holds))
    taken = [made for made, standing in zip(holds, standings, strict=True) if standing.taken]
    assert 1 <= len(taken) <= 7  # whoever is refused when 40 are given back may come too early for the rest
    at_once(*(store.settle(made, small) for made in (*taken, *taken, *dead[:5], *dead[:5])))
    assert settle(store, taken[0], "0").used["day", "usd"] <= 1
    rest = [
        reserve(store, replace(first, holder=f"rest-{n}", most=small, held_until=until), now).taken
        for n in range(50)
    ]
    assert rest.count(True) == 50 - len(taken) - 5
    assert settle(store, taken[0], "0").used["day", "usd"] == 1


def at_once(*work: Coroutine[object, object, T]) -> list[T]:
    async def race() -> list[T]:
        with ThreadPoolExecutor(50) as threads:  # or so many as there are cores would wait for each other
            asyncio.get_running_loop().set_default_executor(threads)
            return await asyncio.gather(*work)

    return asyncio.run(race())


@histories(examples=300, longest=40)
def test_any_history_is_exact_and_crosses_no_limit_in_memory(history: list[tuple[str, int, int]]) -> None:
    replayed(history, InMemoryBudgets(), Model("shop"))


def test_any_history_is_exact_and_crosses_no_limit_in_sqlite(file: SqliteFile) -> None:
    @histories(examples=40, longest=30)
    def replay(history: list[tuple[str, int, int]]) -> None:
        replayed(history, SqliteBudgets(file), Model(uuid.uuid4().hex))

    replay()


@pytest.mark.usefixtures("table")
def test_any_history_is_exact_and_crosses_no_limit_in_dynamodb(table: DynamoBudgets) -> None:
    @histories(examples=60, longest=30)
    def replay(history: list[tuple[str, int, int]]) -> None:
        replayed(history, table, Model(uuid.uuid4().hex))

    replay()
