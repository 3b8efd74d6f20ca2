"""Patience within a deadline: attempts, waits and fallbacks, on an injected clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from llm_gateway.calls.completer import Answer, Completer, RetryPolicy
from llm_gateway.calls.tally import Retry, Tally
from llm_gateway.deadline import Deadline
from llm_gateway.models.catalogue import ModelCatalogue, ModelSpec
from llm_gateway.models.completion import Completion, TokenUsage
from llm_gateway.models.errors import (
    ContentFiltered,
    ProviderError,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from llm_gateway.models.messages import Message
from llm_gateway.models.options import ModelOptions
from llm_gateway.models.routing import Route
from llm_gateway.usage.pricing import Spending
from tests.fakes import ScriptedProvider, completion

CATALOGUE = ModelCatalogue.packaged()
MESSAGES = [Message("user", "Hi")]
FIRST, SECOND = (Route(CATALOGUE.find("openai", name), ModelOptions()) for name in ("gpt-4o-mini", "gpt-4o"))


class Clock:
    """Time that passes only in sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def ask(
    provider: ScriptedProvider,
    clock: Clock,
    seconds: float = 60,
    policy: RetryPolicy | None = None,
    routes: Sequence[Route] = (FIRST,),
    told: list[Retry] | None = None,
) -> Answer:
    completer = Completer({"openai": provider}, policy or RetryPolicy(), clock.sleep)
    deadline = Deadline.after(seconds, clock)
    tally = Tally((list[Retry]() if told is None else told).append)
    return asyncio.run(completer.complete(routes, MESSAGES, deadline, tally))


def test_a_failure_that_may_pass_is_tried_again() -> None:
    provider, clock = (
        ScriptedProvider(ProviderUnavailable("x"), ProviderRateLimited("x"), completion()),
        Clock(),
    )
    assert ask(provider, clock).attempts == 3
    assert len(clock.slept) == 2


def test_no_more_than_the_limit_is_tried_and_the_last_error_is_told_with_the_count() -> None:
    provider = ScriptedProvider(*(ProviderUnavailable("x") for _ in range(9)))
    with pytest.raises(ProviderUnavailable) as caught:
        ask(provider, Clock())
    assert caught.value.attempts == len(provider.asked) == 4


@pytest.mark.parametrize("error", [ProviderQuotaExhausted("x"), ContentFiltered("x")])
def test_what_no_retry_heals_is_tried_once(error: ProviderError) -> None:
    provider, clock = ScriptedProvider(error, completion()), Clock()
    with pytest.raises(type(error)):
        ask(provider, clock)
    assert (len(provider.asked), clock.slept) == (1, [])


def test_the_vendors_wish_to_wait_is_honoured_if_it_fits() -> None:
    provider = ScriptedProvider(ProviderRateLimited("x", retry_after_s=20), completion())
    clock = Clock()
    ask(provider, clock, seconds=60)
    assert clock.slept[0] >= 20


def test_a_wait_that_leaves_no_whole_attempt_is_not_begun() -> None:
    provider = ScriptedProvider(ProviderRateLimited("x", retry_after_s=59.5), completion())
    clock = Clock()
    with pytest.raises(ProviderRateLimited) as caught:
        ask(provider, clock, seconds=60)
    assert clock.slept == []
    assert caught.value.retry_after_s == 59.5


def test_backoff_grows_but_never_past_its_bound() -> None:
    for _ in range(20):
        provider, clock = ScriptedProvider(*(ProviderUnavailable("x") for _ in range(4))), Clock()
        with pytest.raises(ProviderUnavailable):
            ask(provider, clock)
        assert all(wait <= bound for wait, bound in zip(clock.slept, (0.5, 1.0, 2.0), strict=True))


def test_each_attempt_is_given_the_time_that_is_left() -> None:
    provider = ScriptedProvider(ProviderRateLimited("x", retry_after_s=20), completion())
    ask(provider, Clock(), seconds=60)
    first, second = (asked[3] for asked in provider.asked)
    assert first == 60
    assert second <= 40


def test_the_deadline_cuts_an_attempt_off() -> None:
    completer = Completer({"openai": ScriptedProvider(30.0, completion())}, RetryPolicy())
    with pytest.raises(ProviderTimeout) as caught:
        asyncio.run(completer.complete([FIRST], MESSAGES, Deadline.after(0.05), Tally(list[Retry]().append)))
    assert caught.value.details["attempts"] == 1
    assert 0.05 <= float(str(caught.value.details["elapsed_s"])) < 1


def test_without_time_left_the_provider_is_not_asked() -> None:
    provider = ScriptedProvider(completion())
    with pytest.raises(ProviderTimeout) as caught:
        ask(provider, Clock(), seconds=0)
    assert (provider.asked, caught.value.attempts) == ([], 0)


def answered_by(provider: ScriptedProvider, retry_limit: int = 0) -> Answer:
    return ask(provider, Clock(), policy=RetryPolicy(limit=retry_limit), routes=(FIRST, SECOND))


def test_after_a_failure_that_may_pass_the_next_model_is_asked_and_named() -> None:
    provider = ScriptedProvider(ProviderUnavailable("down"), completion("second"))
    answer = answered_by(provider)
    assert (answer.completion.text, answer.route.model.name, answer.attempts) == ("second", "gpt-4o", 2)
    assert [asked[0].name for asked in provider.asked] == ["gpt-4o-mini", "gpt-4o"]


def test_every_model_has_its_retries_and_all_attempts_are_counted() -> None:
    provider = ScriptedProvider(*(ProviderUnavailable("down") for _ in range(4)))
    with pytest.raises(ProviderUnavailable) as caught:
        answered_by(provider, retry_limit=1)
    assert [asked[0].name for asked in provider.asked] == ["gpt-4o-mini"] * 2 + ["gpt-4o"] * 2
    assert caught.value.attempts == caught.value.details["attempts"] == 4


def test_a_failure_that_will_not_pass_asks_no_other_model() -> None:
    provider = ScriptedProvider(ContentFiltered("filtered"), completion())
    with pytest.raises(ContentFiltered):
        answered_by(provider)
    assert len(provider.asked) == 1


def test_a_model_that_hangs_leaves_the_next_one_its_share_of_the_time() -> None:
    async def scenario() -> Answer:
        completer = Completer({"openai": HangsOnce()}, RetryPolicy(limit=0))
        return await completer.complete(
            [FIRST, SECOND], MESSAGES, Deadline.after(2.4), Tally(list[Retry]().append)
        )

    answer = asyncio.run(scenario())
    assert (answer.route.model.name, answer.attempts) == ("gpt-4o", 2)


class HangsOnce:
    """A provider whose first call never ends."""

    def __init__(self) -> None:
        self._called = False

    async def complete(
        self, model: ModelSpec, messages: Sequence[Message], options: ModelOptions, timeout_s: float
    ) -> Completion:
        if not self._called:
            self._called = True
            await asyncio.sleep(60)
        return completion("second")


def test_every_retry_and_every_fallback_is_told_with_attempt_reason_and_wait() -> None:
    told: list[Retry] = []
    provider = ScriptedProvider(
        ProviderRateLimited("x", retry_after_s=7), ProviderUnavailable("y"), completion()
    )
    ask(provider, Clock(), policy=RetryPolicy(limit=1), routes=(FIRST, SECOND), told=told)
    assert [(r.attempt, r.model.name, r.error.code, r.next_model.name) for r in told] == [
        (1, "gpt-4o-mini", "provider_rate_limited", "gpt-4o-mini"),
        (2, "gpt-4o-mini", "provider_unavailable", "gpt-4o"),
    ]
    assert [r.wait_s for r in told] == [7.0, 0.0]


def test_the_waits_are_as_long_as_the_policy_says() -> None:
    clock = Clock()
    provider = ScriptedProvider(*(ProviderUnavailable("x") for _ in range(3)), completion())
    ask(provider, clock, policy=RetryPolicy(limit=3, first_wait_s=0, longest_wait_s=0))
    assert clock.slept == [0, 0, 0]


def test_what_a_failed_attempt_was_billed_is_not_lost_behind_the_answer_of_another_model() -> None:
    billed = ProviderUnavailable("half an answer")
    billed.usage = TokenUsage(10, 5)
    answer = answered_by(ScriptedProvider(billed, completion()))
    assert answer.spent == (
        Spending(FIRST.model, TokenUsage(10, 5)),
        Spending(SECOND.model, TokenUsage(100, 20, 0, 0)),
    )


def test_what_was_billed_before_the_last_failure_is_told_with_it() -> None:
    billed = ProviderUnavailable("half an answer")
    billed.usage = TokenUsage(10, 5)
    with pytest.raises(ProviderUnavailable) as caught:
        answered_by(ScriptedProvider(billed, ProviderUnavailable("down")))
    assert caught.value.spent == (Spending(FIRST.model, TokenUsage(10, 5)),)
