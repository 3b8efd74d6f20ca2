"""CallPrompt behind events: asynchronous invokes, and the queue of calls."""

from __future__ import annotations

from typing import Any

from llm_gateway.bootstrap import Parts
from llm_gateway.entrypoints.call_events import CallEvents, is_batch
from llm_gateway.entrypoints.event_loop import run

parts = Parts.from_env("call_prompt_async")
events = CallEvents(
    parts.calls,
    parts.queue("answer"),
    parts.queue("failure"),
    parts.telemetry,
    parts.settings.deadline_reserve_s,
)


@parts.telemetry.logger.inject_lambda_context(clear_state=True)
def handler(event: Any, context: Any) -> dict[str, Any]:
    """Answer one invoke, or one batch of messages."""
    return run(
        events.answer_batch(event, context) if is_batch(event) else events.answer_invoke(event, context)
    )
