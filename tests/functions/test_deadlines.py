"""call_prompt keeps its deadline whatever the vendor does, in real time and over real sockets."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from llm_gateway.entrypoints.event_loop import event_loop
from llm_gateway.stores.usage_table import record_of
from llm_gateway.usage import UsageRecord
from tests import sockets
from tests.functions.conftest import Functions, LambdaContext
from tests.functions.test_call_prompt import http as http_event
from tests.upstream import Reply, Upstream, chat_completion, failure

RESERVE_S = 1.5  # the default of LLM_GATEWAY_DEADLINE_RESERVE_S
DEADLINE_S = 1.0
GRACE_S = 0.25
GOOD = chat_completion()
REQUEST = '{"prompt": "hello", "variables": {"name": "Ada"}}'

HANGING = {
    "says nothing": Reply(sends="nothing", then="silence"),
    "answers too late": Reply(body=GOOD, delay_s=3),
    "dribbles its headers": Reply(body=GOOD, header_pause_s=0.05),
    "sends a byte a second": Reply(body=GOOD, body_pause_s=1),
    "dribbles its body": Reply(body=GOOD, body_pause_s=0.02),
    "falls silent after the headers": Reply(body=GOOD, sends="head", then="silence"),
    "falls silent in the body": Reply(body=GOOD, sends="half", then="silence"),
    "shuts its reading half and keeps silent": Reply(sends="nothing", then="shut_reading"),
    "refuses slowly": Reply(503, {"error": {"code": "overloaded"}}, body_pause_s=0.1),
}
ENDING = {
    "hangs up without an answer": Reply(sends="nothing", then="disconnect"),
    "hangs up in the body": Reply(body=GOOD, sends="half", then="disconnect"),
    "hangs up after a while": Reply(body=GOOD, delay_s=0.3, sends="nothing", then="disconnect"),
    "resets without an answer": Reply(sends="nothing", then="reset"),
    "resets in the body": Reply(body=GOOD, sends="half", then="reset"),
    "shuts its writing half without an answer": Reply(sends="nothing", then="shut_writing"),
    "shuts its writing half in the body": Reply(body=GOOD, sends="half", then="shut_writing"),
}
REFUSED = {"message": {"role": "assistant", "content": None, "refusal": "No."}, "finish_reason": "stop"}
CUT_OFF = {"message": {"role": "assistant", "content": ""}, "finish_reason": "length"}
MALFORMED = {
    "not JSON": (Reply(body=b"<html>"), "provider_response_not_json"),
    "truncated JSON": (Reply(body=b'{"id": "chatcmpl-1", "choi'), "provider_response_not_json"),
    "no choices": (Reply(body=chat_completion(choices=[])), "provider_response_no_choices"),
    "null content": (Reply(body=chat_completion(None)), "provider_response_no_content"),
    "a list instead of an object": (Reply(body=[]), "invalid_provider_response"),
    "an answer cut off before it began": (Reply(body=chat_completion(choices=[CUT_OFF])), "answer_truncated"),
    "a refusal": (Reply(body=chat_completion(choices=[REFUSED])), "model_refused"),
}


def direct(functions: Functions, context: LambdaContext) -> Any:
    event = {"prompt": "hello", "variables": {"name": "Ada"}}
    return functions.run("call_prompt", event, context)


def over_http(functions: Functions, context: LambdaContext) -> Any:
    status, body = functions.http("call_prompt", http_event(REQUEST), context)
    assert status == (STATUS[body["error"]["code"]] if "error" in body else 200)
    return body


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
both_ways_in = pytest.mark.parametrize("ask", [direct, over_http])


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


@pytest.fixture(autouse=True)
def warm(live: Functions, upstream: Upstream) -> Iterator[None]:
    """A prompt that is stored, and an environment that has answered a call before."""
    live.upload("hello.md", "Say hello to {{ name }}.")
    assert direct(live, LambdaContext())["text"] == "Hello."
    live.lines()
    yield
    assert event_loop().is_running() is False


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
    assert ended.took_s <= DEADLINE_S + GRACE_S
    assert ended.tasks == set()
    assert ended.busy == []
    assert ended.record.error_code == ended.error["code"]
    assert ended.record.attempts == ended.error["details"]["attempts"]
    following = call(ask, functions)
    assert following.answer["text"] == "Hello."
    assert (following.answer["attempts"], following.record.status) == (1, "answered")


@both_ways_in
@pytest.mark.parametrize("manner", HANGING)
def test_a_vendor_that_keeps_us_waiting_is_left_at_the_deadline(
    live: Functions, upstream: Upstream, ask: Ask, manner: str
) -> None:
    ended = call_in_time(ask, live, upstream, HANGING[manner])
    assert ended.error["code"] == "provider_timeout"
    assert ended.error["details"]["attempts"] == 1
    assert DEADLINE_S - 0.1 <= ended.error["details"]["elapsed_s"] <= ended.took_s
    assert ended.record.status == "timed_out"
    [closed] = upstream.closed
    assert closed.wait(0.5), "the connection is still open"
    assert upstream.disconnected.is_set()
    assert_nothing_is_left(ended, live, ask)


@both_ways_in
def test_a_vendor_that_does_not_accept_connections_is_left_at_the_deadline(
    live: Functions, upstream: Upstream, ask: Ask
) -> None:
    ended = call_in_time(ask, live, upstream, None, upstream.not_accepting)
    assert ended.error["code"] == "provider_timeout"
    assert DEADLINE_S - 0.1 <= ended.error["details"]["elapsed_s"] <= ended.took_s
    assert ended.record.status == "timed_out"
    assert sockets.connecting_to(upstream.port) == 0, "somebody still tries to connect"
    assert upstream.requests == []
    assert_nothing_is_left(ended, live, ask)


@both_ways_in
@pytest.mark.parametrize("manner", ENDING)
def test_a_vendor_that_ends_the_connection_ends_the_call(
    live: Functions, upstream: Upstream, ask: Ask, manner: str
) -> None:
    ended = call_in_time(ask, live, upstream, ENDING[manner])
    assert (ended.error["code"], ended.error["retryable"]) == ("provider_unavailable", True)
    assert ended.record.status == "failed"
    [closed] = upstream.closed
    assert closed.wait(0.5), "the connection is still open"
    assert_nothing_is_left(ended, live, ask)


@both_ways_in
@pytest.mark.parametrize("manner", MALFORMED)
def test_a_vendor_that_talks_nonsense_is_answered_for_at_once(
    live: Functions, upstream: Upstream, ask: Ask, manner: str
) -> None:
    reply, code = MALFORMED[manner]
    ended = call_in_time(ask, live, upstream, reply)
    assert ended.error["code"] == code
    assert ended.took_s < DEADLINE_S
    assert ended.record.status == "failed"
    assert_nothing_is_left(ended, live, ask)


def test_a_hanging_model_leaves_its_fallback_half_of_the_time(live: Functions, upstream: Upstream) -> None:
    front = "---\nmodel: openai/gpt-4o\ngateway.fallbacks: [openai/gpt-4o-mini]\n---\n"
    live.upload("hello.md", front + "Hello, {{ name }}.", "02")
    upstream.forget()
    upstream.answers(Reply(sends="nothing", then="silence"))
    ended = call(direct, live, 2.4)
    assert (ended.answer["model"], ended.answer["attempts"]) == ("gpt-4o-mini", 2)
    assert 1.1 <= ended.took_s <= 2.4 + GRACE_S
    assert [request["model"] for request in upstream.requests] == ["gpt-4o", "gpt-4o-mini"]
    assert upstream.closed[0].wait(0.5)
    assert (ended.tasks, ended.busy) == (set(), [])
    assert (ended.record.model, ended.record.status) == ("gpt-4o-mini", "answered")


def in_a_second() -> str:
    return "1"


def at_a_time() -> str:
    """Whole seconds: the next but one is more than one and at most two seconds away."""
    return format_datetime(datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2), usegmt=True)


@pytest.mark.parametrize("when", [in_a_second, at_a_time])
def test_a_retry_waits_as_long_as_the_vendor_asks(
    live: Functions, upstream: Upstream, when: Callable[[], str]
) -> None:
    upstream.forget()
    upstream.answers(failure(429, "rate_limit_exceeded", retry_after=when()))
    ended = call(over_http, live, 6)
    assert (ended.answer["attempts"], ended.record.status) == (2, "answered")
    assert 0.9 <= ended.took_s <= 6
    assert len(upstream.requests) == 2


def test_a_retry_that_comes_after_the_deadline_is_not_waited_for(live: Functions, upstream: Upstream) -> None:
    upstream.forget()
    upstream.answers(failure(429, "rate_limit_exceeded", retry_after="3"))
    ended = call(over_http, live, 3)
    assert ended.error["code"] == "provider_rate_limited"
    assert ended.took_s < 1
    assert len(upstream.requests) == 1
