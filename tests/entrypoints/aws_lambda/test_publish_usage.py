"""publish_usage, with the events that DynamoDB sends and a bus that says what it is told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError

from llm_gateway.adapters.aws.ledger import record_of
from llm_gateway.adapters.aws.usage_events import EventBridgeBus
from llm_gateway.entrypoints.aws_lambda.usage_stream import publish
from tests.entrypoints.aws_lambda.conftest import Functions, read_event
from tests.fakes import RecordingObserver

BATCH = read_event("publish_usage_batch")
NUMBERS = [record["dynamodb"]["SequenceNumber"] for record in BATCH["Records"]]
CALLS = [record["dynamodb"]["NewImage"]["call_id"]["S"] for record in BATCH["Records"]]


class Bus:
    """EventBridge's client: fails requests and entries as the script says, then takes everything."""

    def __init__(self, *script: Exception | Sequence[str]) -> None:
        self._script = list(script)
        self.requests: list[list[str]] = []
        self.taken: list[dict[str, Any]] = []

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        details = [json.loads(entry["Detail"]) for entry in Entries]
        self.requests.append([detail["call_id"] for detail in details])
        refused = self._script.pop(0) if self._script else ()
        if isinstance(refused, Exception):
            raise refused
        self.taken += [d for d in details if d["call_id"] not in refused]
        ends = [
            {"ErrorCode": "ThrottlingException"} if d["call_id"] in refused else {"EventId": "e"}
            for d in details
        ]
        return {"FailedEntryCount": len(refused), "Entries": ends}


def published(bus: Bus, event: Any = BATCH) -> list[str]:
    answer = asyncio.run(publish(event, EventBridgeBus(bus, "calls", 0), RecordingObserver()))
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


def many(count: int) -> dict[str, Any]:
    records = []
    for number in range(count):
        record = json.loads(json.dumps(BATCH["Records"][0]))
        record["dynamodb"]["NewImage"]["call_id"]["S"] = f"call-{number}"
        record["dynamodb"]["SequenceNumber"] = str(number)
        records.append(record)
    return {"Records": records}


def test_each_call_of_a_batch_is_told_to_the_bus_by_the_real_client(functions: Functions) -> None:
    events = boto3.client("events", region_name="us-east-1")
    events.create_event_bus(Name="calls")
    assert functions.run("publish_usage", "publish_usage_batch") == {"batchItemFailures": []}
    [line] = [line for line in functions.lines() if line.get("message") == "usage published"]
    assert (line["calls"], line["published"], line["unreadable"]) == (3, 3, 0)


def test_an_event_is_the_record_with_its_id_its_exact_cost_and_null_for_the_unknown() -> None:
    bus = Bus()
    assert published(bus) == []
    first, _, last = bus.taken
    image = BATCH["Records"][0]["dynamodb"]["NewImage"]
    record = record_of(image)
    assert (first["call_id"], Decimal(first["cost_usd"])) == (record.call_id, record.cost_usd)
    assert first["started_at"] == "2026-11-23T10:00:00+00:00"
    assert (last["cost_usd"], last["input_tokens"], last["calling_service"]) == (None, None, None)
    assert set(first) == set(last)


def test_ten_go_in_one_request() -> None:
    bus = Bus()
    assert published(bus, many(25)) == []
    assert [len(request) for request in bus.requests] == [10, 10, 5]


def test_only_entries_that_were_not_taken_are_put_again() -> None:
    bus = Bus([CALLS[1]], [CALLS[1]])
    assert published(bus) == []
    assert bus.requests == [CALLS, [CALLS[1]], [CALLS[1]]]
    assert sorted(detail["call_id"] for detail in bus.taken) == CALLS


def test_the_first_entry_that_is_never_taken_is_reported_and_nothing_after_its_request_is_put() -> None:
    refused = ["call-12", "call-14"]
    bus = Bus([], refused, refused, refused)
    assert published(bus, many(35)) == ["12"]
    assert {detail["call_id"] for detail in bus.taken} == {
        f"call-{n}" for n in range(20) if n not in (12, 14)
    }


def test_a_bus_that_is_away_has_the_whole_batch_delivered_again() -> None:
    away = EndpointConnectionError(endpoint_url="https://events")
    assert published(Bus(away, away, away)) == NUMBERS[:1]
    assert published(Bus(away)) == []


def test_an_unreadable_item_holds_up_nothing() -> None:
    event = json.loads(json.dumps(BATCH))
    del event["Records"][1]["dynamodb"]["NewImage"]["call_id"]
    bus = Bus()
    assert published(bus, event) == []
    assert [detail["call_id"] for detail in bus.taken] == [CALLS[0], CALLS[2]]


@pytest.mark.parametrize("name", ["MODIFY", "REMOVE"])
def test_marks_and_expiry_are_no_calls(name: str) -> None:
    event = json.loads(json.dumps(BATCH))
    for record in event["Records"]:
        record["eventName"] = name
    bus = Bus()
    assert published(bus, event) == []
    assert bus.requests == []
