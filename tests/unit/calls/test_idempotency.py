"""One key, one call; on fakes and an injected clock."""

from __future__ import annotations

import asyncio
import json
import random
import zlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from llm_gateway.access.caller import OPEN, Caller, Scopes
from llm_gateway.access.errors import Forbidden
from llm_gateway.api.calls import CallRequest, CallResponse, PromptVersion, Usage
from llm_gateway.calls.idempotency import IdempotentCalls
from llm_gateway.deadline import Deadline
from llm_gateway.errors import (
    AnswerNotKept,
    CallInterrupted,
    ConfigurationError,
    GatewayError,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    MissingVariables,
    StoreUnavailable,
)
from llm_gateway.models.catalogue import ModelCatalogue
from llm_gateway.models.completion import TokenUsage
from llm_gateway.models.errors import ModelRefused, ProviderAuthFailed, ProviderRateLimited
from llm_gateway.usage.pricing import Spending
from tests.fakes import NOON, InMemoryOutcomes, RecordingObserver

MODEL = ModelCatalogue.packaged().find("openai", "gpt-4o-mini")
Step = str | BaseException | float


class ScriptedCalls:
    """Answers calls with texts, errors, or seconds to wait first; an exhausted script is a defect."""

    def __init__(self, *script: Step) -> None:
        self.script = list(script)
        self.made = 0
        self.replays: list[tuple[str, str]] = []

    async def call_prompt(
        self, request: CallRequest, request_id: str, time_left: Deadline, caller: Caller
    ) -> CallResponse:
        self.made += 1
        while isinstance(self.script[0], float):
            await asyncio.sleep(self.script.pop(0))  # type: ignore[arg-type]
        step = self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        return response(str(step), request.correlation_id)

    async def account_replay(
        self, request: CallRequest, answer: CallResponse, request_id: str, time_left: Deadline
    ) -> None:
        self.replays.append((answer.call_id, request_id))


def response(text: str, correlation_id: str | None = None) -> CallResponse:
    return CallResponse(
        call_id="call-1",
        correlation_id=correlation_id,
        text=text,
        parsed={"a": [1, None]},
        finish_reason="stop",
        prompt=PromptVersion(path="hello.md", version="v1", label=None),
        provider="openai",
        model="gpt-4o-mini",
        served_model="gpt-4o-mini-2024-07-18",
        usage=Usage(
            input_tokens=1, output_tokens=2, total_tokens=3, cached_input_tokens=None, reasoning_tokens=0
        ),
        cost_usd=Decimal("0.0000015"),
        latency_ms=5,
        attempts=1,
        test_mode=False,
    )


@dataclass
class House:
    """Idempotent calls on fakes."""

    calls: ScriptedCalls
    store: InMemoryOutcomes = field(default_factory=InMemoryOutcomes)
    observer: RecordingObserver = field(default_factory=RecordingObserver)
    now: datetime = NOON
    ids: int = 0

    @property
    def idempotent(self) -> IdempotentCalls:
        return IdempotentCalls(
            self.calls, self.store, self.observer, ttl_s=3600, now=lambda: self.now, new_id=self._new_id
        )

    def _new_id(self) -> str:
        self.ids += 1
        return f"holder-{self.ids}"

    def call(self, key: str | None = "k", caller: Caller = OPEN, **request: Any) -> CallResponse:
        return asyncio.run(
            self.idempotent.call_prompt(asked(key, **request), "r", Deadline.after(60), caller)
        )

    def deliver(self, event_id: str = "e", key: str | None = None) -> CallResponse:
        return asyncio.run(self.idempotent.call_event(asked(key), event_id, Deadline.after(60)))


def asked(key: str | None, **request: Any) -> CallRequest:
    given = {"prompt": "hello", "variables": {"a": 1, "b": 2}, "idempotency_key": key, **request}
    return CallRequest.model_validate(given)


def house(*script: Step) -> House:
    return House(ScriptedCalls(*script))


def test_without_a_key_every_request_is_a_call_of_its_own_and_nothing_is_kept() -> None:
    at = house("one", "two")
    assert (at.call(None).text, at.call(None).text) == ("one", "two")
    assert at.store.items == {}


def test_the_same_key_gives_the_first_answer_again_marked_and_without_a_call() -> None:
    at = house("one")
    first, again = at.call(), at.call()
    assert not first.replayed
    assert again == first.model_copy(update={"replayed": True})
    assert at.calls.made == 1
    assert at.calls.replays == [("call-1", "r")]


def test_the_order_of_fields_and_what_a_delivery_is_called_make_no_other_request() -> None:
    at = house("one")
    at.call(correlation_id="first", metadata={"attempt": "1"})
    again = at.call(variables={"b": 2, "a": 1}, correlation_id="second", metadata={"attempt": "2"})
    assert (again.replayed, again.correlation_id) == (True, "second")


@pytest.mark.parametrize("change", [{"variables": {"a": 2}}, {"prompt": "other"}, {"model": "gpt-4o"}])
def test_the_same_key_with_another_request_is_refused(change: dict[str, Any]) -> None:
    at = house("one")
    at.call()
    with pytest.raises(IdempotencyKeyReused) as caught:
        at.call(**change)
    assert (caught.value.status, caught.value.param) == (409, "idempotency_key")


def test_two_services_with_the_same_key_do_not_meet() -> None:
    at = house("one", "two")
    answers = [at.call(calling_service=name) for name in ("shop", "billing")]
    assert [answer.text for answer in answers] == ["one", "two"]


def test_while_the_first_is_running_the_others_are_told_to_come_back() -> None:
    at = house(0.05, "one")

    async def both() -> list[CallResponse | BaseException]:
        calls = at.idempotent
        tasks = (calls.call_prompt(asked("k"), f"r{n}", Deadline.after(60), OPEN) for n in range(2))
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second = asyncio.run(both())
    assert isinstance(first, CallResponse)
    assert isinstance(second, IdempotencyKeyInUse)
    assert (second.retryable, second.retry_after_s) == (True, 2.0)


def test_a_holder_that_died_is_replaced_once_its_time_is_over() -> None:
    at = house(SystemExit("killed"), "two")
    with pytest.raises(SystemExit):
        at.call()
    at.now += timedelta(seconds=60)
    with pytest.raises(IdempotencyKeyInUse):
        at.call()
    at.now += timedelta(seconds=6)
    assert at.call().text == "two"


def test_a_key_is_forgotten_after_its_time() -> None:
    at = house("one", "two")
    at.call()
    at.now += timedelta(seconds=3601)
    assert at.call().text == "two"


@pytest.mark.parametrize(
    "error",
    [
        MissingVariables(["name"]),
        ProviderRateLimited("slow down"),
        ProviderAuthFailed("our key"),
        StoreUnavailable("down"),
        ConfigurationError("no key"),
    ],
)
def test_after_a_failure_that_cost_nothing_or_may_pass_the_key_is_free(error: GatewayError) -> None:
    at = house(error, "two")
    with pytest.raises(type(error)):
        at.call()
    assert at.call().text == "two"


def test_an_error_that_was_paid_for_and_will_not_pass_is_given_again() -> None:
    refusal = ModelRefused("The model declines.", details={"attempts": 1})
    refusal.spent = (Spending(MODEL, TokenUsage(10, 2)),)
    at = house(refusal)
    for _ in range(2):
        with pytest.raises(ModelRefused) as caught:
            at.call()
    assert at.calls.made == 1
    assert (caught.value.message, caught.value.details) == (
        "The model declines.",
        {"attempts": 1, "replayed": True},
    )


def test_a_defect_leaves_the_key_taken_because_nobody_knows_what_was_paid() -> None:
    at = house(ZeroDivisionError(), "two")
    with pytest.raises(ZeroDivisionError):
        at.call()
    with pytest.raises(IdempotencyKeyInUse):
        at.call()


def test_an_answer_that_is_too_large_to_be_kept_is_not_paid_for_again() -> None:
    noise = "".join(chr(random.Random(n).randint(0x4E00, 0x9FFF)) for n in range(200_000))
    at = house(noise)
    assert at.call().text == noise
    with pytest.raises(AnswerNotKept):
        at.call()


def test_an_answer_that_another_version_kept_is_not_paid_for_again() -> None:
    at = house("one")
    at.call()
    [(key, (claim, ended, _))] = at.store.items.items()
    at.store.items[key] = (claim, ended, zlib.compress(b'{"answer": {"text": "of old"}}'))
    with pytest.raises(AnswerNotKept):
        at.call()
    assert at.calls.made == 1


def stored_outcome(at: House) -> dict[str, Any]:
    [(_, _, outcome)] = at.store.items.values()
    assert outcome is not None
    found: dict[str, Any] = json.loads(zlib.decompress(outcome))
    return found


def store_outcome(at: House, outcome: dict[str, Any]) -> None:
    [(key, (claim, ended, _))] = at.store.items.items()
    at.store.items[key] = (claim, ended, zlib.compress(json.dumps(outcome).encode()))


def test_an_answer_that_a_newer_version_stored_is_replayed_without_what_is_unknown() -> None:
    at = house("one")
    at.call()
    stored = stored_outcome(at)
    assert "replayed" not in stored["answer"], "a field at its default is not stored"
    stored["answer"]["streamed"] = stored["answer"]["usage"]["audio_tokens"] = 1
    store_outcome(at, stored)
    assert at.call() == response("one").model_copy(update={"replayed": True})


def test_an_error_that_only_a_newer_version_knows_is_no_defect() -> None:
    at = house("one")
    at.call()
    store_outcome(at, {"error": {"code": "of_tomorrow", "message": "No.", "details": {}}})
    with pytest.raises(AnswerNotKept):
        at.call()
    assert at.calls.made == 1


def test_if_nobody_knows_the_key_nothing_is_called() -> None:
    at = house("one")
    at.store.down = True
    with pytest.raises(StoreUnavailable):
        at.call()
    assert at.calls.made == 0


def test_an_answer_that_cannot_be_kept_is_given_all_the_same_and_told_of() -> None:
    at = house("one")

    class Forgetful(InMemoryOutcomes):
        end = release = property(lambda self: self._refuse)

        async def _refuse(self, *args: object) -> None:
            raise StoreUnavailable("down")

    at.store = Forgetful()
    assert at.call().text == "one"
    assert [type(error) for error in at.observer.not_kept] == [StoreUnavailable]


def test_an_event_delivered_twice_is_paid_for_once_even_without_a_key() -> None:
    at = house("one", "other")
    assert [at.deliver("e").text, at.deliver("e").text, at.deliver("f").text] == ["one", "one", "other"]


def test_an_event_that_killed_its_holder_is_never_called_again() -> None:
    at = house(SystemExit("killed"), "two")
    with pytest.raises(SystemExit):
        at.deliver()
    with pytest.raises(IdempotencyKeyInUse):
        at.deliver()
    at.now += timedelta(minutes=10)
    with pytest.raises(CallInterrupted):
        at.deliver()
    assert at.calls.made == 1


def test_an_event_with_a_key_of_its_own_shares_it_with_requests() -> None:
    at = house("one")
    assert at.call("k").text == at.deliver("e", key="k").text
    assert at.calls.made == 1


def test_fifty_duplicates_at_once_are_one_call() -> None:
    at = house(0.02, "one")

    async def patient(calls: IdempotentCalls, number: int, pause: Callable[[], float]) -> CallResponse:
        while True:
            try:
                return await calls.call_prompt(asked("k"), f"r{number}", Deadline.after(60), OPEN)
            except IdempotencyKeyInUse:
                await asyncio.sleep(pause())

    async def all_of_them() -> list[CallResponse]:
        calls = at.idempotent
        return await asyncio.gather(*(patient(calls, n, lambda: 0.005) for n in range(50)))

    answers = asyncio.run(all_of_them())
    assert at.calls.made == 1
    assert [answer.replayed for answer in answers].count(False) == 1
    assert {answer.text for answer in answers} == {"one"}


def cancelled_while(at: House, work: Callable[[], Coroutine[Any, Any, CallResponse]]) -> None:
    async def scenario() -> None:
        call = asyncio.create_task(work())
        while not at.calls.made:
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()

    asyncio.run(scenario())


def test_a_caller_that_went_away_may_come_again_at_once() -> None:
    at = House(ScriptedCalls(60.0, "first", "second"))
    cancelled_while(at, lambda: at.idempotent.call_prompt(asked("k"), "r", Deadline.after(60), OPEN))
    at.calls.script = ["second"]
    assert at.call().text == "second"


def test_an_event_that_was_cancelled_is_not_called_again() -> None:
    at = House(ScriptedCalls(60.0, "first", "second"))
    cancelled_while(at, lambda: at.idempotent.call_event(asked(None), "e", Deadline.after(60)))
    with pytest.raises(IdempotencyKeyInUse):
        at.deliver()
    assert at.calls.made == 1


@pytest.mark.parametrize(
    ("scopes", "param"),
    [
        (Scopes(prompts=("support/",)), "prompt"),
        (Scopes(prompts=("hello.txt",)), "prompt"),  # it may say "hello", but that was another file
        (Scopes(models=("azure/*",)), "model"),
    ],
)
def test_an_answer_is_given_again_only_to_a_key_that_may_make_the_call_now(
    scopes: Scopes, param: str
) -> None:
    at = house("SECRET")
    at.call()
    with pytest.raises(Forbidden) as caught:
        at.call(caller=Caller("shop", "k", scopes))
    assert caught.value.param == param
    assert at.calls.replays == []
    assert at.call(caller=Caller("shop", "k", Scopes(prompts=("hello.md",), models=("openai/*",)))).replayed


def test_an_error_that_was_paid_for_is_given_again_only_to_a_key_that_may_use_its_model() -> None:
    refusal = ModelRefused("The model declines.")
    refusal.spent = (Spending(MODEL, TokenUsage(10, 2)),)
    at = house(refusal)
    with pytest.raises(ModelRefused):
        at.call()
    with pytest.raises(Forbidden):
        at.call(caller=Caller("shop", "k", Scopes(models=("azure/*",))))
