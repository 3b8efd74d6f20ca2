"""The main job, on fakes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from typing_extensions import override

from llm_gateway.access.caller import OPEN
from llm_gateway.adapters.memory.prompt_index import InMemoryPromptIndex
from llm_gateway.api.calls import CallRequest, CallResponse
from llm_gateway.calls.completer import Completer, RetryPolicy
from llm_gateway.deadline import Deadline
from llm_gateway.errors import InvalidParameter, MissingVariables, PromptNotFound, UnknownModel
from llm_gateway.gateway import Gateway, GatewayLimits
from llm_gateway.models.catalogue import ModelCatalogue
from llm_gateway.models.completion import Completion, TokenUsage
from llm_gateway.models.errors import ContentFiltered, ProviderRejected, ProviderTimeout, ProviderUnavailable
from llm_gateway.models.messages import Message
from llm_gateway.models.options import ModelOptions
from llm_gateway.models.routing import Router
from llm_gateway.prompts.catalogue.catalogue import Catalogue
from llm_gateway.prompts.catalogue.indexing import PromptIndexer
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.record_names import RecordNames
from tests.fakes import (
    NOON,
    InMemoryPromptFiles,
    InMemoryUsage,
    RecordingObserver,
    ScriptedProvider,
    completion,
    rehearsals,
)

PROMPT = b"""---
model: openai/gpt-4o
config: {temperature: 0.3, maxOutputTokens: 50}
gateway.timeoutMs: 30000
---
system:
Be kind.
user:
Hello {{ name }}
"""


@dataclass
class House:
    """A gateway of fakes, and the fakes."""

    provider: ScriptedProvider
    files: InMemoryPromptFiles = field(default_factory=InMemoryPromptFiles)
    index: InMemoryPromptIndex = field(default_factory=InMemoryPromptIndex)
    usage: InMemoryUsage = field(default_factory=InMemoryUsage)
    observer: RecordingObserver = field(default_factory=RecordingObserver)
    retry_limit: int = 0
    clock: float = 0.0
    uploads: int = 0
    names: RecordNames = field(default_factory=RecordNames)
    ids: Iterator[str] = field(default_factory=lambda: (f"call-{n}" for n in count()))

    def upload(self, path: str, data: bytes = PROMPT) -> str:
        self.uploads += 1
        version = self.files.upload(path, data)
        indexer = PromptIndexer(self.files, self.index, 1_000_000, lambda: NOON)
        asyncio.run(indexer.index(path, f"{self.uploads:04}"))
        return version

    def gateway(self) -> Gateway:
        return Gateway(
            prompts=Catalogue(self.index, self.files, ttl_s=0, cache_bytes=10_000, clock=lambda: self.clock),
            router=Router(ModelCatalogue.packaged(), "openai/gpt-4o-mini"),
            completer=Completer(
                {"openai": self.provider}, RetryPolicy(limit=self.retry_limit, first_wait_s=0)
            ),
            ledger=self.usage,
            observer=self.observer,
            limits=GatewayLimits(timeout_s=60, max_rendered_chars=10_000, ledger_timeout_s=0.05),
            now=lambda: NOON,
            new_id=lambda: next(self.ids),
            test_mode=False,
            rehearsals=rehearsals,
            names=self.names,
        )

    def call(self, time_left: Deadline | None = None, **request: Any) -> CallResponse:
        return asyncio.run(self.called(time_left, **request))

    async def called(self, time_left: Deadline | None = None, **request: Any) -> CallResponse:
        body = CallRequest.model_validate({"prompt": "hello", "variables": {"name": "Ada"}, **request})
        return await self.gateway().call_prompt(body, "req-1", time_left or Deadline.after(120), OPEN)


def house(*script: Completion | Exception | float) -> House:
    made = House(ScriptedProvider(*(script or (completion(),))))
    made.upload("hello.prompt")
    return made


def test_a_stored_prompt_is_rendered_sent_and_answered() -> None:
    at = house()
    answer = at.call(calling_service="shop")
    model, messages, options, _ = at.provider.asked[0]
    assert list(messages) == [Message("system", "Be kind."), Message("user", "Hello Ada")]
    assert model.name == "gpt-4o"
    assert options == ModelOptions(temperature=0.3, max_tokens=50)
    assert (answer.text, answer.prompt.path, answer.prompt.version) == ("Hello.", "hello.prompt", "v1")
    assert answer.usage.total_tokens == 120


def test_the_ledger_holds_what_the_answer_says() -> None:
    at = house(completion(usage=TokenUsage(1000, 200, 400, 0)))
    answer = at.call(calling_service="shop")
    [record] = at.usage.records.values()
    assert record.call_id == answer.call_id
    assert record.started_at == NOON
    assert (record.status, record.calling_service, record.request_id) == ("answered", "shop", "req-1")
    assert record.cost_usd == answer.cost_usd == Decimal("0.004")
    assert (record.prompt, record.prompt_version, record.model) == ("hello.prompt", "v1", "gpt-4o")


def test_a_call_may_ask_for_test_mode_where_others_are_paid_for() -> None:
    at = house()
    at.upload("mocked.prompt", b"---\ngateway.mock: {answer: rehearsed, delayMs: 0}\n---\nHello")
    answer = at.call(prompt="mocked", variables={}, test_mode=True)
    assert (answer.text, answer.test_mode) == ("rehearsed", True)
    assert at.provider.asked == []
    [record] = at.usage.records.values()
    assert record.test_mode is True
    assert at.call().test_mode is False


def test_what_is_told_of_a_call_is_how_long_models_were_asked() -> None:
    at = house(0.05, completion())
    at.call()
    [asking_s] = at.observer.asking_s
    [record] = at.usage.records.values()
    assert asking_s is not None
    assert 0.05 <= asking_s <= record.latency_ms / 1000 + 0.001


def test_what_a_caller_attaches_is_on_the_ledger_also_of_a_replay() -> None:
    at = house()
    answer = at.call(metadata={"team": "checkout"})
    again = CallRequest.model_validate({"prompt": "hello", "metadata": {"team": "search"}})
    asyncio.run(at.gateway().account_replay(again, answer, "req-2", Deadline.after(5)))
    assert [record.metadata["team"] for record in at.usage.records.values()] == ["checkout", "search"]


def test_the_requests_choices_come_before_the_authors() -> None:
    at = house()
    at.call(model="gpt-4.1", parameters={"temperature": 0.0, "max_tokens": 7})
    model, _, options, _ = at.provider.asked[0]
    assert model.name == "gpt-4.1"
    assert options == ModelOptions(temperature=0.0, max_tokens=7)


@pytest.mark.parametrize(
    ("change", "error", "param"),
    [
        ({"prompt": "absent"}, PromptNotFound, "prompt"),
        ({"variables": {}}, MissingVariables, "variables.name"),
        ({"model": "gpt-9"}, UnknownModel, "model"),
        ({"parameters": {"max_tokens": 999_999}}, InvalidParameter, "parameters.max_tokens"),
        (
            {"model": "o3-mini", "parameters": {"temperature": 1.0}},
            InvalidParameter,
            "parameters.temperature",
        ),
        ({"version": "v9"}, PromptNotFound, "version"),
    ],
)
def test_a_bad_request_costs_nothing_and_names_its_field(
    change: dict[str, Any], error: type[Exception], param: str
) -> None:
    at = house()
    with pytest.raises(error) as caught:
        at.call(**change)
    assert getattr(caught.value, "param", None) == param
    assert at.provider.asked == []
    assert at.usage.records == {}


def test_a_reasoning_model_does_without_the_authors_temperature() -> None:
    at = house()
    at.call(model="o3-mini")
    assert at.provider.asked[0][2].temperature is None


def test_a_failed_call_is_on_the_ledger_with_its_reason() -> None:
    at = house(ProviderRejected("The vendor refuses."))
    with pytest.raises(ProviderRejected):
        at.call()
    [record] = at.usage.records.values()
    assert (record.status, record.error_code) == ("failed", "provider_rejected")
    assert (record.usage, record.cost_usd) == (TokenUsage(), None)
    assert [error.code for _, error in at.observer.ended if error] == ["provider_rejected"]


def test_a_call_ends_when_its_time_is_up_and_is_on_the_ledger() -> None:
    at = house(30.0, completion())
    with pytest.raises(ProviderTimeout) as caught:
        at.call(time_left=Deadline.after(0.05))
    [record] = at.usage.records.values()
    assert record.status == "timed_out"
    assert caught.value.details["attempts"] == 1


@pytest.mark.parametrize(
    ("request_timeout_s", "expected_s"),
    [(None, 30), (7.0, 7), (100.0, 80)],
)
def test_the_time_of_a_call_is_the_requests_else_the_authors_and_never_beyond_what_is_left(
    request_timeout_s: float | None, expected_s: float
) -> None:
    at = house()
    at.call(time_left=Deadline.after(80), timeout_s=request_timeout_s)
    assert at.provider.asked[0][3] == pytest.approx(expected_s, abs=0.5)


def test_an_answer_is_given_even_if_the_ledger_is_down_and_the_record_is_not_lost() -> None:
    at = house()
    at.usage.down = True
    assert at.call().text == "Hello."
    assert [record.call_id for record in at.observer.lost] == ["call-0"]


def test_an_edit_is_served_and_an_old_version_can_still_be_pinned() -> None:
    at = house(completion(), completion())
    at.upload("hello.prompt", b"New {{ name }}")
    assert at.call().prompt.version == "v2"
    assert at.call(version="v1").prompt.version == "v1"


def test_a_broken_upload_leaves_the_last_good_version_in_service() -> None:
    at = house()
    at.upload("hello.prompt", b"{% if %}")
    assert at.call().prompt.version == "v1"


def test_tokens_the_vendor_does_not_tell_are_unknown_and_so_is_the_cost() -> None:
    answer = house(completion(usage=TokenUsage(100, None))).call()
    assert (answer.usage.output_tokens, answer.usage.total_tokens, answer.cost_usd) == (None, None, None)


class SlowLedger(InMemoryUsage):
    """A ledger that answers far too late."""

    @override
    async def record(self, record: UsageRecord) -> None:
        await asyncio.sleep(30)


def test_a_slow_ledger_is_not_waited_for() -> None:
    at = house()
    at.usage = SlowLedger()
    began = time.monotonic()
    assert at.call().text == "Hello."
    assert time.monotonic() - began < 10
    assert len(at.observer.lost) == 1


def test_tokens_of_an_answer_that_is_of_no_use_are_counted_all_the_same() -> None:
    error = ContentFiltered("Filtered.")
    error.usage = TokenUsage(1000, 200, 400, 0)
    at = house(error)
    with pytest.raises(ContentFiltered):
        at.call()
    [record] = at.usage.records.values()
    assert (record.status, record.usage.input_tokens, record.cost_usd) == ("failed", 1000, Decimal("0.004"))


FALLING_BACK = b"---\nmodel: openai/gpt-4o\ngateway.fallbacks: [openai/gpt-4o-mini]\n---\nHello {{ name }}"


def test_a_fallback_answers_and_is_what_is_recorded_and_paid() -> None:
    at = house(ProviderUnavailable("down"), completion(usage=TokenUsage(1_000_000, 0, 0, 0)))
    at.upload("hello.prompt", FALLING_BACK)
    answer = at.call()
    assert (answer.model, answer.attempts, answer.cost_usd) == ("gpt-4o-mini", 2, Decimal("0.15"))
    [record] = at.usage.records.values()
    assert (record.model, record.attempts, record.cost_usd) == ("gpt-4o-mini", 2, answer.cost_usd)


def test_a_request_that_names_its_model_gets_no_other() -> None:
    at = house(ProviderUnavailable("down"), completion())
    at.upload("hello.prompt", FALLING_BACK)
    with pytest.raises(ProviderUnavailable):
        at.call(model="gpt-4.1")
    assert len(at.provider.asked) == 1


def test_a_mock_of_the_prompt_is_for_test_mode_alone() -> None:
    at = house()
    at.upload("hello.prompt", b"---\ngateway.mock: {answer: mocked}\n---\nHello {{ name }}")
    assert at.call().text == "Hello."
    assert at.provider.asked[0][2].mock is None


def cancel_when(ready: Callable[[], bool], at: House, **request: Any) -> None:
    """Make a call whose caller goes away as soon as it is `ready`."""

    async def scenario() -> None:
        call = asyncio.create_task(at.called(**request))
        while not ready():
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(scenario())


def test_a_caller_that_goes_away_stops_the_model_and_is_on_the_ledger() -> None:
    at = house(60.0, completion())
    cancel_when(lambda: bool(at.provider.asked), at, calling_service="shop")
    [record] = at.usage.records.values()
    assert (record.status, record.error_code, record.calling_service) == ("failed", "cancelled", "shop")
    assert (record.attempts, record.cost_usd, record.usage) == (1, None, TokenUsage())
    assert [error.code for _, error in at.observer.ended if error] == ["cancelled"]


def test_what_was_billed_before_the_caller_went_away_is_on_the_ledger() -> None:
    billed = ProviderUnavailable("down")
    billed.usage = TokenUsage(100, 20, 0, 0)
    at = house(billed, 60.0, completion())
    at.retry_limit = 1
    cancel_when(lambda: len(at.provider.asked) == 2, at)
    [record] = at.usage.records.values()
    assert (record.attempts, record.usage.input_tokens) == (2, 100)


def test_the_first_answer_is_on_the_ledger_if_the_caller_goes_away_during_its_repair() -> None:
    at = house(completion("no JSON"), 60.0, completion())
    cancel_when(lambda: len(at.provider.asked) == 2, at, output={"format": "json", "repair": True})
    [record] = at.usage.records.values()
    assert (record.status, record.attempts, record.usage.total_tokens) == ("failed", 2, 120)


class HesitantLedger(InMemoryUsage):
    """Lets others run before it keeps a record."""

    began = False

    @override
    async def record(self, record: UsageRecord) -> None:
        self.began = True
        await asyncio.sleep(0.01)
        await super().record(record)


def test_an_answer_that_is_paid_for_is_on_the_ledger_even_if_its_caller_is_gone_by_then() -> None:
    at, ledger = house(), HesitantLedger()
    at.usage = ledger
    cancel_when(lambda: ledger.began, at)
    [record] = ledger.records.values()
    assert (record.status, record.usage.total_tokens) == ("answered", 120)


class HesitantIndex(InMemoryPromptIndex):
    """Never finds anything."""

    asked = False

    @override
    async def generation(self) -> int:
        self.asked = True
        await asyncio.sleep(60)
        return 0


def test_a_caller_that_goes_away_before_a_model_is_asked_is_not_on_the_ledger() -> None:
    at, index = house(), HesitantIndex()
    at.index = index
    cancel_when(lambda: index.asked, at)
    assert (at.provider.asked, at.usage.records, at.observer.ended) == ([], {}, [])
