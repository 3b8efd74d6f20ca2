"""What a running call has cost so far: attempts, billed answers, and time spent waiting for models.

Counts only; completer.py decides when to ask again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from llm_gateway.models.catalogue import ModelSpec
from llm_gateway.models.completion import TokenUsage
from llm_gateway.models.errors import ProviderError
from llm_gateway.usage.pricing import Spending


@dataclass(frozen=True, slots=True)
class Retry:
    """An attempt failed, and the call goes on.

    Attributes:
        attempt: Its number, those at other models included, from 1.
        model: The model that was asked.
        error: Why it failed.
        next_model: The model that is asked next.
        wait_s: Seconds until then.
    """

    attempt: int
    model: ModelSpec
    error: ProviderError
    next_model: ModelSpec
    wait_s: float


OnRetry = Callable[[Retry], None]


@dataclass(slots=True)
class Tally:
    """What a call has cost so far, a repair included; it outlives a call that is cancelled.

    Attributes:
        told: Hears of every failure after which the call goes on.
        attempts: Attempts begun.
        spent: What was billed for them.
        asking_s: Seconds that went by while models were asked, the waits between attempts included.
    """

    told: OnRetry
    attempts: int = 0
    spent: list[Spending] = field(default_factory=list)
    asking_s: float = 0.0

    def bill(self, model: ModelSpec, usage: TokenUsage | None) -> None:
        """Add what an answer was billed, if the vendor says."""
        if usage is not None:
            self.spent.append(Spending(model, usage))
