"""The ledger as CSV or JSON Lines: one line for each call, in a form that does not change."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, TextIO

from llm_gateway.formats import to_decimal_text, to_iso, to_metadata_text
from llm_gateway.usage.rebuild import LedgerReader
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.rollups import floor_hour

COLUMNS = (
    "call_id", "request_id", "started_at", "status", "error_code", "calling_service", "correlation_id",
    "prompt", "prompt_version", "provider", "model", "input_tokens", "output_tokens", "cached_input_tokens",
    "cache_write_tokens", "reasoning_tokens", "cost_usd", "latency_ms", "attempts", "test_mode", "metadata",
)  # fmt: skip
# What spreadsheets take for the begin of a formula, in both widths, and what they drop before one.
# Source: OWASP, "CSV Injection".
_FORMULA = re.compile(r"'*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]")
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

    A text that a spreadsheet would take for a formula, or that is such a text behind apostrophes, gets one
    apostrophe more before it; so what is read back loses one where apostrophes precede such a sign.
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
        elif name == "metadata":
            yield dict(sorted(value.items()))
        else:
            yield value


def _cell(value: Any) -> Any:
    match value:
        case None:
            return ""
        case Mapping():
            return to_metadata_text(value)
        case bool():
            return str(value).lower()
        case str() if _FORMULA.match(value):
            return f"'{value}"
    return value
