"""What a question to GetUsageStats reads, after a thousand calls and after ten million."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from boto3.dynamodb.types import TypeSerializer

from llm_gateway.adapters.aws.ledger import DynamoUsageLedger
from llm_gateway.adapters.aws.rollups import DynamoRollups
from llm_gateway.adapters.aws.sdk import ask
from llm_gateway.models.completion import TokenUsage
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.rollups import MAX_NAME, SUM_NAMES, Rollup, UsageQuestion, answer
from local_aws import emulator
from local_aws.session import progress
from tests.contract.tables import client, create_table

CALLS = 1_000
MANY_CALLS = 10_000_000
DAYS = 20
START = datetime(2026, 11, 1, tzinfo=UTC)
SERVICES, MODELS = ("shop", "billing", "search"), ("gpt-4o", "gpt-4o-mini")
QUESTIONS = {
    "one day by hour": UsageQuestion(START, START + timedelta(days=1), "hour", {}, ("calling_service",)),
    "all days by day": UsageQuestion(START, START + timedelta(days=DAYS), "day", {}, ("model",)),
    "the sum of all": UsageQuestion(START, START + timedelta(days=DAYS), "total"),
}


@dataclass
class Reads:
    """Requests and the items they read, since the last reset."""

    requests: int = 0
    items: int = 0

    def count(self, parsed: Mapping[str, Any], **_: Any) -> None:
        """Called by botocore after each request."""
        self.requests += 1
        self.items += parsed.get("ScannedCount", 0)


def run() -> bool:
    """Measure, print, and tell whether the promise held: no read more for however many calls."""
    progress("stats: starting the local AWS")
    with emulator.running("bench-stats") as running:
        dynamodb = client("dynamodb", running)
        table = create_table(dynamodb, "UsageTable")
        rollups, reads = DynamoRollups(dynamodb, table), Reads()
        progress(f"stats: {CALLS} calls through ledger and rollups")
        asyncio.run(_make_calls(DynamoUsageLedger(partial(ask, dynamodb.put_item), table, 400), rollups))
        dynamodb.meta.events.register("after-call", reads.count)
        few = _asked(rollups, reads)
        progress(
            f"stats: the sums of {MANY_CALLS} calls in the same hours, as counting them would leave them"
        )
        asyncio.run(_multiply(dynamodb, table, rollups, MANY_CALLS // CALLS))
        many = _asked(rollups, reads)
    return _report(few, many)


async def _make_calls(ledger: DynamoUsageLedger, rollups: DynamoRollups) -> None:
    records = [_record(number) for number in range(CALLS)]
    for start in range(0, CALLS, 50):
        batch = records[start : start + 50]
        await asyncio.gather(*(ledger.record(record) for record in batch))
        await rollups.count(batch)


def _record(number: int) -> UsageRecord:
    return UsageRecord(
        call_id=f"{number:032x}",
        request_id="benchmark",
        started_at=START + timedelta(days=DAYS) * number / CALLS,
        status="answered",
        error_code=None,
        calling_service=SERVICES[number % len(SERVICES)],
        correlation_id=None,
        prompt="support/reply.prompt",
        prompt_version="v1",
        provider="openai",
        model=MODELS[number % len(MODELS)],
        usage=TokenUsage(1000, 200, 400, 0),
        cost_usd=Decimal("0.00024"),
        latency_ms=900,
        attempts=1,
        test_mode=False,
    )


async def _multiply(dynamodb: Any, table: str, rollups: DynamoRollups, factor: int) -> None:
    """Every sum, `factor` times: too many calls to make, and sums do not know how they came about."""
    end = START + timedelta(days=DAYS)
    found: Sequence[Rollup] = [
        *await rollups.read("hour", START, end),
        *await rollups.read("day", START, end),
    ]
    keys = {
        (item["pk"]["S"].split("#")[1], item["bucket"]["S"], item["dimensions"]["S"]): (
            item["pk"],
            item["sk"],
        )
        for page in dynamodb.get_paginator("scan").paginate(TableName=table)
        for item in page["Items"]
        if item["pk"]["S"].startswith("rollup#")
    }
    for rollup in found:
        name = (rollup.width, rollup.start.isoformat(), json.dumps(asdict(rollup.dimensions)))
        pk, sk = keys[name]
        dynamodb.update_item(
            TableName=table,
            Key={"pk": pk, "sk": sk},
            UpdateExpression="ADD " + ", ".join(f"#{total} :{total}" for total in SUM_NAMES),
            ExpressionAttributeNames={f"#{total}": total for total in SUM_NAMES},
            ExpressionAttributeValues={
                f":{total}": TypeSerializer().serialize(getattr(rollup.totals, total) * (factor - 1))
                for total in SUM_NAMES
            },
        )
    assert MAX_NAME not in SUM_NAMES


def _asked(rollups: DynamoRollups, reads: Reads) -> dict[str, tuple[int, int, int]]:
    """Calls in the answer, requests and items read, by question."""
    found = {}
    for name, question in QUESTIONS.items():
        reads.requests = reads.items = 0
        rows = asyncio.run(answer(rollups, question))
        found[name] = sum(row.totals.requests for row in rows), reads.requests, reads.items
    return found


def _report(few: Mapping[str, tuple[int, int, int]], many: Mapping[str, tuple[int, int, int]]) -> bool:
    print(f"\nGetUsageStats: {DAYS} days, {len(SERVICES)} services, {len(MODELS)} models")
    print(
        f"{'question':<18}{'calls':>12}{'requests':>10}{'items':>8}{'calls':>14}{'requests':>10}{'items':>8}"
    )
    for name in QUESTIONS:
        print(f"{name:<18}{few[name][0]:>12,}{few[name][1]:>10}{few[name][2]:>8}", end="")
        print(f"{many[name][0]:>14,}{many[name][1]:>10}{many[name][2]:>8}")
    kept = all(few[name][1:] == many[name][1:] for name in QUESTIONS)
    print("The number of reads does not grow." if kept else "BROKEN: more calls, more reads.")
    return kept
