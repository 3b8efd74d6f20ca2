"""What a call cost: its record, its price, and the ledger that keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import reduce
from operator import add
from typing import Literal, Protocol

from llm_gateway.errors import StoreUnavailable
from llm_gateway.models.catalogue import ModelPrice, ModelSpec
from llm_gateway.models.completion import TokenUsage

CallStatus = Literal["answered", "failed", "timed_out", "replayed"]
_PER_TOKEN = Decimal(1) / Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One call that reached a provider, whatever its end, or was answered with an earlier one's answer.

    Attributes:
        call_id: Unique; the ledger accepts each id once.
        request_id: The request that made the call, as logs and answers name it.
        started_at: Aware UTC, from the gateway's clock.
        status: How the call ended; `replayed` spent nothing.
        error_code: Stable code of the error, None if answered.
        calling_service: Who called, None if nobody said.
        correlation_id: The caller's own name for the call, None if it gave none.
        prompt: Prompt path.
        prompt_version: The version that was rendered.
        provider: Provider name.
        model: Model name as requested.
        usage: Token counts; fields are None where unknown.
        cost_usd: Exact and unrounded; None if unpriced or unmetered, never 0 for lack of knowledge.
        latency_ms: From the start of the call to the provider's last word.
        attempts: Provider attempts made.
        test_mode: True if no vendor was involved.
        metadata: What the caller attached to the call; in no metric, no sum, and no log line but the one
            that brings a lost record back.
    """

    call_id: str
    request_id: str
    started_at: datetime
    status: CallStatus
    error_code: str | None
    calling_service: str | None
    correlation_id: str | None
    prompt: str
    prompt_version: str
    provider: str
    model: str
    usage: TokenUsage
    cost_usd: Decimal | None
    latency_ms: int
    attempts: int
    test_mode: bool
    metadata: Mapping[str, str] = field(default_factory=dict)


class UsageLedger(Protocol):
    """Where records are kept."""

    async def record(self, record: UsageRecord) -> None:
        """Keep a record; a second one with the same call id changes nothing.

        Raises:
            StoreUnavailable: The record is not kept.
        """
        ...


class LedgerObserver(Protocol):
    """Told when the ledger itself did not take a record."""

    def ledger_refused(self, record: UsageRecord, error: StoreUnavailable | TimeoutError) -> None:
        """The record went to the spare."""
        ...


class LedgerWithSpare:
    """A ledger that keeps a record elsewhere when it cannot be written; see UsageLedger.

    Args:
        ledger: Asked first.
        spare: Asked if the ledger refuses or is too slow; what it keeps is drained into the ledger later.
        observer: Hears of that.
        patience_s: Longest wait for the ledger, seconds.
    """

    def __init__(
        self, ledger: UsageLedger, spare: UsageLedger, observer: LedgerObserver, patience_s: float = 0.25
    ) -> None:
        self._ledger = ledger
        self._spare = spare
        self._observer = observer
        self._patience_s = patience_s

    async def record(self, record: UsageRecord) -> None:
        """See UsageLedger.record."""
        try:
            async with asyncio.timeout(self._patience_s):
                await self._ledger.record(record)
        except (StoreUnavailable, TimeoutError) as refusal:
            await self._spare.record(record)
            self._observer.ledger_refused(record, refusal)


@dataclass(frozen=True, slots=True)
class Spending:
    """What the vendor billed for one answer, usable or not.

    Attributes:
        model: The model that gave it.
        usage: Its tokens.
    """

    model: ModelSpec
    usage: TokenUsage


def total_usage(spent: Sequence[Spending]) -> TokenUsage:
    """Tokens of all answers of a call; unknown if nothing is known to have been billed."""
    if not spent:
        return TokenUsage()
    return reduce(add, (spending.usage for spending in spent))


def total_cost_usd(spent: Sequence[Spending]) -> Decimal | None:
    """Cost of all answers of a call, each at its own model's price; None if one of them is unknown."""
    costs = [cost_usd(spending.usage, spending.model.price) for spending in spent]
    known = [cost for cost in costs if cost is not None]
    return sum(known, Decimal(0)) if costs and len(known) == len(costs) else None


def cost_usd(usage: TokenUsage, price: ModelPrice | None) -> Decimal | None:
    """Price one completion.

    Input tokens read from the vendor's cache, and those written to it, are part of `input_tokens`, not
    added to it, so they leave the full rate first; reasoning tokens are part of `output_tokens` and
    billed like them.

    Args:
        usage: Token counts of one completion; cached and written ones together <= input_tokens.
        price: Rates in USD per 1,000,000 tokens, or None if there is no price.

    Returns:
        USD, exact and unrounded; None if the price or a token count is unknown.

    Raises:
        ValueError: More of them than input tokens: the provider adapter broke TokenUsage's promise.

    Source: OpenAI's usage object, where `cached_tokens` and `cache_write_tokens` are disjoint parts of
    the prompt tokens; rates and their date in models/catalogue.toml.
    """
    if price is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    cached, written = usage.cached_input_tokens or 0, usage.cache_write_tokens or 0
    plain = usage.input_tokens - cached - written
    if min(cached, written, plain) < 0:
        raise ValueError("cached and written tokens must be parts of input_tokens")
    rates = price.rates(usage.input_tokens)
    return _PER_TOKEN * (
        plain * rates.input
        + cached * rates.cached_input
        + written * rates.cache_write
        + usage.output_tokens * rates.output
    )
