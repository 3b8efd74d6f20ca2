"""Choice of a model, and patience within a deadline; on an injected clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from llm_gateway.deadline import Deadline
from llm_gateway.errors import (
    ContentFiltered,
    InvalidParameter,
    ProviderError,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    UnknownModel,
    UnknownProvider,
)
from llm_gateway.model_catalogue import ModelCatalogue, ModelSpec
from llm_gateway.models import Completion, Message, ModelOptions
from llm_gateway.routing import Answer, Route, Router
from tests.fakes import ScriptedProvider, completion

CATALOGUE = ModelCatalogue(
    [
        *ModelCatalogue.packaged(),
        ModelSpec("local", "meta/llama", 8_000, 1_000, "max_tokens"),
    ]
)


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


def router(provider: ScriptedProvider, clock: Clock, retry_limit: int = 3) -> Router:
    return Router(
        CATALOGUE,
        {"openai": provider},
        default_model="openai/gpt-4o-mini",
        retry_limit=retry_limit,
        sleep=clock.sleep,
    )


def complete(provider: ScriptedProvider, clock: Clock, seconds: float = 60, retry_limit: int = 3) -> Answer:
    spec = CATALOGUE.find("openai", "gpt-4o-mini")
    return asyncio.run(
        router(provider, clock, retry_limit).complete(
            [Route(spec, ModelOptions())], [Message("user", "Hi")], Deadline.after(seconds, clock)
        )
    )


@pytest.mark.parametrize(
    ("provider", "model", "authored", "chosen"),
    [
        (None, None, None, "openai/gpt-4o-mini"),
        (None, None, "openai/gpt-4.1", "openai/gpt-4.1"),
        ("openai", None, "openai/gpt-4.1", "openai/gpt-4.1"),
        ("openai", None, "local/meta/llama", "openai/gpt-4o-mini"),
        (None, "gpt-4o", "openai/gpt-4.1", "openai/gpt-4o"),
        (None, "openai/gpt-4o", "local/meta/llama", "openai/gpt-4o"),
        ("openai", "gpt-4o", "local/meta/llama", "openai/gpt-4o"),
        (None, "local/meta/llama", None, "local/meta/llama"),
        ("local", "meta/llama", None, "local/meta/llama"),
        (None, "gpt-4o-2024-08-06", None, "openai/gpt-4o-2024-08-06"),
    ],
)
def test_the_request_chooses_before_the_author_and_the_author_before_the_default(
    provider: str | None, model: str | None, authored: str | None, chosen: str
) -> None:
    spec = router(ScriptedProvider(), Clock()).choose(provider, model, authored)
    assert f"{spec.provider}/{spec.name}" == chosen


@pytest.mark.parametrize(
    ("provider", "model", "error", "hint"),
    [
        ("opanai", None, UnknownProvider, "openai"),
        ("opanai", "gpt-4o", UnknownProvider, "openai"),
        (None, "gpt-4o-mni", UnknownModel, "gpt-4o-mini"),
        (None, "openai/gpt-4p", UnknownModel, "gpt-4o"),
        ("local", None, InvalidParameter, "local"),
    ],
)
def test_an_unknown_choice_is_answered_with_the_nearest_names(
    provider: str | None, model: str | None, error: type[Exception], hint: str
) -> None:
    with pytest.raises(error, match=hint):
        router(ScriptedProvider(), Clock()).choose(provider, model, None)


def test_a_failure_that_may_pass_is_tried_again() -> None:
    provider, clock = (
        ScriptedProvider(ProviderUnavailable("x"), ProviderRateLimited("x"), completion()),
        Clock(),
    )
    assert complete(provider, clock).attempts == 3
    assert len(clock.slept) == 2


def test_no_more_than_the_limit_is_tried_and_the_last_error_is_told_with_the_count() -> None:
    provider = ScriptedProvider(*(ProviderUnavailable("x") for _ in range(9)))
    with pytest.raises(ProviderUnavailable) as caught:
        complete(provider, Clock())
    assert caught.value.attempts == len(provider.asked) == 4


@pytest.mark.parametrize("error", [ProviderQuotaExhausted("x"), ContentFiltered("x")])
def test_what_no_retry_heals_is_tried_once(error: ProviderError) -> None:
    provider, clock = ScriptedProvider(error, completion()), Clock()
    with pytest.raises(type(error)):
        complete(provider, clock)
    assert (len(provider.asked), clock.slept) == (1, [])


def test_the_vendors_wish_to_wait_is_honoured_if_it_fits() -> None:
    provider = ScriptedProvider(ProviderRateLimited("x", retry_after_s=20), completion())
    clock = Clock()
    complete(provider, clock, seconds=60)
    assert clock.slept[0] >= 20


def test_a_wait_that_leaves_no_whole_attempt_is_not_begun() -> None:
    provider = ScriptedProvider(ProviderRateLimited("x", retry_after_s=59.5), completion())
    clock = Clock()
    with pytest.raises(ProviderRateLimited) as caught:
        complete(provider, clock, seconds=60)
    assert clock.slept == []
    assert caught.value.retry_after_s == 59.5


def test_backoff_grows_but_never_past_its_bound() -> None:
    for _ in range(20):
        provider, clock = ScriptedProvider(*(ProviderUnavailable("x") for _ in range(4))), Clock()
        with pytest.raises(ProviderUnavailable):
            complete(provider, clock)
        assert all(wait <= bound for wait, bound in zip(clock.slept, (0.5, 1.0, 2.0), strict=True))


def test_each_attempt_is_given_the_time_that_is_left() -> None:
    provider = ScriptedProvider(ProviderRateLimited("x", retry_after_s=20), completion())
    complete(provider, Clock(), seconds=60)
    first, second = (asked[3] for asked in provider.asked)
    assert first == 60
    assert second <= 40


def test_the_deadline_cuts_an_attempt_off() -> None:
    provider = ScriptedProvider(30.0, completion())
    spec = CATALOGUE.find("openai", "gpt-4o-mini")
    with pytest.raises(ProviderTimeout) as caught:
        asyncio.run(
            router(provider, Clock()).complete(
                [Route(spec, ModelOptions())], [Message("user", "Hi")], Deadline.after(0.05)
            )
        )
    assert caught.value.details["attempts"] == 1
    assert 0.05 <= float(str(caught.value.details["elapsed_s"])) < 1


def test_without_time_left_the_provider_is_not_asked() -> None:
    provider = ScriptedProvider(completion())
    with pytest.raises(ProviderTimeout) as caught:
        complete(provider, Clock(), seconds=0)
    assert (provider.asked, caught.value.attempts) == ([], 0)


FIRST, SECOND = (Route(CATALOGUE.find("openai", name), ModelOptions()) for name in ("gpt-4o-mini", "gpt-4o"))


def answered_by(provider: ScriptedProvider, seconds: float = 60, retry_limit: int = 0) -> Answer:
    clock = Clock()
    routes, messages = [FIRST, SECOND], [Message("user", "Hi")]
    deadline = Deadline.after(seconds, clock)
    return asyncio.run(router(provider, clock, retry_limit).complete(routes, messages, deadline))


def test_after_a_failure_that_may_pass_the_next_model_is_asked_and_named() -> None:
    provider = ScriptedProvider(ProviderUnavailable("down"), completion("second"))
    answer = answered_by(provider)
    assert (answer.completion.text, answer.model.name, answer.attempts) == ("second", "gpt-4o", 2)
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
        providers = {"openai": HangsOnce()}
        asking = Router(CATALOGUE, providers, default_model="openai/gpt-4o-mini", retry_limit=0)
        return await asking.complete([FIRST, SECOND], [Message("user", "Hi")], Deadline.after(2.4))

    answer = asyncio.run(scenario())
    assert (answer.model.name, answer.attempts) == ("gpt-4o", 2)


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


def test_a_fallback_that_is_unknown_or_does_not_take_the_request_is_left_out() -> None:
    names = ["openai/gpt-4.1", "openai/absent", "elsewhere/model", "openai/o3"]
    routes = router(ScriptedProvider(), Clock()).fallbacks(
        names, ModelOptions(temperature=0.5), ModelOptions()
    )
    assert [route.model.name for route in routes] == ["gpt-4.1"]
