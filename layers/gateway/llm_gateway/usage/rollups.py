"""Sums over calls: which bucket a call falls in, and how a question is answered from buckets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from decimal import Context, Decimal
from typing import Literal, Protocol

from llm_gateway.usage.record import UsageRecord

BucketWidth = Literal["hour", "day"]
ReportWidth = Literal["hour", "day", "total"]
DimensionValue = str | bool | None

EXACT = Context(prec=100)
"""For sums that must have every digit of their costs; decimal's own context keeps 28."""
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Dimensions:
    """What calls are told apart by."""

    calling_service: str | None
    provider: str
    model: str
    prompt: str
    prompt_version: str
    status: str
    test_mode: bool


DIMENSION_NAMES = tuple(f.name for f in fields(Dimensions))


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over calls; `+` joins two of them.

    Attributes:
        requests: Calls.
        errors: Calls that failed or timed out.
        input_tokens: Known input tokens.
        output_tokens: Known output tokens.
        cached_input_tokens: Known cached part of the input.
        reasoning_tokens: Known reasoning part of the output.
        cache_write_tokens: Known part of the input that was put into a cache.
        cost_usd: Cost of the priced calls, exact.
        unpriced: Answered calls whose cost is unknown, so `cost_usd` lacks them.
        latency_ms: Sum of latencies.
        latency_max_ms: The longest of them.
    """

    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    unpriced: int = 0
    latency_ms: int = 0
    latency_max_ms: int = 0

    def __add__(self, other: Totals) -> Totals:
        sums = {name: getattr(self, name) + getattr(other, name) for name in SUM_NAMES}
        return Totals(**sums, latency_max_ms=max(self.latency_max_ms, other.latency_max_ms))


TOTAL_NAMES = tuple(f.name for f in fields(Totals))
MAX_NAME = "latency_max_ms"
SUM_NAMES = tuple(name for name in TOTAL_NAMES if name != MAX_NAME)


@dataclass(frozen=True, slots=True)
class Rollup:
    """The totals of one bucket and one combination of dimensions."""

    width: BucketWidth
    start: datetime
    dimensions: Dimensions
    totals: Totals


@dataclass(frozen=True, slots=True)
class UsageQuestion:
    """What a caller of GetUsageStats wants to know.

    Attributes:
        start: First moment, aware UTC, a whole hour.
        end: Moment after the last, aware UTC, a whole hour.
        width: Buckets of the answer; `total` is one bucket.
        filters: Dimension values that must match.
        group_by: Dimensions to tell apart.
        may_see: Tells whether the caller may see the name of a prompt.
    """

    start: datetime
    end: datetime
    width: ReportWidth
    filters: Mapping[str, DimensionValue] = field(default_factory=dict)
    group_by: tuple[str, ...] = ()
    may_see: Callable[[str], bool] = lambda _: True


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One line of an answer: a bucket, the values grouped by, and the totals."""

    start: datetime
    group: Mapping[str, DimensionValue]
    totals: Totals


class RollupStore(Protocol):
    """Where rollups are kept. All methods raise StoreUnavailable when the store does not answer."""

    async def count(self, records: Sequence[UsageRecord]) -> int:
        """Add records to their hour and day; returns how many were new.

        A record counts once however often, in whatever company and order it comes, and whatever
        was interrupted before.
        """
        ...

    async def read(self, width: BucketWidth, start: datetime, end: datetime) -> Sequence[Rollup]:
        """Every rollup of that width whose bucket starts in [start, end)."""
        ...


def totals_of(record: UsageRecord) -> Totals:
    """One call as totals."""
    usage = record.usage
    return Totals(
        requests=1,
        errors=int(record.status in ("failed", "timed_out")),
        input_tokens=usage.input_tokens or 0,
        output_tokens=usage.output_tokens or 0,
        cached_input_tokens=usage.cached_input_tokens or 0,
        reasoning_tokens=usage.reasoning_tokens or 0,
        cache_write_tokens=usage.cache_write_tokens or 0,
        cost_usd=record.cost_usd or Decimal(0),
        unpriced=int(record.status == "answered" and record.cost_usd is None),
        latency_ms=record.latency_ms,
        latency_max_ms=record.latency_ms,
    )


def rollups_of(records: Iterable[UsageRecord]) -> list[Rollup]:
    """The hours and days that records fall in, each with its sum."""
    sums: dict[tuple[BucketWidth, datetime, Dimensions], Totals] = {}
    for record in records:
        dimensions = Dimensions(*(getattr(record, name) for name in DIMENSION_NAMES))
        hour = floor_hour(record.started_at)
        for key in (("hour", hour, dimensions), ("day", floor_day(hour), dimensions)):
            sums[key] = sums.get(key, Totals()) + totals_of(record)
    return [Rollup(*key, totals) for key, totals in sums.items()]


async def answer(store: RollupStore, question: UsageQuestion) -> list[UsageRow]:
    """Rows by bucket and group, both ascending; reads rollups only, whole days where they fit."""
    sums: dict[tuple[datetime, tuple[DimensionValue, ...]], Totals] = {}
    for width, start, end in _plan(question):
        for rollup in await store.read(width, start, end):
            if _matches(rollup.dimensions, question.filters):
                group = _group(rollup.dimensions, question)
                key = (_bucket(rollup.start, question), group)
                sums[key] = sums.get(key, Totals()) + rollup.totals
    return [
        UsageRow(start=start, group=dict(zip(question.group_by, group, strict=True)), totals=totals)
        for (start, group), totals in sorted(sums.items(), key=lambda item: (item[0][0], repr(item[0][1])))
    ]


def _group(dimensions: Dimensions, question: UsageQuestion) -> tuple[DimensionValue, ...]:
    """The values grouped by; prompts that the caller may not see are one group without a name."""
    hidden = () if question.may_see(dimensions.prompt) else ("prompt", "prompt_version")
    return tuple(None if name in hidden else getattr(dimensions, name) for name in question.group_by)


def floor_hour(moment: datetime) -> datetime:
    """The whole hour at or before `moment`."""
    return moment.replace(minute=0, second=0, microsecond=0)


def ceil_hour(moment: datetime) -> datetime:
    """The whole hour at or after `moment`."""
    floor = floor_hour(moment)
    return floor if floor == moment else floor + _HOUR


def floor_day(moment: datetime) -> datetime:
    """Midnight UTC at or before `moment`."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _plan(question: UsageQuestion) -> list[tuple[BucketWidth, datetime, datetime]]:
    """Hours up to the first midnight, whole days, hours after the last midnight."""
    start, end = question.start, question.end
    first, last = floor_day(start - timedelta(microseconds=1)) + _DAY, floor_day(end)
    if question.width == "hour" or first >= last:
        return [("hour", start, end)]
    parts: list[tuple[BucketWidth, datetime, datetime]] = [
        ("hour", start, first),
        ("day", first, last),
        ("hour", last, end),
    ]
    return [part for part in parts if part[1] < part[2]]


def _bucket(moment: datetime, question: UsageQuestion) -> datetime:
    match question.width:
        case "total":
            return question.start
        case "day":
            return floor_day(moment)
        case "hour":
            return moment


def _matches(dimensions: Dimensions, filters: Mapping[str, DimensionValue]) -> bool:
    return all(getattr(dimensions, name) == value for name, value in filters.items())
