"""GetUsageStats: what callers ask and get, and how it is answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from llm_gateway.access.caller import Caller
from llm_gateway.access.errors import Forbidden
from llm_gateway.access.reach import EVERYTHING
from llm_gateway.api.fields import Instant, Usd, Wire
from llm_gateway.errors import InvalidParameter
from llm_gateway.usage.rollups import (
    DimensionValue,
    ReportWidth,
    RollupStore,
    Totals,
    UsageQuestion,
    answer,
    ceil_hour,
    floor_hour,
)

Dimension = Literal["calling_service", "provider", "model", "prompt", "prompt_version", "status", "test_mode"]
_YEARS = range(1970, 9999)  # rounding and zones never lead out of the years that a time can have
_LONGEST: dict[ReportWidth, timedelta] = {
    "hour": timedelta(days=31),
    "day": timedelta(days=400),
    "total": timedelta(days=400),
}


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


class UsageQuery(BaseModel):
    """What to sum."""

    model_config = ConfigDict(extra="forbid")

    start: AwareDatetime = Field(description="ISO 8601 with a zone; rounded down to the hour.")
    end: AwareDatetime = Field(description="ISO 8601 with a zone; rounded up to the hour.")
    bucket: ReportWidth = "total"
    group_by: list[Dimension] = Field(default_factory=list, max_length=7)
    calling_service: str | None = Field(None, max_length=128)
    provider: str | None = Field(None, max_length=128)
    model: str | None = Field(None, max_length=128)
    prompt: str | None = Field(None, max_length=512)
    prompt_version: str | None = Field(None, max_length=1024)
    status: Literal["answered", "failed", "timed_out", "replayed"] | None = None
    test_mode: bool | None = None
    limit: int = Field(1000, ge=1, le=1000, description="Buckets on a page.")
    cursor: str | None = Field(None, max_length=16, description="`next_cursor` of the page before.")

    def question(self, caller: Caller) -> UsageQuestion:
        """The same inside the gateway, rounded out to whole hours and narrowed to what the caller may see.

        Raises:
            InvalidParameter: The range is empty, reversed or too long.
            Forbidden: It asks for the usage of another service, or of a prompt that the caller may not see.
        """
        reach = EVERYTHING if caller.scopes.all_usage else caller.reach
        if self.prompt is not None and not reach.holds(self.prompt):
            raise Forbidden("Your key does not allow this prompt.", param="prompt")
        start, end = _checked_range(_utc(self.start, "start"), _utc(self.end, "end"), self.bucket)
        filters: dict[str, DimensionValue] = {
            "calling_service": caller.usage_filter(self.calling_service),
            "provider": self.provider,
            "model": self.model,
            "prompt": self.prompt,
            "prompt_version": self.prompt_version,
            "status": self.status,
            "test_mode": self.test_mode,
        }
        return UsageQuestion(
            start=start,
            end=end,
            width=self.bucket,
            filters={name: value for name, value in filters.items() if value is not None},
            group_by=tuple(dict.fromkeys(self.group_by)),
            may_see=reach.holds,
        )


async def usage_stats(rollups: RollupStore, query: UsageQuery, caller: Caller) -> UsageStats:
    """The sums that are asked for, one page of them.

    Raises:
        InvalidParameter: The range or the cursor is none.
        Forbidden: It is about another service than the caller's.
        StoreUnavailable: The store does not answer.
    """
    question = query.question(caller)
    rows = await answer(rollups, question)
    first = _first_row(query.cursor)
    page = rows[first : first + query.limit]
    return UsageStats(
        start=question.start,
        end=question.end,
        bucket=question.width,
        group_by=list(question.group_by),
        buckets=[UsageBucket(start=r.start, group=dict(r.group), totals=_totals(r.totals)) for r in page],
        next_cursor=str(first + query.limit) if first + query.limit < len(rows) else None,
        totals=_totals(sum((row.totals for row in rows), Totals())),
    )


def _first_row(cursor: str | None) -> int:
    """A page begins at a row's number: a range that is over has always the same rows."""
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal()):
        raise InvalidParameter("'cursor' is not one that this endpoint gave.", param="cursor")
    return int(cursor)


def _utc(moment: datetime, param: str) -> datetime:
    if moment.year not in _YEARS:
        raise InvalidParameter(f"'{param}' must lie in the years {_YEARS[0]} to {_YEARS[-1]}.", param=param)
    return moment.astimezone(UTC)


def _checked_range(start: datetime, end: datetime, width: ReportWidth) -> tuple[datetime, datetime]:
    if start >= end:
        raise InvalidParameter("'end' must be later than 'start'.", param="end")
    if end - start > _LONGEST[width]:
        days = _LONGEST[width].days
        raise InvalidParameter(
            f"The range must not be longer than {days} days for bucket '{width}'.", param="end"
        )
    return floor_hour(start), ceil_hour(end)


def _totals(totals: Totals) -> UsageTotals:
    return UsageTotals(
        requests=totals.requests,
        errors=totals.errors,
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        total_tokens=totals.input_tokens + totals.output_tokens,
        cached_input_tokens=totals.cached_input_tokens,
        reasoning_tokens=totals.reasoning_tokens,
        cache_write_tokens=totals.cache_write_tokens,
        cost_usd=totals.cost_usd,
        unpriced=totals.unpriced,
        mean_latency_ms=round(totals.latency_ms / totals.requests, 1) if totals.requests else None,
        max_latency_ms=totals.latency_max_ms if totals.requests else None,
    )
