"""What every store of idempotency keys promises: the fake, SQLite, and DynamoDB by the local AWS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from llm_gateway.adapters.aws.answers import DynamoOutcomes
from llm_gateway.adapters.local.answers import SqliteOutcomes
from llm_gateway.adapters.local.sqlite_file import SqliteFile
from llm_gateway.calls.idempotency import MAX_OUTCOME_BYTES, Claim, Earlier, OutcomeStore
from tests.contract.tables import client, create_table
from tests.fakes import NOON, InMemoryOutcomes

HELD_UNTIL = NOON + timedelta(seconds=30.5)
FORGOTTEN = NOON + timedelta(hours=1)
FIRST = Claim("key", "request", "first", HELD_UNTIL, FORGOTTEN)
SECOND = replace(FIRST, holder="second", held_until=HELD_UNTIL + timedelta(hours=2))
SECOND = replace(SECOND, expires_at=FORGOTTEN + timedelta(hours=2))


@pytest.fixture(params=["memory", "sqlite", "local-aws"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OutcomeStore]:
    if request.param == "memory":
        yield InMemoryOutcomes()
    elif request.param == "sqlite":
        with closing(SqliteFile(tmp_path / "usage.db")) as file:
            yield SqliteOutcomes(file)
    else:
        dynamodb = client("dynamodb", request.getfixturevalue("emulator"))
        yield DynamoOutcomes(dynamodb, create_table(dynamodb, "OutcomeTable"))


def claim(
    store: OutcomeStore, made: Claim, now: datetime = NOON, *, take_over: bool = True
) -> Earlier | None:
    return asyncio.run(store.claim(made, now, take_over=take_over))


def test_the_first_gets_the_key_and_the_second_learns_of_the_first(store: OutcomeStore) -> None:
    assert claim(store, FIRST) is None
    assert claim(store, SECOND) == Earlier("request", HELD_UNTIL, ended=False, outcome=None)


def test_an_outcome_is_found_again_byte_by_byte(store: OutcomeStore) -> None:
    outcome = bytes(range(256)) * (MAX_OUTCOME_BYTES // 256)
    claim(store, FIRST)
    asyncio.run(store.end(FIRST, outcome))
    assert claim(store, SECOND) == Earlier("request", HELD_UNTIL, ended=True, outcome=outcome)


def test_a_call_can_be_over_without_an_outcome(store: OutcomeStore) -> None:
    claim(store, FIRST)
    asyncio.run(store.end(FIRST, None))
    assert claim(store, SECOND) == Earlier("request", HELD_UNTIL, ended=True, outcome=None)


def test_a_released_key_is_free(store: OutcomeStore) -> None:
    claim(store, FIRST)
    asyncio.run(store.release(FIRST))
    assert claim(store, SECOND) is None


def test_a_dead_holder_is_replaced_by_those_who_may(store: OutcomeStore) -> None:
    claim(store, FIRST)
    assert claim(store, SECOND, HELD_UNTIL - timedelta(milliseconds=1)) is not None
    assert claim(store, SECOND, HELD_UNTIL, take_over=False) is not None
    assert claim(store, SECOND, HELD_UNTIL) is None


def test_an_ended_call_is_not_taken_over(store: OutcomeStore) -> None:
    claim(store, FIRST)
    asyncio.run(store.end(FIRST, b"x"))
    assert claim(store, SECOND, HELD_UNTIL + timedelta(minutes=1)) is not None


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("take_over", [True, False])
def test_a_key_is_forgotten_in_time_whatever_became_of_it(
    store: OutcomeStore, ended: bool, take_over: bool
) -> None:
    claim(store, FIRST)
    if ended:
        asyncio.run(store.end(FIRST, b"x"))
    assert claim(store, SECOND, FORGOTTEN, take_over=take_over) is None
    assert claim(store, FIRST, FORGOTTEN) == Earlier("request", SECOND.held_until, ended=False, outcome=None)


def test_a_holder_that_was_replaced_changes_nothing_any_more(store: OutcomeStore) -> None:
    claim(store, FIRST)
    claim(store, SECOND, HELD_UNTIL)
    asyncio.run(store.end(FIRST, b"late"))
    asyncio.run(store.release(FIRST))
    assert claim(store, FIRST, HELD_UNTIL) == Earlier("request", SECOND.held_until, False, None)


def test_of_fifty_at_once_one_gets_the_key(store: OutcomeStore) -> None:
    async def race() -> list[Earlier | None]:
        claims = [replace(FIRST, holder=f"holder-{n}") for n in range(50)]
        return await asyncio.gather(*(store.claim(made, NOON, take_over=True) for made in claims))

    assert asyncio.run(race()).count(None) == 1


def test_keys_whose_time_is_up_are_cleared_away(tmp_path: Path) -> None:
    with closing(SqliteFile(tmp_path / "usage.db")) as file:
        store = SqliteOutcomes(file)
        claim(store, FIRST)
        claim(store, replace(SECOND, key="another"))
        assert asyncio.run(store.forget(FORGOTTEN)) == 1
        assert claim(store, replace(SECOND, key="another"), FORGOTTEN) is not None
