"""Old and new versions of the gateway run side by side, so what one stores the other reads."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from llm_gateway.access.caller import Scopes, scopes_from
from llm_gateway.access.key_record import key_of, texts_of
from llm_gateway.access.keys import GatewayKey
from llm_gateway.adapters.aws.rollups import rollup_of
from llm_gateway.adapters.local.usage import rollup_of_row
from llm_gateway.usage.codec import record_of_values
from llm_gateway.usage.rollups import Dimensions

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEY = GatewayKey("k1", "digest", "shop", Scopes(prompts=("support/",)), NOON, "ada")
DIMENSIONS = Dimensions("shop", "openai", "gpt-4o", "a.md", "v1", "answered", False)
RECORD: dict[str, Any] = {
    "call_id": "c1",
    "request_id": "r1",
    "started_at": NOON,
    "status": "answered",
    "prompt": "a.md",
    "prompt_version": "v1",
    "provider": "openai",
    "model": "gpt-4o",
    "latency_ms": 5,
    "attempts": 1,
    "test_mode": False,
}


def test_scopes_with_a_field_of_a_newer_version_are_read_without_it() -> None:
    assert scopes_from({"prompts": ["support/"], "read_text": True}) == Scopes(prompts=("support/",))


def test_of_scopes_only_what_is_not_the_default_is_stored() -> None:
    assert json.loads(texts_of(KEY)["scopes"]) == {"prompts": ["support/"]}
    assert key_of(texts_of(KEY)) == KEY


def test_scopes_that_an_older_version_stored_whole_are_read() -> None:
    stored = '{"methods": null, "prompts": null, "models": null, "all_usage": true, "calls_per_minute": 3}'
    assert key_of({**texts_of(KEY), "scopes": stored}).scopes == Scopes(all_usage=True, calls_per_minute=3)


def test_a_record_with_a_field_of_a_newer_version_is_read_without_it() -> None:
    assert record_of_values({**RECORD, "streamed": True}) == record_of_values(RECORD)


def test_sums_by_a_dimension_of_a_newer_version_are_read_without_it_in_both_worlds() -> None:
    named = {
        "calling_service": "shop",
        "provider": "openai",
        "model": "gpt-4o",
        "prompt": "a.md",
        "prompt_version": "v1",
        "status": "answered",
        "test_mode": False,
        "streamed": True,
    }
    item = {"bucket": {"S": NOON.isoformat()}, "dimensions": {"S": json.dumps(named)}}
    assert rollup_of("hour", item).dimensions == DIMENSIONS
    row = json.dumps(list(named.values()))
    assert rollup_of_row("hour", NOON.isoformat(), row, "{}").dimensions == DIMENSIONS
