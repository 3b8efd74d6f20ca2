"""What callers invent makes no row of sums without end: records are folded before they are written."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.access.caller import OPEN, Caller
from llm_gateway.adapters.memory.call_rates import InMemoryCallRates
from llm_gateway.api.calls import CallRequest, CallResponse
from llm_gateway.calls.admission import GuardedCalls
from llm_gateway.deadline import Deadline
from llm_gateway.errors import PromptNotFound
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.record_names import OTHER, BoundedNames, RecordNames
from llm_gateway.usage.rollups import rollups_of
from tests.fakes import NOON, completion
from tests.unit.telemetry.test_telemetry import record
from tests.unit.test_gateway import house

NAMES = st.lists(st.text(min_size=1, max_size=3), max_size=60)


@given(names=NAMES, known=st.sets(st.text(min_size=1, max_size=3), max_size=5), most=st.integers(0, 5))
def test_there_are_never_more_names_than_are_known_and_allowed(
    names: list[str], known: set[str], most: int
) -> None:
    warned: list[None] = []
    bounded = BoundedNames(most, lambda: warned.append(None))
    bounded.know(known)
    folded = [bounded.folded(name) for name in names]
    assert len({name for name in folded if name != OTHER} - known) <= most
    assert all(new in (old, OTHER) for old, new in zip(names, folded, strict=True))
    assert all(new == old for old, new in zip(names, folded, strict=True) if old in known)
    assert len(warned) <= 1
    assert [bounded.folded(name) for name in names] == folded, "a name that got its place keeps it"


def test_a_record_keeps_all_but_the_names_that_are_too_many() -> None:
    told: list[str] = []
    names = RecordNames(told.append, most_services=1, most_models=0)
    names.models.know(["gpt-4o-mini"])
    first, other = names.folded(record()), names.folded(record_of("pay", "gpt-4o-mini-1999-01-01"))
    assert (first.calling_service, first.model) == ("shop", "gpt-4o-mini")
    assert (other.calling_service, other.model) == (OTHER, OTHER)
    assert (other.call_id, other.usage) == (first.call_id, first.usage)
    assert sorted(told) == ["calling_service", "model"]


def record_of(service: str, model: str) -> UsageRecord:
    return replace(record(), calling_service=service, model=model)


def test_ledger_log_and_sums_agree_on_the_names() -> None:
    at = house(*(completion() for _ in range(5)))
    at.names = RecordNames(most_services=2)
    answers = [at.call(calling_service=name) for name in ("a", "b", "c", "d", "a")]
    written = Counter(record.calling_service for record in at.usage.records.values())
    assert written == {"a": 2, "b": 1, OTHER: 2}
    assert Counter(record.calling_service for record, _ in at.observer.ended) == written
    days = [rollup for rollup in rollups_of(at.usage.records.values()) if rollup.width == "day"]
    assert {rollup.dimensions.calling_service: rollup.totals.requests for rollup in days} == written
    assert len({answer.call_id for answer in answers}) == 5


def test_a_service_that_proved_who_it_is_is_never_folded() -> None:
    names = RecordNames(most_services=0)

    async def asked() -> None:
        calls = GuardedCalls(Answering(), InMemoryCallRates(lambda: NOON), names)
        request = CallRequest(prompt="hello")
        for caller in (Caller("shop"), OPEN):
            with pytest.raises(PromptNotFound):
                await calls.call_prompt(request, "r", Deadline.after(5), caller)

    asyncio.run(asked())
    assert names.folded(record_of("shop", "m")).calling_service == "shop"
    assert names.folded(record_of("claimed", "m")).calling_service == OTHER


class Answering:
    """Answers no call."""

    async def call_prompt(
        self, request: CallRequest, request_id: str, time_left: Deadline, caller: Caller
    ) -> CallResponse:
        raise PromptNotFound("There is none.")
