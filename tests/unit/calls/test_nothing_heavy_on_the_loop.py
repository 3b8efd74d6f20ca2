"""Which work a process does at once, in its event loop, and which beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from llm_gateway.access.caller import OPEN, Caller
from llm_gateway.adapters.memory.prompt_index import InMemoryPromptIndex
from llm_gateway.api.calls import CallRequest
from llm_gateway.bootstrap.settings import Settings
from llm_gateway.calls.completer import Completer, RetryPolicy
from llm_gateway.deadline import Deadline
from llm_gateway.entrypoints.http import calls
from llm_gateway.entrypoints.http.boundary import RequestBoundary, exception_handlers
from llm_gateway.errors import RequestError
from llm_gateway.gateway import Gateway, GatewayLimits
from llm_gateway.models.catalogue import ModelCatalogue
from llm_gateway.models.completion import Completion
from llm_gateway.models.errors import ProviderError
from llm_gateway.models.routing import Router
from llm_gateway.prompts.catalogue.catalogue import Catalogue
from llm_gateway.prompts.catalogue.indexing import PromptIndexer
from llm_gateway.prompts.rendering.metering import QUICK_STEPS, Budget
from llm_gateway.prompts.rendering.template import PromptTemplate
from llm_gateway.providers.openai.chat_completion import read_completion
from llm_gateway.workers import NotQuick
from tests.fakes import (
    NOON,
    InMemoryPromptFiles,
    InMemoryUsage,
    RecordingObserver,
    ScriptedProvider,
    completion,
)

T = TypeVar("T")


@dataclass
class RecordingWorkers:
    """Does all work at once, and remembers which would have been done in the loop and which beside it."""

    done: list[str] = field(default_factory=list)

    async def run(
        self,
        work: Callable[[], T],
        deadline: Deadline,
        *,
        owner: str = "",
        first: Callable[[], T] | None = None,
        paid: bool = False,
    ) -> T:
        if first is not None:
            try:
                made = first()
                self.done.append("loop")
                return made
            except NotQuick:
                self.done.append("given up")
            except Exception:
                self.done.append("loop")
                raise
        self.done.append("beside")
        return work()


PROMPTS: Mapping[str, str] = {
    "plain.md": "Hello {{ name }}.",
    "upper.md": '{{ xs | map("upper") | join(" ") }}',
    "loop.md": "{% for i in range(5000) %}{{ i }}{% endfor %}",
    "checked.md": "---\ninput: {schema: {properties: {xs: {items: {type: integer}}}}}\n---\n{{ xs[0] }}",
}
SCHEMA: Mapping[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}}


def work_of(answer: Completion, **call: Any) -> list[str]:
    """Where the work of a call is done, once its prompt was read."""

    async def run() -> list[str]:
        files, index, workers = InMemoryPromptFiles(), InMemoryPromptIndex(), RecordingWorkers()
        for number, (path, text) in enumerate(PROMPTS.items(), start=1):
            files.upload(path, text.encode())
            indexer = PromptIndexer(files, index, 100_000, lambda: NOON, workers=workers)
            await indexer.index(path, f"{number:04}")
        assert set(workers.done) == {"beside"}  # no prompt file is read in the loop
        catalogue = Catalogue(index, files, ttl_s=60, cache_bytes=10_000, clock=lambda: 0.0, workers=workers)
        gateway = Gateway(
            prompts=catalogue,
            router=Router(ModelCatalogue.packaged(), "openai/gpt-4o-mini"),
            completer=Completer({"openai": ScriptedProvider(answer)}, RetryPolicy(limit=0)),
            ledger=InMemoryUsage(),
            observer=RecordingObserver(),
            limits=GatewayLimits(timeout_s=60, max_rendered_chars=1_000_000),
            now=lambda: NOON,
            new_id=lambda: "call",
            test_mode=False,
            rehearsals=lambda: Completer({}, RetryPolicy(limit=0)),
            workers=workers,
        )
        workers.done.clear()
        await catalogue.load(call["prompt"])
        assert workers.done == ["beside"]
        workers.done.clear()
        with suppress(RequestError, ProviderError):
            await gateway.call_prompt(CallRequest.model_validate(call), "req", Deadline.after(60), OPEN)
        return workers.done

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("call", "done"),
    [
        ({"prompt": "plain", "variables": {"name": "Ada"}}, ["loop", "loop"]),
        ({"prompt": "plain", "variables": {"name": "a" * 20_000}}, ["loop", "given up", "beside"]),
        ({"prompt": "plain", "variables": {"name": "", "x": [0] * 3_000}}, ["loop", "given up", "beside"]),
        ({"prompt": "upper", "variables": {"xs": ["a" * 6] * 90_000}}, ["loop", "given up", "beside"]),
        ({"prompt": "upper", "variables": {"xs": ["a"]}}, ["loop", "loop"]),
        ({"prompt": "loop"}, ["loop", "given up", "beside"]),
        ({"prompt": "checked", "variables": {"xs": [1]}}, ["loop", "loop"]),
        ({"prompt": "checked", "variables": {"xs": ["x"]}}, ["loop", "given up", "beside"]),
        (
            {"prompt": "plain", "variables": {"name": ""}, "output": {"schema": SCHEMA}},
            ["loop", "loop", "loop"],
        ),
        (
            {"prompt": "plain", "variables": {"name": ""}, "output": {"schema": {"pattern": "a"}}},
            ["beside", "loop", "loop"],
        ),
        (
            {
                "prompt": "plain",
                "variables": {"name": ""},
                "output": {"schema": {"properties": {f"p{n}": {} for n in range(400)}}},
            },
            ["beside", "loop", "loop"],
        ),
    ],
)
def test_light_work_is_done_at_once_and_heavy_work_beside_the_loop(
    call: dict[str, Any], done: list[str]
) -> None:
    assert work_of(completion('{"a": "b"}'), **call) == done


def test_a_long_answer_is_read_and_checked_beside_the_loop() -> None:
    answer = completion(json.dumps({"a": "x" * 10_000}))
    call = {"prompt": "plain", "variables": {"name": ""}, "output": {"schema": SCHEMA}}
    assert work_of(answer, **call) == ["loop", "loop", "beside"]


def test_the_attempt_at_once_is_charged_no_more_than_its_few_steps() -> None:
    template, budgets = PromptTemplate.compile("{% for i in range(9) %}{{ i }}{% endfor %}"), Budget(10)
    assert template.render({}, 100, quick=True)
    heavy = PromptTemplate.compile(PROMPTS["loop.md"])
    with pytest.raises(RequestError):
        heavy.render({}, 1_000_000, quick=True, clock=lambda: 0.0)
    assert heavy.render({}, 1_000_000, clock=lambda: 0.0)
    quick = Budget(10, max_steps=QUICK_STEPS)
    budgets.step(QUICK_STEPS + 1)
    with pytest.raises(RequestError):
        quick.step(QUICK_STEPS + 1)


class NoCalls:
    async def call_prompt(
        self, request: CallRequest, request_id: str, time_left: Deadline, caller: Caller
    ) -> Any:
        raise RequestError("Enough.")


@pytest.mark.parametrize(("size", "where"), [(1_000, "loop"), (16_000, "loop"), (17_000, "beside")])
def test_a_large_body_is_read_beside_the_loop(size: int, where: str) -> None:
    workers, observer = RecordingWorkers(), RecordingObserver()

    async def callers(request: object) -> Caller:
        return OPEN

    endpoint = calls.endpoint(NoCalls(), callers, Settings(), workers)
    app = Starlette(
        routes=[Route("/v1/call", endpoint, methods=["POST"])],
        exception_handlers=exception_handlers(observer),
    )

    async def asked() -> httpx2.Response:
        transport = httpx2.ASGITransport(RequestBoundary(app, observer))
        async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return await client.post("/v1/call", json={"prompt": "a", "variables": {"x": "x" * size}})

    assert asyncio.run(asked()).json()["error"]["message"] == "Enough."
    assert workers.done == [where]


def test_a_vendors_answer_of_millions_of_values_is_not_read() -> None:
    with pytest.raises(ProviderError) as caught:
        read_completion(b'{"choices": [' + b"[]," * 2_000_000 + b"1]}")
    assert caught.value.code == "invalid_provider_response"
