"""call_prompt keeps its deadline whatever the vendor does, in real time and over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests import sockets
from tests.entrypoints.aws_lambda.conftest import Functions, LambdaContext
from tests.entrypoints.aws_lambda.timed_calls import (
    DEADLINE_S,
    GRACE_S,
    Ask,
    assert_nothing_is_left,
    call,
    call_in_time,
    direct,
    over_http,
)
from tests.upstream import Reply, Upstream, chat_completion, failure

GOOD = chat_completion()

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
    "JSON too deep to read": (Reply(body=b"[" * 100_000), "provider_response_not_json"),
    "a list instead of an object": (Reply(body=[]), "invalid_provider_response"),
    "sends us elsewhere": (Reply(307, headers={"location": "/v2/"}), "invalid_provider_response"),
    "no end": (Reply(body=b" " * 20_000_000), "invalid_provider_response"),
    "choices that are none": (Reply(body=chat_completion(choices=[None])), "provider_response_no_choices"),
    "no choices": (Reply(body=chat_completion(choices=[])), "provider_response_no_choices"),
    "null content": (Reply(body=chat_completion(None)), "provider_response_no_content"),
    "an answer cut off before it began": (Reply(body=chat_completion(choices=[CUT_OFF])), "answer_truncated"),
    "a refusal": (Reply(body=chat_completion(choices=[REFUSED])), "model_refused"),
}
both_ways_in = pytest.mark.parametrize("ask", [direct, over_http])


@pytest.fixture(autouse=True)
def warm(live: Functions, upstream: Upstream) -> None:
    """A prompt that is stored, and an environment that has answered a call before."""
    live.upload("hello.md", "Say hello to {{ name }}.")
    assert direct(live, LambdaContext())["text"] == "Hello."
    live.lines()


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
    assert closed.wait(2), "the connection is still open"
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
    assert closed.wait(2), "the connection is still open"
    assert_nothing_is_left(ended, live, ask)


@both_ways_in
def test_half_a_character_in_an_answer_is_no_reason_to_withhold_it(
    live: Functions, upstream: Upstream, ask: Ask
) -> None:
    upstream.answers(Reply(body=chat_completion("Hello \ud83d!")))
    assert call(ask, live).answer["text"] == "Hello \ufffd!"


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
    assert upstream.closed[0].wait(2)
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


@pytest.mark.parametrize("when", ["3", "999999999"])
def test_a_retry_that_comes_after_the_deadline_is_not_waited_for(
    live: Functions, upstream: Upstream, when: str
) -> None:
    upstream.forget()
    upstream.answers(failure(429, "rate_limit_exceeded", retry_after=when))
    ended = call(over_http, live, 3)
    assert ended.error["code"] == "provider_rate_limited"
    assert ended.took_s < 1
    assert len(upstream.requests) == 1
