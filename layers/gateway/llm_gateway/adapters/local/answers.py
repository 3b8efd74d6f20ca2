"""Idempotency keys and the outcomes of their calls, in a SQLite file."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from llm_gateway.adapters.local.sqlite_file import SqliteFile
from llm_gateway.calls.idempotency import Claim, Earlier


class SqliteOutcomes:
    """See OutcomeStore."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    async def claim(self, claim: Claim, now: datetime, *, take_over: bool) -> Earlier | None:
        """See OutcomeStore.claim."""
        return await self._file.write(lambda connection: _claim(connection, claim, now, take_over))

    async def end(self, claim: Claim, outcome: bytes | None) -> None:
        """See OutcomeStore.end."""
        sql = "UPDATE outcome SET ended = 1, outcome = ? WHERE key = ? AND holder = ?"
        row = (outcome, claim.key, claim.holder)
        await self._file.write(lambda connection: connection.execute(sql, row).rowcount)

    async def release(self, claim: Claim) -> None:
        """See OutcomeStore.release."""
        sql = "DELETE FROM outcome WHERE key = ? AND holder = ?"
        row = (claim.key, claim.holder)
        await self._file.write(lambda connection: connection.execute(sql, row).rowcount)

    async def forget(self, now: datetime) -> int:
        """Delete the keys whose time is up, and tell how many."""
        sql, moment = "DELETE FROM outcome WHERE expires_at <= ?", (now.timestamp(),)
        return await self._file.write(lambda connection: connection.execute(sql, moment).rowcount)


def _claim(connection: sqlite3.Connection, claim: Claim, now: datetime, take_over: bool) -> Earlier | None:
    found = connection.execute(
        "SELECT request, held_until, ended, outcome FROM outcome WHERE key = ? AND expires_at > ?"
        " AND NOT (? AND NOT ended AND held_until <= ?)",
        (claim.key, now.timestamp(), take_over, now.timestamp()),
    ).fetchone()
    if found is not None:
        request, held_until, ended, outcome = found
        return Earlier(request, datetime.fromtimestamp(held_until, UTC), bool(ended), outcome)
    connection.execute(
        "INSERT OR REPLACE INTO outcome (key, request, holder, held_until, expires_at)"
        " VALUES (?, ?, ?, ?, ?)",
        (claim.key, claim.request, claim.holder, claim.held_until.timestamp(), claim.expires_at.timestamp()),
    )
    return None
