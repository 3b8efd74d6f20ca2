"""In-memory stand-ins of the gateway's ports; each passes the contract suite of what it stands for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from typing_extensions import override

from llm_gateway.adapters.memory.prompt_index import InMemoryPromptIndex
from llm_gateway.budgets.budgets import ThresholdReached
from llm_gateway.budgets.holds import Hold, Mark, Standing
from llm_gateway.budgets.limits import Amount, Limits, Unit, Width, resets_at
from llm_gateway.calls.completer import Completer, RetryPolicy
from llm_gateway.calls.idempotency import Claim, Earlier
from llm_gateway.calls.tally import Retry
from llm_gateway.errors import GatewayError, PromptNotFound, StoreUnavailable
from llm_gateway.models.catalogue import ModelSpec
from llm_gateway.models.completion import Completion, TokenUsage
from llm_gateway.models.messages import Message
from llm_gateway.models.options import ModelOptions
from llm_gateway.prompts.catalogue.assembly import Upload
from llm_gateway.prompts.catalogue.entries import PromptEntry, Revision
from llm_gateway.prompts.catalogue.shares import Labels
from llm_gateway.providers.fake.provider import FakeProvider
from llm_gateway.usage.rebuild import LedgerEntry, StoredRollup
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.rollups import BucketWidth, Dimensions, Rollup, Totals, rollups_of

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class CountingPromptIndex(InMemoryPromptIndex):
    """Counts what a call reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    @override
    async def generation(self) -> int:
        self.reads += 1
        return await super().generation()

    @override
    async def find(self, path: str) -> Sequence[PromptEntry]:
        self.reads += 1
        return await super().find(path)

    @override
    async def revision(self, path: str, version: str) -> Revision | None:
        self.reads += 1
        return await super().revision(path, version)

    @override
    async def labels(self, path: str) -> Labels:
        self.reads += 1
        return await super().labels(path)


class InMemoryPromptFiles:
    """A versioned bucket without S3; a deletion is a version without bytes."""

    def __init__(self) -> None:
        self.history: dict[str, list[tuple[str, bytes | None]]] = {}
        self.made = 0
        self.reads = 0

    def upload(self, path: str, data: bytes) -> str:
        return self._add(path, data)

    def delete(self, path: str) -> None:
        self._add(path, None)

    def delete_version(self, path: str, version: str) -> None:
        self.history[path] = [found for found in self.history[path] if found[0] != version]

    async def read(self, path: str, version: str) -> bytes:
        self.reads += 1
        for found, data in self.history.get(path, []):
            if found == version and data is not None:
                return data
        raise PromptNotFound("There is no such version.", param="version")

    async def newest(self, path: str, max_bytes: int) -> Upload | None:
        history = self.history.get(path)
        return _upload(*history[-1], max_bytes) if history else None

    async def earlier(
        self, path: str, version: str | None, max_bytes: int, *, deleted_too: bool = False
    ) -> AsyncGenerator[Upload, None]:
        newest_first = [*reversed(self.history.get(path, []))]
        names = [found for found, _ in newest_first]
        for found, data in newest_first[names.index(version) + 1 if version else 0 :]:
            upload = _upload(found, data, max_bytes)
            if upload is not None:
                yield upload
            elif not deleted_too:
                return

    async def current(self) -> Mapping[str, str]:
        return {path: h[-1][0] for path, h in self.history.items() if h and h[-1][1] is not None}

    def _add(self, path: str, data: bytes | None) -> str:
        self.made += 1
        self.history.setdefault(path, []).append((f"v{self.made}", data))
        return f"v{self.made}"


def _upload(version: str, data: bytes | None, max_bytes: int) -> Upload | None:
    if data is None:
        return None
    return Upload(version, f"etag-{version}", len(data), NOON, data if len(data) <= max_bytes else None)


class InMemoryUsage:
    """Ledger and rollups without a table; `down` makes it refuse."""

    def __init__(self) -> None:
        self.records: dict[str, UsageRecord] = {}
        self.counted: set[str] = set()
        self.sums: dict[tuple[BucketWidth, datetime, Dimensions], Totals] = {}
        self.down = False
        self.unreadable = 0

    async def record(self, record: UsageRecord) -> None:
        if self.down:
            raise StoreUnavailable("The ledger is down.", details={"reason": "test"})
        self.records.setdefault(record.call_id, record)

    async def count(self, records: Sequence[UsageRecord]) -> int:
        new = sorted({r.call_id for r in records if r.call_id in self.records} - self.counted)
        self.counted |= set(new)
        for rollup in rollups_of(self.records[call_id] for call_id in new):
            key = (rollup.width, rollup.start, rollup.dimensions)
            self.sums[key] = self.sums.get(key, Totals()) + rollup.totals
        return len(new)

    async def read(self, width: BucketWidth, start: datetime, end: datetime) -> Sequence[Rollup]:
        rollups = [Rollup(*key, totals) for key, totals in self.sums.items()]
        return [r for r in rollups if r.width == width and start <= r.start < end]

    async def stored(self, width: BucketWidth, start: datetime, end: datetime) -> Sequence[StoredRollup]:
        return [StoredRollup(rollup) for rollup in await self.read(width, start, end)]

    async def replace(self, stored: StoredRollup, totals: Totals) -> bool:
        key = (stored.rollup.width, stored.rollup.start, stored.rollup.dimensions)
        if self.sums.get(key, Totals()) != stored.rollup.totals:
            return False
        self.sums[key] = totals
        return True

    async def entries(self, hour: datetime) -> AsyncIterator[LedgerEntry]:
        within = [r for r in self.records.values() if hour <= r.started_at < hour + timedelta(hours=1)]
        for record in sorted(within, key=lambda r: (r.started_at, r.call_id)):
            yield LedgerEntry(record, record.call_id in self.counted)


class InMemoryOutcomes:
    """Idempotency keys without a table; `down` makes it refuse."""

    def __init__(self) -> None:
        self.items: dict[str, tuple[Claim, bool, bytes | None]] = {}
        self.down = False

    async def claim(self, claim: Claim, now: datetime, *, take_over: bool) -> Earlier | None:
        self._check()
        if claim.key in self.items:
            earlier, ended, outcome = self.items[claim.key]
            dead = take_over and not ended and earlier.held_until <= now
            if earlier.expires_at > now and not dead:
                return Earlier(earlier.request, earlier.held_until, ended, outcome)
        self.items[claim.key] = (claim, False, None)
        return None

    async def end(self, claim: Claim, outcome: bytes | None) -> None:
        self._check()
        if self._is_ours(claim):
            self.items[claim.key] = (claim, True, outcome)

    async def release(self, claim: Claim) -> None:
        self._check()
        if self._is_ours(claim):
            del self.items[claim.key]

    def _is_ours(self, claim: Claim) -> bool:
        return claim.key in self.items and self.items[claim.key][0].holder == claim.holder

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("The store is down.", details={"reason": "test"})


class InMemoryBudgets:
    """Budgets without a table; `down` makes it refuse."""

    def __init__(self) -> None:
        self.spent: list[tuple[Hold, Amount]] = []
        self.holds: dict[tuple[str, str], Hold] = {}
        self.swept: dict[tuple[str, str], Hold] = {}
        self.marks: set[tuple[str, datetime, Mark]] = set()
        self.asked = 0
        self.down = False

    async def reserve(self, hold: Hold, limits: Limits, now: datetime) -> Standing:
        self._check()
        key = (hold.budget, hold.holder)
        if key not in self.holds and self._standing(hold).in_the_way(limits, hold.most):
            self._sweep(hold, now)
        if key not in self.holds and not self._standing(hold).in_the_way(limits, hold.most):
            self.holds[key] = hold
        return self._standing(hold)

    async def settle(self, hold: Hold, spent: Amount) -> Standing:
        self._check()
        key = (hold.budget, hold.holder)
        if self.holds.pop(key, None) or self.swept.pop(key, None):
            self.spent.append((hold, spent))
        return self._standing(hold)

    async def mark(self, hold: Hold, mark: Mark) -> bool:
        self._check()
        key = (hold.budget, resets_at(mark.width, hold.moment), mark)
        new = key not in self.marks
        self.marks.add(key)
        return new

    def _sweep(self, hold: Hold, now: datetime) -> None:
        ours = {name: h for name, h in self.holds.items() if _same_window(h, hold, "month")}
        dead = {name: h for name, h in ours.items() if h.held_until <= now}
        self.swept |= dead
        self.holds = {name: h for name, h in self.holds.items() if name not in dead}

    def _standing(self, hold: Hold) -> Standing:
        used: dict[tuple[Width, Unit], Decimal] = {}
        held: dict[tuple[Width, Unit], Decimal] = {}
        widths: tuple[Width, ...] = ("day", "month")
        units: tuple[Unit, ...] = ("usd", "tokens")
        for width, unit in ((width, unit) for width in widths for unit in units):
            ours = [h for h in self.holds.values() if _same_window(h, hold, width)]
            spent = [amount.of(unit) for h, amount in self.spent if _same_window(h, hold, width)]
            held[width, unit] = sum((h.most.of(unit) for h in ours), Decimal(0))
            used[width, unit] = held[width, unit] + sum(spent, Decimal(0))
        told = (m for b, end, m in self.marks if b == hold.budget and end == resets_at(m.width, hold.moment))
        return Standing((hold.budget, hold.holder) in self.holds, used, held, frozenset(told))

    def _check(self) -> None:
        self.asked += 1
        if self.down:
            raise StoreUnavailable("The store is down.", details={"reason": "test"})


def _same_window(one: Hold, other: Hold, width: Width) -> bool:
    return one.budget == other.budget and resets_at(width, one.moment) == resets_at(width, other.moment)


class RecordingNotices:
    """Keeps what it is told to send; `down` makes it refuse."""

    def __init__(self) -> None:
        self.sent: list[ThresholdReached] = []
        self.down = False

    async def send(self, reached: ThresholdReached) -> None:
        if self.down:
            raise StoreUnavailable("The bus is down.", details={"reason": "test"})
        self.sent.append(reached)


class ScriptedProvider:
    """Gives what it is told to, in order: completions, errors, or seconds to wait first."""

    def __init__(self, *script: Completion | Exception | float) -> None:
        self.script = list(script)
        self.asked: list[tuple[ModelSpec, Sequence[Message], ModelOptions, float]] = []

    async def complete(
        self, model: ModelSpec, messages: Sequence[Message], options: ModelOptions, timeout_s: float
    ) -> Completion:
        self.asked.append((model, messages, options, timeout_s))
        while isinstance(self.script[0], float):
            await asyncio.sleep(self.script.pop(0))  # type: ignore[arg-type]
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        assert isinstance(step, Completion)
        return step


class RecordingObserver:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.ended: list[tuple[UsageRecord, GatewayError | None]] = []
        self.asking_s: list[float | None] = []
        self.retries: list[Retry] = []
        self.lost: list[UsageRecord] = []
        self.spared: list[UsageRecord] = []
        self.refusals: list[GatewayError] = []
        self.crashes: list[BaseException] = []
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.counts: list[dict[str, float | None]] = []
        self.not_kept: list[Exception] = []
        self.reached: list[ThresholdReached] = []
        self.unsettled: list[tuple[Hold, Amount]] = []
        self.unsent: list[str] = []

    def call_ended(self, record: UsageRecord, error: GatewayError | None, asking_s: float | None) -> None:
        self.ended.append((record, error))
        self.asking_s.append(asking_s)

    def call_retried(self, call_id: str, retry: Retry) -> None:
        self.retries.append(retry)

    def ledger_refused(self, record: UsageRecord, error: StoreUnavailable | TimeoutError) -> None:
        self.spared.append(record)

    def usage_not_recorded(self, record: UsageRecord, error: StoreUnavailable | TimeoutError) -> None:
        self.lost.append(record)

    def outcome_not_kept(self, request_id: str, error: Exception) -> None:
        self.not_kept.append(error)

    def budget_reached(self, reached: ThresholdReached) -> None:
        self.reached.append(reached)

    def budget_not_settled(self, hold: Hold, spent: Amount, error: Exception) -> None:
        self.unsettled.append((hold, spent))

    def budget_notice_not_sent(self, budget: str, error: Exception) -> None:
        self.unsent.append(budget)

    def refused(self, error: GatewayError, request_id: str | None) -> None:
        self.refusals.append(error)

    def served(self, method: str, path: str, status: int, duration_ms: float, request_id: str) -> None:
        self.notes.append(("served", {"method": method, "path": path, "status": status}))

    def crashed(self, error: BaseException, request_id: str | None) -> None:
        self.crashes.append(error)

    def note(self, message: str, **facts: Any) -> None:
        self.notes.append((message, facts))

    def readiness_changed(self, failed: Sequence[str]) -> None:
        self.notes.append(("readiness_changed", {"failed": [*failed]}))

    def warn(self, message: str, **facts: Any) -> None:
        self.notes.append((message, facts))

    def count(self, counts: dict[str, float | None]) -> None:
        self.counts.append(counts)


def completion(text: str = "Hello.", usage: TokenUsage | None = None) -> Completion:
    return Completion(text, "stop", usage or TokenUsage(100, 20, 0, 0), "gpt-4o-mini-2024-07-18")


def rehearsals() -> Completer:
    """What answers calls that ask for test mode."""
    return Completer({"openai": FakeProvider()}, RetryPolicy(limit=3, first_wait_s=0))
