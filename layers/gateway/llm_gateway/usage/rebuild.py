"""The sums once more from the ledger: where they differ, and a repair that loses no call meanwhile.

The sums of a day are read first, then its ledger, both as they are at that moment. A call is marked
counted in the same transaction that adds it to its sums; so a sum that is still as it was read when it
is replaced belongs to exactly the calls that were read as counted. The replacement is conditional on
that. A call that is on the ledger and was never counted is counted the way the stream counts it, once,
whoever comes first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import localcontext
from typing import Literal, Protocol

from llm_gateway.errors import InvalidParameter
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.rollups import (
    EXACT,
    BucketWidth,
    Dimensions,
    Rollup,
    RollupStore,
    Totals,
    ceil_hour,
    floor_day,
    floor_hour,
    rollups_of,
)

Outcome = Literal["found", "repaired", "kept", "busy"]
Key = tuple[BucketWidth, datetime, Dimensions]

LAG = timedelta(hours=1)
"""How long after its end a bucket is left to the stream."""
_ATTEMPTS = 5
_BATCH = 300


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A record on the ledger, and whether it is in the sums."""

    record: UsageRecord
    counted: bool


class LedgerReader(Protocol):
    """Reads the ledger by time.

    Attributes:
        unreadable: Items met so far that hold no record.
    """

    unreadable: int

    def entries(self, hour: datetime) -> AsyncIterator[LedgerEntry]:
        """Every entry of a whole hour in order of time, as it is now.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredRollup:
    """A rollup as it was read, to be replaced if it is still the same."""

    rollup: Rollup
    revision: str | None = None


class ReplaceableRollups(RollupStore, Protocol):
    """Rollups that can be set right."""

    async def stored(self, width: BucketWidth, start: datetime, end: datetime) -> Sequence[StoredRollup]:
        """Every rollup of that width in [start, end), as it is now."""
        ...

    async def replace(self, stored: StoredRollup, totals: Totals) -> bool:
        """Give a rollup these totals; False, and nothing done, if it is not as it was read.

        One that does not exist is the same as one of zeros.
        """
        ...


@dataclass(frozen=True, slots=True)
class Drift:
    """One rollup that is not what the ledger says.

    Attributes:
        stored: What was there.
        ledger: What the ledger says.
        outcome: `found` and no more; `repaired`; `kept`, because the ledger has fewer calls; `busy`, because
            it changed at every attempt.
    """

    stored: StoredRollup
    ledger: Totals
    outcome: Outcome


@dataclass(slots=True)
class RebuildReport:
    """What a rebuild found and did.

    Attributes:
        calls: Calls on the ledger.
        uncounted: Those of them that were in no sum; in a repair, those that it counted.
        rollups: Sums that were compared.
        drifts: Those that differed.
    """

    calls: int = 0
    uncounted: int = 0
    rollups: int = 0
    drifts: list[Drift] = field(default_factory=list)

    def add(self, other: RebuildReport) -> None:
        """Add another part's."""
        self.calls += other.calls
        self.uncounted += other.uncounted
        self.rollups += other.rollups
        self.drifts += other.drifts


@dataclass(frozen=True, slots=True)
class Span:
    """A day, or the hours of it that are in the range.

    A day's own sum is compared only where all of the day is.
    """

    start: datetime
    end: datetime

    @property
    def widths(self) -> tuple[BucketWidth, ...]:
        """Widths of the buckets that lie in it as a whole."""
        return ("hour", "day") if self.end - self.start == timedelta(days=1) else ("hour",)

    @property
    def hours(self) -> Iterator[datetime]:
        """Its hours."""
        hour = self.start
        while hour < self.end:
            yield hour
            hour += timedelta(hours=1)


def closed_spans(start: datetime, end: datetime, now: datetime, retention: timedelta) -> list[Span]:
    """The whole hours around a range that are over for long enough, day by day.

    Raises:
        InvalidParameter: There are none, or their ledger items may have expired.
    """
    first, last = floor_hour(start), min(ceil_hour(end), floor_hour(now - LAG))
    if first >= last:
        raise InvalidParameter("No hour of the range has been over for an hour.", param="end")
    if first < now - retention + timedelta(days=1):
        raise InvalidParameter(
            f"Calls stay on the ledger for {retention.days} days; before that there are only the sums.",
            param="start",
        )
    spans = []
    while first < last:
        until = min(last, floor_day(first) + timedelta(days=1))
        spans.append(Span(first, until))
        first = until
    return spans


class Rebuild:
    """Compares the sums with the ledger, and sets them right.

    Args:
        ledger: What happened.
        rollups: The sums.
        repair: False only tells.
        lower: True repairs also where the ledger has fewer calls than the sums.
    """

    def __init__(
        self, ledger: LedgerReader, rollups: ReplaceableRollups, *, repair: bool, lower: bool = False
    ) -> None:
        self._ledger = ledger
        self._rollups = rollups
        self._repair = repair
        self._lower = lower

    async def run(self, span: Span) -> RebuildReport:
        """One span; what changes while it is read is read again, a few times."""
        report, settled = RebuildReport(), list[Drift]()
        for _ in range(_ATTEMPTS):
            before = await self._stored(span)
            sums = await self._sums(span)
            report.calls, report.rollups = sums.calls, len(before.keys() | sums.counted.keys())
            report.uncounted = report.uncounted + sums.newly_counted if self._repair else sums.uncounted
            if self._repair and sums.uncounted:
                continue  # they are counted now, so the sums have moved
            drifts = [await self._settle(stored, ledger) for stored, ledger in _differences(before, sums)]
            settled += [drift for drift in drifts if drift.outcome == "repaired"]
            report.drifts = settled + [drift for drift in drifts if drift.outcome != "repaired"]
            if all(drift.outcome != "busy" for drift in drifts):
                break
        return report

    async def _stored(self, span: Span) -> dict[Key, StoredRollup]:
        found = [
            stored
            for width in span.widths
            for stored in await self._rollups.stored(width, span.start, span.end)
        ]
        return {_key(stored.rollup): stored for stored in found}

    async def _sums(self, span: Span) -> _Sums:
        sums, waiting = _Sums(span.widths), list[UsageRecord]()
        for hour in span.hours:
            async for entry in self._ledger.entries(hour):
                sums.add(entry)
                if self._repair and not entry.counted:
                    waiting.append(entry.record)
                if len(waiting) == _BATCH:
                    sums.newly_counted += await self._rollups.count(waiting)
                    waiting.clear()
        if waiting:
            sums.newly_counted += await self._rollups.count(waiting)
        return sums

    async def _settle(self, stored: StoredRollup, ledger: Totals) -> Drift:
        if not self._repair:
            return Drift(stored, ledger, "found")
        if ledger.requests < stored.rollup.totals.requests and not self._lower:
            return Drift(stored, ledger, "kept")
        done = await self._rollups.replace(stored, ledger)
        return Drift(stored, ledger, "repaired" if done else "busy")


class _Sums:
    """What the ledger says, in as much memory as there are sums."""

    def __init__(self, widths: Sequence[BucketWidth]) -> None:
        self._widths = widths
        self.counted: dict[Key, Totals] = {}
        self.highest: dict[Key, int] = {}
        self.calls = 0
        self.uncounted = 0
        self.newly_counted = 0

    def add(self, entry: LedgerEntry) -> None:
        with localcontext(EXACT):
            self._add(entry)

    def _add(self, entry: LedgerEntry) -> None:
        self.calls += 1
        self.uncounted += int(not entry.counted)
        for rollup in rollups_of([entry.record]):
            if rollup.width in self._widths:
                key, totals = _key(rollup), rollup.totals
                self.highest[key] = max(self.highest.get(key, 0), totals.latency_max_ms)
                if entry.counted:
                    self.counted[key] = self.counted.get(key, Totals()) + totals


def _differences(before: Mapping[Key, StoredRollup], sums: _Sums) -> Iterator[tuple[StoredRollup, Totals]]:
    for key in sorted(before.keys() | sums.counted.keys(), key=lambda key: (key[1], key[0], repr(key[2]))):
        stored = before.get(key) or StoredRollup(Rollup(*key, Totals()))
        counted = sums.counted.get(key, Totals())
        # A call raises the maximum just before it is counted; neither of the two values is wrong then.
        raised = min(stored.rollup.totals.latency_max_ms, sums.highest.get(key, 0))
        ledger = replace(counted, latency_max_ms=max(counted.latency_max_ms, raised))
        if ledger != stored.rollup.totals:
            yield stored, ledger


def _key(rollup: Rollup) -> Key:
    return rollup.width, rollup.start, rollup.dimensions
