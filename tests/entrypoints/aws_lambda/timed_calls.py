"""Calls of the real call_prompt handler, timed, and looked at for what they leave behind."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from llm_gateway.adapters.aws.ledger import record_of
from llm_gateway.entrypoints.aws_lambda.event_loop import event_loop
from llm_gateway.usage.record import UsageRecord
from tests.entrypoints.aws_lambda.conftest import Functions, LambdaContext
from tests.entrypoints.aws_lambda.test_call_prompt import http as http_event
from tests.upstream import Reply, Upstream

RESERVE_S = 1.5  # the default of LLM_GATEWAY_DEADLINE_RESERVE_S
DEADLINE_S = 1.0
GRACE_S = 0.25
REQUEST: dict[str, Any] = {"prompt": "hello", "variables": {"name": "Ada"}}
STATUS = {
    "provider_timeout": 504,
    "provider_unavailable": 502,
    "invalid_provider_response": 502,
    "provider_response_not_json": 502,
    "provider_response_no_choices": 502,
    "provider_response_no_content": 502,
    "answer_truncated": 422,
    "model_refused": 422,
    "provider_rate_limited": 429,
}
Ask = Callable[[Functions, LambdaContext], Any]


def direct(functions: Functions, context: LambdaContext) -> Any:
    return functions.run("call_prompt", REQUEST, context)


def over_http(functions: Functions, context: LambdaContext) -> Any:
    status, body = functions.http("call_prompt", http_event(json.dumps(REQUEST)), context)
    assert status == (STATUS[body["error"]["code"]] if "error" in body else 200)
    return body


@dataclass(frozen=True)
class Ended:
    """How a call ended, looked at as soon as the handler returned."""

    answer: Any
    took_s: float
    tasks: set[asyncio.Task[Any]]
    busy: list[str]
    record: UsageRecord

    @property
    def error(self) -> Any:
        return self.answer["error"]


def call(ask: Ask, functions: Functions, seconds: float = DEADLINE_S) -> Ended:
    """Call with a deadline `seconds` from now."""
    context = LambdaContext(remaining_ms=round((seconds + RESERVE_S) * 1000))
    began = time.monotonic()
    answer = ask(functions, context)
    took_s = time.monotonic() - began
    return Ended(answer, took_s, asyncio.all_tasks(event_loop()), busy_threads(), last_record(functions))


def call_in_time(
    ask: Ask,
    functions: Functions,
    upstream: Upstream,
    reply: Reply | None,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Ended:
    """Call; once more if it took too long, as a busy machine may have been to blame."""
    for _ in range(2):
        upstream.forget()
        upstream.answers(*([reply] if reply else []))
        with around():
            ended = call(ask, functions)
        if ended.took_s <= DEADLINE_S + GRACE_S:
            break
    return ended


def busy_threads(patience_s: float = 0.3) -> list[str]:
    """Threads that work on after the handler; a pool's that wait for work, or soon do, are none."""
    give_up = time.monotonic() + patience_s
    while (busy := _threads_not_waiting()) and time.monotonic() < give_up:
        time.sleep(0.01)
    return busy


def _threads_not_waiting() -> list[str]:
    frames = sys._current_frames()
    waiting = {name for name in frames if frames[name].f_code.co_filename.endswith("futures/thread.py")}
    return [
        thread.name
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not thread.daemon and thread.ident not in waiting
    ]


def last_record(functions: Functions) -> UsageRecord:
    items = functions.dynamodb.scan(TableName=functions.usage_table)["Items"]
    return max((record_of(item) for item in items), key=lambda record: record.started_at)


def assert_nothing_is_left(ended: Ended, functions: Functions, ask: Ask) -> None:
    """The call ended in time, on the ledger, without leftovers, and the environment is still good."""
    assert ended.took_s <= DEADLINE_S + GRACE_S, f"it took {ended.took_s} s"
    assert not ended.tasks, f"tasks left on the event loop: {ended.tasks}"
    assert not ended.busy, f"threads at work: {ended.busy}"
    assert ended.record.error_code == ended.error["code"]
    assert ended.record.attempts == ended.error["details"]["attempts"]
    following = call(ask, functions, 10)
    assert following.answer["text"] == "Hello."
    assert (following.answer["attempts"], following.record.status) == (1, "answered")
