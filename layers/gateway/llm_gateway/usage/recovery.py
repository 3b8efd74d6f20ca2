"""Recovers usage records from "usage not recorded" log lines.

Reads lines only; the caller stores the records.
"""

from __future__ import annotations

import json
from typing import Any

from llm_gateway.usage.codec import record_of_values
from llm_gateway.usage.record import UsageRecord

NOT_RECORDED = "usage not recorded"


def record_of_line(line: str) -> UsageRecord | None:
    """The record in a line `usage not recorded`, None for any other line.

    The line may be as the function wrote it, have a time and a name before it as `aws logs tail` prints
    them, or be wrapped into an event of CloudWatch Logs.

    Raises:
        ValueError: The line is one, and the record is damaged.
    """
    found = _json_in(line)
    for name in ("message", "@message"):
        wrapped = found.get(name)
        if isinstance(wrapped, str) and wrapped.lstrip().startswith("{"):
            found = _json_in(wrapped)
    if found.get("message") != NOT_RECORDED:
        if NOT_RECORDED in line and not found:
            raise ValueError("The line is cut off.")
        return None
    record = record_of_values(found)
    if record.started_at.tzinfo is None:
        raise ValueError("The time has no zone.")
    return record


def _json_in(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text[text.index("{") :])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
