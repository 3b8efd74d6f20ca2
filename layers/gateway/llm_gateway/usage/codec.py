"""A usage record from plain values by name, as stores, queues and log lines hold it.

Knows no store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, Any

from llm_gateway.models.completion import TokenUsage
from llm_gateway.usage.record import UsageRecord

if TYPE_CHECKING:
    from pydantic import TypeAdapter


_TOKEN_COUNTS = tuple(f.name for f in fields(TokenUsage))


def record_of_values(values: Mapping[str, Any]) -> UsageRecord:
    """A record from its fields by name, the token counts among them; unknown ones are absent.

    Raises:
        ValueError: They are no record.
    """
    usage = {name: values.get(name) for name in _TOKEN_COUNTS}
    optional = dict.fromkeys(("error_code", "calling_service", "correlation_id", "cost_usd"))
    return _codec().validate_python({**optional, **values, "usage": usage})


@cache
def _codec() -> TypeAdapter[UsageRecord]:
    from pydantic import TypeAdapter

    return TypeAdapter(UsageRecord)
