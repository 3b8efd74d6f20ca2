"""GetUsageStats: what callers get."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llm_gateway.wire.fields import Instant, Usd, Wire


class UsageTotals(Wire):
    """Sums over calls."""

    requests: int
    errors: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_input_tokens: int
    reasoning_tokens: int
    cache_write_tokens: int
    cost_usd: Usd = Field(description="Cost of the priced calls.")
    unpriced: int = Field(description="Answered calls whose cost is unknown and therefore not in cost_usd.")
    mean_latency_ms: float | None
    max_latency_ms: int | None


class UsageBucket(Wire):
    """Totals of one bucket and group."""

    start: Instant
    group: dict[str, str | bool | None]
    totals: UsageTotals


class UsageStats(Wire):
    """GetUsageStats: totals by bucket and group."""

    start: Instant = Field(description="The range answered: whole hours around the one asked for.")
    end: Instant
    bucket: Literal["hour", "day", "total"]
    group_by: list[str]
    buckets: list[UsageBucket]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null at the end.")
    totals: UsageTotals = Field(description="Of all pages.")
