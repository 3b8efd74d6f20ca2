"""The record of one call: what was asked, how it ended, and what it cost.

A plain value; prices are in pricing.py, the port of the ledger is in ledger.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

from llm_gateway.models.completion import TokenUsage

CallStatus = Literal["answered", "failed", "timed_out", "replayed"]


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
