"""Budgets in a SQLite file: what is spent by period, and a row for each hold.

There is one writer, so what a function here reads is still so when it writes. A period is a month
(`2026-11`) or one of its days (`2026-11-24`). A hold whose holder was taken for dead stays as a row for a
while: that is how a late settlement of it is told from a repeated one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Context, Decimal, localcontext
from typing import TypeVar

from llm_gateway.adapters.local.sqlite_file import SqliteFile
from llm_gateway.budgets.holds import Hold, Mark, Standing
from llm_gateway.budgets.limits import Amount, Limits, Unit, Width

T = TypeVar("T")
_WIDTHS: tuple[Width, ...] = ("day", "month")
_UNITS: tuple[Unit, ...] = ("usd", "tokens")
_REMEMBERED_S = 3_600  # a holder that was taken for dead; no call lives so long
_DEAD_AT_MOST = 100  # more of them are given back even if nobody needs the room
_EXACT = Context(prec=100)


class SqliteBudgets:
    """See BudgetStore."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def reserve(self, hold: Hold, limits: Limits, now: datetime) -> Standing:
        """See BudgetStore.reserve."""
        return await self._exactly(lambda connection: _reserve(connection, hold, limits, now))

    async def settle(self, hold: Hold, spent: Amount) -> Standing:
        """See BudgetStore.settle."""
        return await self._exactly(lambda connection: _settle(connection, hold, spent))

    async def mark(self, hold: Hold, mark: Mark) -> bool:
        """See BudgetStore.mark."""
        row = (hold.budget, _period(hold, mark.width), mark.unit, mark.percent)
        sql = "INSERT OR IGNORE INTO budget_told VALUES (?, ?, ?, ?)"
        return await self._file.write(lambda connection: connection.execute(sql, row).rowcount == 1)

    async def _exactly(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def exact(connection: sqlite3.Connection) -> T:
            with localcontext(_EXACT):
                return work(connection)

        return await self._file.write(exact)


def _reserve(connection: sqlite3.Connection, hold: Hold, limits: Limits, now: datetime) -> Standing:
    standing = _standing(connection, hold)
    if standing.taken:
        return standing
    crowded = standing.in_the_way(limits, hold.most) is not None
    if crowded or _dead(connection, hold, now) > _DEAD_AT_MOST:
        _sweep(connection, hold, now)
        standing = _standing(connection, hold)
    if standing.in_the_way(limits, hold.most) is not None:
        return standing
    connection.execute(
        "INSERT OR REPLACE INTO budget_hold (budget, month, holder, day, usd, tokens, held_until)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            *_key(hold),
            _period(hold, "day"),
            str(hold.most.usd),
            hold.most.tokens,
            hold.held_until.timestamp(),
        ),
    )
    return _standing(connection, hold)


def _settle(connection: sqlite3.Connection, hold: Hold, spent: Amount) -> Standing:
    ended = connection.execute(
        "DELETE FROM budget_hold WHERE budget = ? AND month = ? AND holder = ?", _key(hold)
    )
    if ended.rowcount:
        for width in _WIDTHS:
            total = _spent(connection, hold, width)
            row = (str(total.usd + spent.usd), total.tokens + spent.tokens)
            connection.execute(
                "INSERT OR REPLACE INTO budget_spent VALUES (?, ?, ?, ?)",
                (hold.budget, _period(hold, width), *row),
            )
    return _standing(connection, hold)


def _dead(connection: sqlite3.Connection, hold: Hold, now: datetime) -> int:
    """How many holders in the month of `hold` are dead and not yet found."""
    (count,) = connection.execute(
        "SELECT count(*) FROM budget_hold WHERE budget = ? AND month = ? AND NOT dead AND held_until <= ?",
        (*_key(hold)[:2], now.timestamp()),
    ).fetchone()
    return int(count)


def _sweep(connection: sqlite3.Connection, hold: Hold, now: datetime) -> None:
    """Give back what dead holders hold, and forget those that died long ago."""
    month = _key(hold)[:2]
    connection.execute(
        "UPDATE budget_hold SET dead = 1 WHERE budget = ? AND month = ? AND held_until <= ?",
        (*month, now.timestamp()),
    )
    connection.execute(
        "DELETE FROM budget_hold WHERE budget = ? AND month = ? AND held_until <= ?",
        (*month, now.timestamp() - _REMEMBERED_S),
    )


def _standing(connection: sqlite3.Connection, hold: Hold) -> Standing:
    rows = connection.execute(
        "SELECT holder, day, usd, tokens FROM budget_hold WHERE budget = ? AND month = ? AND NOT dead",
        _key(hold)[:2],
    ).fetchall()
    used: dict[tuple[Width, Unit], Decimal] = {}
    held: dict[tuple[Width, Unit], Decimal] = {}
    for width in _WIDTHS:
        within = [Amount(Decimal(usd), tokens) for _, day, usd, tokens in rows if _counts(width, day, hold)]
        spent = _spent(connection, hold, width)
        for unit in _UNITS:
            held[width, unit] = sum((amount.of(unit) for amount in within), Decimal(0))
            used[width, unit] = held[width, unit] + spent.of(unit)
    taken = any(holder == hold.holder for holder, *_ in rows)
    return Standing(taken, used, held, _told(connection, hold))


def _counts(width: Width, day: str, hold: Hold) -> bool:
    return width == "month" or day == _period(hold, "day")


def _spent(connection: sqlite3.Connection, hold: Hold, width: Width) -> Amount:
    found = connection.execute(
        "SELECT usd, tokens FROM budget_spent WHERE budget = ? AND period = ?",
        (hold.budget, _period(hold, width)),
    ).fetchone()
    return Amount() if found is None else Amount(Decimal(found[0]), found[1])


def _told(connection: sqlite3.Connection, hold: Hold) -> frozenset[Mark]:
    return frozenset(
        Mark(width, unit, percent)
        for width in _WIDTHS
        for unit, percent in connection.execute(
            "SELECT unit, percent FROM budget_told WHERE budget = ? AND period = ?",
            (hold.budget, _period(hold, width)),
        )
    )


def _key(hold: Hold) -> tuple[str, str, str]:
    return hold.budget, _period(hold, "month"), hold.holder


def _period(hold: Hold, width: Width) -> str:
    return f"{hold.moment.astimezone(UTC):{'%Y-%m' if width == 'month' else '%Y-%m-%d'}}"
