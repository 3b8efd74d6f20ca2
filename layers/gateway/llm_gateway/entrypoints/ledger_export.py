"""The ledger as CSV or JSON Lines: one line for each call, in a form that does not change."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, TextIO

from llm_gateway.rebuild import LedgerReader
from llm_gateway.rollup import floor_hour
from llm_gateway.usage import UsageRecord
from llm_gateway.wire.fields import to_decimal_text, to_iso

COLUMNS = (
    "call_id", "request_id", "started_at", "status", "error_code", "calling_service", "correlation_id",
    "prompt", "prompt_version", "provider", "model", "input_tokens", "output_tokens", "cached_input_tokens",
    "reasoning_tokens", "cost_usd", "latency_ms", "attempts", "test_mode",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
WriteRecord = Callable[[UsageRecord], None]


async def export_ledger(reader: LedgerReader, start: datetime, end: datetime, write: WriteRecord) -> int:
    """Hand over every call that started in [start, end), in order of time; returns their number.

    Raises:
        StoreUnavailable: The ledger does not answer.
    """
    calls, hour = 0, floor_hour(start)
    while hour < end:
        async for entry in reader.entries(hour):
            if start <= entry.record.started_at < end:
                write(entry.record)
                calls += 1
        hour += timedelta(hours=1)
    return calls


def csv_writer(stream: TextIO) -> WriteRecord:
    """Writes the heading now and a line for each record: unknown is empty, cost is exact text.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    lines = csv.writer(stream, lineterminator="\n")
    lines.writerow(COLUMNS)

    def write(record: UsageRecord) -> None:
        lines.writerow([_cell(value) for value in _values(record)])

    return write


def json_writer(stream: TextIO) -> WriteRecord:
    """Writes a JSON object for each record: unknown is null, cost is exact text."""

    def write(record: UsageRecord) -> None:
        line = dict(zip(COLUMNS, _values(record), strict=True))
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")

    return write


def _values(record: UsageRecord) -> Iterator[Any]:
    for name in COLUMNS:
        value = getattr(record.usage if name.endswith("_tokens") else record, name)
        if name == "started_at":
            yield to_iso(value)
        elif name == "cost_usd" and value is not None:
            yield to_decimal_text(value)
        else:
            yield value


def _cell(value: Any) -> Any:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case str() if value.startswith(_FORMULA):
            return f"'{value}"
    return value
