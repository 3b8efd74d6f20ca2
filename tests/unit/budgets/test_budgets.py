"""Budgets around a call: what is refused, held, counted and told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from llm_gateway.access.caller import OPEN
from llm_gateway.adapters.memory.prompt_index import InMemoryPromptIndex
from llm_gateway.api.calls import CallRequest, CallResponse
from llm_gateway.budgets.budgets import Budgets
from llm_gateway.budgets.holds import Hold, Standing
from llm_gateway.budgets.limits import Amount, Limit, Limits, read_budgets, resets_at
from llm_gateway.budgets.upper_bound import most_of_call
from llm_gateway.calls.completer import Completer, RetryPolicy
from llm_gateway.deadline import Deadline
from llm_gateway.errors import BudgetExceeded, ConfigurationError, StoreUnavailable, UnpricedModel
from llm_gateway.gateway import Gateway, GatewayLimits
from llm_gateway.models.catalogue import ModelCatalogue, ModelPrice, ModelSpec
from llm_gateway.models.completion import Completion, TokenUsage
from llm_gateway.models.errors import ContentFiltered, ProviderError, ProviderUnavailable
from llm_gateway.models.messages import Message
from llm_gateway.models.options import ModelOptions
from llm_gateway.models.overlay import overlaid
from llm_gateway.models.routing import Route, Router
from llm_gateway.prompts.catalogue.catalogue import Catalogue
from llm_gateway.prompts.catalogue.indexing import PromptIndexer
from llm_gateway.providers.fake.provider import FakeProvider
from llm_gateway.providers.openai.chat_completion import read_completion
from llm_gateway.usage.pricing import cost_usd
from tests.fakes import (
    NOON,
    InMemoryBudgets,
    InMemoryPromptFiles,
    InMemoryUsage,
    RecordingNotices,
    RecordingObserver,
    ScriptedProvider,
    completion,
    rehearsals,
)

FREE = {"provider": "openai", "name": "free", "like": "openai/gpt-4o-mini", "price": None}
MODELS = overlaid(ModelCatalogue.packaged(), json.dumps({"models": [FREE]}))
COST = completion(usage=TokenUsage(100_000, 0, 0, 0))  # 0.015 USD with gpt-4o-mini


@dataclass
class Shop:
    """A gateway with budgets, all of fakes."""

    limits: Mapping[str, Any]
    script: list[Completion | Exception | float] = field(default_factory=list)
    store: InMemoryBudgets = field(default_factory=InMemoryBudgets)
    notices: RecordingNotices = field(default_factory=RecordingNotices)
    observer: RecordingObserver = field(default_factory=RecordingObserver)
    usage: InMemoryUsage = field(default_factory=InMemoryUsage)
    now: datetime = NOON
    calls: int = 0
    front: str = "config: {maxOutputTokens: 100}"

    def call(self, service: str | None = "shop", **request: Any) -> CallResponse:
        return asyncio.run(self.called(service, **request))

    async def called(self, service: str | None = "shop", **request: Any) -> CallResponse:
        self.provider = ScriptedProvider(*(self.script or [COST]))
        self.calls += 1
        index, files = InMemoryPromptIndex(), InMemoryPromptFiles()
        files.upload("hello.prompt", f"---\n{self.front}\n---\nHello".encode())
        await PromptIndexer(files, index, 1_000_000, lambda: NOON).index("hello.prompt", "01")
        limits = read_budgets(json.dumps(self.limits))
        gateway = Gateway(
            prompts=Catalogue(index, files, ttl_s=0, cache_bytes=10_000, clock=lambda: 0.0),
            router=Router(MODELS, "openai/gpt-4o-mini"),
            completer=Completer({"openai": self.provider}, RetryPolicy(limit=0)),
            ledger=self.usage,
            observer=self.observer,
            limits=GatewayLimits(timeout_s=60, max_rendered_chars=10_000),
            now=lambda: self.now,
            new_id=lambda: f"call-{self.calls}",
            test_mode=False,
            rehearsals=rehearsals,
            budgets=Budgets(limits, self.store, self.notices, self.observer),
        )
        body = CallRequest.model_validate({"prompt": "hello", "calling_service": service, **request})
        return await gateway.call_prompt(body, "req-1", Deadline.after(30), OPEN)

    def refused(self, **request: Any) -> BudgetExceeded:
        with pytest.raises(BudgetExceeded) as caught:
            self.call(**request)
        assert self.provider.asked == []
        return caught.value

    @property
    def told(self) -> list[tuple[str, str, int]]:
        return [(told.limit.width, told.limit.unit, told.percent) for told in self.notices.sent]


def test_what_a_call_cost_is_counted_and_nothing_stays_held() -> None:
    at = Shop({"shop": {"day_usd": "1"}})
    answer = at.call()
    assert [amount for _, amount in at.store.spent] == [Amount(Decimal("0.015"), 100_000)]
    assert answer.cost_usd == Decimal("0.015")
    assert at.store.holds == {}


def test_a_call_that_asks_for_test_mode_costs_no_budget_and_needs_none() -> None:
    at = Shop({"shop": {"day_usd": "0.015"}})
    at.call()
    at.refused()
    assert at.call(test_mode=True).test_mode is True
    assert [amount for _, amount in at.store.spent] == [Amount(Decimal("0.015"), 100_000)]


def test_over_budget_is_a_429_with_the_reset_time_and_nobody_is_asked() -> None:
    at = Shop({"shop": {"day_usd": "0.015", "month_tokens": 10_000_000}})
    at.call()
    error = at.refused()
    assert (error.status, error.code, error.type, error.retryable) == (
        429,
        "budget_exceeded",
        "budget_error",
        False,
    )
    assert error.details == {
        "window": "day",
        "unit": "usd",
        "limit": "0.015",
        "resets_at": "2026-11-24T00:00:00Z",
    }
    assert error.retry_after_s == 12 * 3600
    assert len(at.usage.records) == 1
    at.now += timedelta(days=1)
    assert at.call().text == "Hello."


def test_a_budget_in_tokens_says_when_its_month_ends() -> None:
    at = Shop({"shop": {"month_tokens": 100_150}})
    at.call()
    error = at.refused()
    assert (error.details["limit"], error.details["resets_at"]) == (100_150, "2026-12-01T00:00:00Z")


def test_a_call_that_never_fits_is_refused_without_a_look_at_the_store() -> None:
    at = Shop({"shop": {"day_tokens": 50}})
    assert "This call alone" in at.refused().message
    assert at.store.asked == 0
    assert at.told == []


def test_services_without_a_budget_cost_no_read_and_no_write() -> None:
    at = Shop({"shop": {"day_tokens": 50}})
    for service in ("other", None):
        assert at.call(service).text == "Hello."
    assert at.store.asked == 0


def test_all_without_a_budget_of_their_own_share_the_one_of_the_star() -> None:
    at = Shop({"*": {"day_tokens": 100_150}, "shop": {"day_tokens": 1_000_000}, "free": {}})
    at.call("one")
    at.refused(service="two")
    at.refused(service=None)
    at.call("shop")
    assert [hold.budget for hold, _ in at.store.spent] == ["*", "shop"]
    asked = at.store.asked
    at.call("free")
    assert at.store.asked == asked


@pytest.mark.parametrize("error", [ProviderUnavailable("down"), StoreUnavailable("no key")])
def test_a_call_that_cost_nothing_gives_everything_back(error: Exception) -> None:
    at = Shop({"shop": {"day_usd": "1"}}, script=[error])
    with pytest.raises(type(error)):
        at.call()
    assert [amount for _, amount in at.store.spent] == [Amount()]
    assert at.store.holds == {}


def test_a_caller_that_goes_away_gives_back_what_was_held_for_it() -> None:
    async def scenario(at: Shop) -> None:
        call = asyncio.create_task(at.called())
        while not at.store.holds or not at.provider.asked:
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()

    at = Shop({"shop": {"day_usd": "1"}}, script=[60.0, COST])
    asyncio.run(scenario(at))
    assert ([amount for _, amount in at.store.spent], at.store.holds) == ([Amount()], {})


def test_a_failure_that_was_billed_is_counted() -> None:
    error = ContentFiltered("Filtered.")
    error.usage = TokenUsage(100_000, 0, 0, 0)
    at = Shop({"shop": {"day_usd": "1"}}, script=[error])
    with pytest.raises(ContentFiltered):
        at.call()
    assert [amount for _, amount in at.store.spent] == [Amount(Decimal("0.015"), 100_000)]


def test_an_answer_whose_cost_nobody_knows_counts_as_the_most_it_can_have_cost() -> None:
    at = Shop({"shop": {"day_usd": "1"}}, script=[completion(usage=TokenUsage())])
    at.call()
    [(hold, amount)] = at.store.spent
    assert amount == hold.most
    assert amount.usd > 0


def test_a_budget_in_dollars_refuses_a_model_without_a_price() -> None:
    with pytest.raises(UnpricedModel) as caught:
        Shop({"shop": {"day_usd": "1"}}).call(model="free")
    assert (caught.value.status, caught.value.param) == (400, "model")
    assert Shop({"shop": {"day_tokens": 1_000_000}}).call(model="free").cost_usd is None


def test_a_fallback_without_a_price_is_not_asked() -> None:
    down: list[Completion | Exception | float] = [ProviderUnavailable("down"), COST]
    at = Shop({"shop": {"day_usd": "1"}}, script=down, front="gateway.fallbacks: [openai/free]")
    with pytest.raises(ProviderUnavailable):
        at.call()
    assert [model.name for model, *_ in at.provider.asked] == ["gpt-4o-mini"]


def test_without_the_store_nobody_with_a_budget_is_answered() -> None:
    at = Shop({"shop": {"day_usd": "1"}})
    at.store.down = True
    with pytest.raises(StoreUnavailable):
        at.call()
    assert at.provider.asked == []
    assert at.call("other").text == "Hello."


class DiesAfterReserve(InMemoryBudgets):
    """A store that is there before a call and gone after it."""

    @override
    async def reserve(self, hold: Hold, limits: Limits, now: datetime) -> Standing:
        self.down = False
        standing = await super().reserve(hold, limits, now)
        self.down = True
        return standing


def test_an_answer_is_given_even_if_its_cost_cannot_be_counted_and_an_operator_hears_of_it() -> None:
    at = Shop({"shop": {"day_usd": "1"}}, store=DiesAfterReserve())
    assert at.call().text == "Hello."
    [(hold, spent)] = at.observer.unsettled
    assert (hold.holder, spent.usd) == ("call-1", Decimal("0.015"))


def test_each_threshold_is_told_once_in_each_window() -> None:
    at = Shop({"shop": {"day_tokens": 250_000, "month_tokens": 1_000_000}})
    at.call()
    assert at.told == []
    at.call()
    assert at.told == [("day", "tokens", 80)]
    at.script = [completion(usage=TokenUsage(50_000, 0, 0, 0))]
    at.call()
    assert at.told == [("day", "tokens", 80), ("day", "tokens", 100)]
    for _ in range(2):
        at.refused()
    assert len(at.told) == len(at.observer.reached) == 2
    at.now += timedelta(days=1)
    at.script = [completion(usage=TokenUsage(200_000, 0, 0, 0))]
    at.call()
    assert at.told[2:] == [("day", "tokens", 80)]
    assert at.notices.sent[-1].resets_at == datetime(2026, 11, 25, tzinfo=UTC)


def test_a_budget_that_does_not_suffice_for_a_call_is_told_as_used_up() -> None:
    at = Shop({"shop": {"day_tokens": 100_150}})
    at.call()
    assert at.told == [("day", "tokens", 80)]
    at.refused()
    at.refused()
    assert at.told == [("day", "tokens", 80), ("day", "tokens", 100)]


def test_a_bus_that_is_down_is_told_to_the_operators_and_to_nobody_else() -> None:
    at = Shop({"shop": {"day_tokens": 100_200}})
    at.notices.down = True
    assert at.call().text == "Hello."
    assert at.observer.unsent == ["shop"]
    assert [reached.percent for reached in at.observer.reached] == [80]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not valid JSON"),
        ("[]", "one JSON object"),
        ('{"shop": {"day": 1}}', "no field 'shop.day'"),
        ('{"shop": {"day_usd": "-1"}}', "shop.day_usd"),
        ('{"shop": {"day_usd": "many"}}', "shop.day_usd"),
        ('{"shop": {"day_tokens": 1.5}}', "shop.day_tokens"),
        ('{"": {}}', "must not be shorter than 1"),
    ],
)
def test_a_mistake_is_told_with_the_setting_and_the_field(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_budgets(text)
    assert caught.value.message.startswith("LLM_GATEWAY_BUDGETS: ")
    assert told in caught.value.message


def test_limits_are_read_exactly() -> None:
    read = read_budgets('{"shop": {"day_usd": "0.10", "month_tokens": 5}, "free": {}}')
    shop = (Limit("day", "usd", Decimal("0.10")), Limit("month", "tokens", Decimal(5)))
    assert read == {"shop": shop, "free": ()}


def test_a_month_ends_where_the_next_begins() -> None:
    for month in range(1, 13):
        moment = datetime(2026, month, 28, 23, 59, tzinfo=UTC)
        expected = datetime(2026 + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        assert resets_at("month", moment) == expected


rates = st.decimals(min_value=0, max_value=100, places=2)


@given(
    price=st.builds(
        ModelPrice,
        input=rates,
        output=rates,
        cached_input=st.none() | rates,
        cache_write=st.none() | rates,
        long_above=st.none() | st.integers(0, 400),
        long_input=st.none() | rates,
        long_output=st.none() | rates,
        long_cached_input=st.none() | rates,
        long_cache_write=st.none() | rates,
    ),
    texts=st.lists(st.text(max_size=50), min_size=1, max_size=4),
    max_tokens=st.integers(1, 500),
    share=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_no_answer_costs_more_than_the_bound(
    price: ModelPrice, texts: list[str], max_tokens: int, share: tuple[float, float, float, float]
) -> None:
    model = ModelSpec("openai", "m", 100_000, 500, "max_tokens", price=price)
    messages = [Message("user", text) for text in texts]
    route = Route(model, ModelOptions(max_tokens=max_tokens))
    most = most_of_call([route], messages, repair=False)
    read = int(share[0] * (sum(len(text.encode()) for text in texts) + 4 * len(texts) + 3))
    written = int(share[1] * max_tokens)
    cached = int(share[2] * read)
    usage = TokenUsage(read, written, cached, 0, int(share[3] * (read - cached)))
    cost = cost_usd(usage, price)
    assert cost is not None
    assert cost <= most.usd
    assert read + written <= most.tokens


def test_the_bound_is_that_of_the_dearest_route_and_a_repair_is_a_second_answer() -> None:
    cheap, dear = (Route(MODELS.find("openai", name), ModelOptions()) for name in ("gpt-4o-mini", "gpt-4o"))
    messages = [Message("user", "Hello")]
    one, both = (
        most_of_call([dear], messages, repair=False),
        most_of_call([cheap, dear], messages, repair=False),
    )
    assert one.usd == both.usd
    assert most_of_call([dear], messages, repair=True).usd > 2 * one.usd
    with_schema = replace(dear, options=ModelOptions(output_schema={"type": "object"}))
    assert most_of_call([with_schema], messages, repair=False).usd > one.usd


@given(st.text(min_size=1, max_size=200), st.integers(1, 100))
def test_test_mode_keeps_the_bound(text: str, max_tokens: int) -> None:
    model, messages = MODELS.find("openai", "gpt-4o"), [Message("user", text)]
    options = ModelOptions(max_tokens=max_tokens)
    answer = asyncio.run(FakeProvider().complete(model, messages, options, 1.0))
    total = answer.usage.total_tokens
    assert total is not None
    assert total <= most_of_call([Route(model, options)], messages, repair=False).tokens


@pytest.mark.parametrize("reason", ["length", "content_filter", "stop", None])
@pytest.mark.parametrize("message", [{}, {"refusal": "no"}, None, {"content": 7}])
def test_no_failure_that_is_billed_is_tried_again(reason: str | None, message: object) -> None:
    """Which is why the bound of a call is that of one answer, however many attempts it takes."""
    body = {"choices": [{"finish_reason": reason, "message": message}], "usage": {"prompt_tokens": 9}}
    with pytest.raises(ProviderError) as caught:
        read_completion(json.dumps(body).encode())
    assert caught.value.usage is not None
    assert not caught.value.retryable
