"""What every store of gateway keys promises: a file, and DynamoDB by the local AWS."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from llm_gateway.access.caller import Scopes
from llm_gateway.access.keys import GatewayKey, KeyStore
from llm_gateway.adapters.aws.keys import DynamoKeys
from llm_gateway.adapters.local.keys import FileKeys
from tests.contract.tables import client, create_table
from tests.fakes import NOON

SCOPES = Scopes(("CallPrompt",), ("support/", "ünïcode/"), ("openai/gpt-4o*",), True, 60)
KEY = GatewayKey("0f1e2d3c4b5a", "ab" * 32, "shop, “Köln”", SCOPES, NOON, "ada")
LATER = NOON + timedelta(days=1)


@pytest.fixture(params=["file", "local-aws"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> KeyStore:
    if request.param == "file":
        return FileKeys(tmp_path / "keys.json")
    dynamodb = client("dynamodb", request.getfixturevalue("emulator"))
    return DynamoKeys(dynamodb, create_table(dynamodb, "KeyTable"))


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        replace(KEY, scopes=Scopes()),
        replace(KEY, expires_at=LATER, revoked_at=NOON, replaces="a5b4c3d2e1f0"),
    ],
)
def test_a_key_comes_back_as_it_was(store: KeyStore, key: GatewayKey) -> None:
    asyncio.run(store.add(key))
    assert asyncio.run(store.get(key.key_id)) == key


def test_an_unknown_id_is_nobody(store: KeyStore) -> None:
    assert asyncio.run(store.get("0f1e2d3c4b5a")) is None
    assert asyncio.run(store.all()) == []


def test_an_id_is_given_once(store: KeyStore) -> None:
    asyncio.run(store.add(KEY))
    with pytest.raises(ValueError, match=KEY.key_id):
        asyncio.run(store.add(replace(KEY, service="thief")))
    assert asyncio.run(store.get(KEY.key_id)) == KEY


def test_an_end_that_is_not_given_stays_as_it_is(store: KeyStore) -> None:
    asyncio.run(store.add(KEY))
    asyncio.run(store.end(KEY.key_id, expires_at=LATER, revoked_at=None))
    asyncio.run(store.end(KEY.key_id, expires_at=None, revoked_at=NOON))
    assert asyncio.run(store.get(KEY.key_id)) == replace(KEY, expires_at=LATER, revoked_at=NOON)


def test_a_key_that_is_not_there_cannot_end_and_does_not_begin(store: KeyStore) -> None:
    with pytest.raises(KeyError):
        asyncio.run(store.end(KEY.key_id, expires_at=None, revoked_at=NOON))
    assert asyncio.run(store.get(KEY.key_id)) is None


def test_all_keys_are_listed_by_age(store: KeyStore) -> None:
    young = replace(KEY, key_id="000000000001", created_at=LATER)
    for key in (young, KEY):
        asyncio.run(store.add(key))
    assert asyncio.run(store.all()) == [KEY, young]
