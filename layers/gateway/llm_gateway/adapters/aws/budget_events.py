"""Thresholds of budgets as events on an EventBridge bus."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from llm_gateway.adapters.aws.sdk import ask, unavailable
from llm_gateway.budgets.budgets import ThresholdReached
from llm_gateway.formats import to_decimal_text, to_iso

SOURCE = "llm-gateway"
DETAIL_TYPE = "Budget threshold reached"


class EventBus:
    """See BudgetNotices.

    Args:
        put_events: Makes the SDK's put_events; called at the first event, as few processes ever have one.
        bus: Name or ARN of the bus.
        environment: Name of the deployment.
    """

    def __init__(self, put_events: Callable[[], Callable[..., Any]], bus: str, environment: str) -> None:
        self._put_events = put_events
        self._bus = bus
        self._environment = environment

    async def send(self, reached: ThresholdReached) -> None:
        """See BudgetNotices.send."""
        detail = json.dumps({**described(reached), "environment": self._environment})
        entry = {"Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": detail, "EventBusName": self._bus}
        answer = await ask(lambda: self._put_events()(Entries=[entry]))
        if answer.get("FailedEntryCount"):
            raise unavailable(str(answer["Entries"][0].get("ErrorCode")))


def described(reached: ThresholdReached) -> dict[str, str | int]:
    """A reached threshold as JSON has it; amounts are decimal text."""
    return {
        "budget": reached.budget,
        "window": reached.limit.width,
        "unit": reached.limit.unit,
        "percent": reached.percent,
        "limit": to_decimal_text(reached.limit.most),
        "spent": to_decimal_text(reached.spent),
        "resets_at": to_iso(reached.resets_at),
    }
