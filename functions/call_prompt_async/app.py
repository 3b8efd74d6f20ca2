"""CallPrompt behind events: asynchronous invokes, and the queue of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_gateway.entrypoints.aws_lambda.function import LambdaHandler, loaded

if TYPE_CHECKING:
    from llm_gateway.bootstrap.services import Parts


def build(parts: Parts) -> LambdaHandler:
    """Answers invokes, and batches of messages."""
    from llm_gateway.entrypoints.aws_lambda.call_queue import CallEvents, is_batch
    from llm_gateway.entrypoints.aws_lambda.event_loop import run

    reserve_s = parts.settings.deadline_reserve_s
    queues = parts.queue("answer"), parts.queue("failure")
    events = CallEvents(parts.calls, *queues, parts.telemetry, reserve_s)

    def handle(event: Any, context: Any) -> dict[str, Any]:
        if is_batch(event):
            return run(events.answer_batch(event, context))
        return run(events.answer_invoke(event, context))

    return handle


parts, handler = loaded("call_prompt_async", build)
