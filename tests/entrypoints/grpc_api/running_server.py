"""A gateway of real parts behind a real gRPC server: prompts in a folder, a loopback vendor."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from llm_gateway.access.caller import Callers, OpenCallers
from llm_gateway.adapters.local.prompt_files import FolderPromptFiles
from llm_gateway.adapters.local.prompt_index import FolderPromptIndex
from llm_gateway.adapters.memory.call_rates import InMemoryCallRates
from llm_gateway.calls.admission import CallLimit, GuardedCalls
from llm_gateway.calls.completer import Completer, RetryPolicy
from llm_gateway.calls.idempotency import IdempotentCalls
from llm_gateway.entrypoints.grpc_api.generated import llm_gateway_pb2 as pb
from llm_gateway.entrypoints.grpc_api.generated.llm_gateway_pb2_grpc import LlmGatewayStub
from llm_gateway.entrypoints.grpc_api.server import GrpcOptions, GrpcServer, GrpcServices
from llm_gateway.gateway import Gateway, GatewayLimits
from llm_gateway.models.catalogue import Endpoint, ModelCatalogue
from llm_gateway.models.provider import Provider
from llm_gateway.models.routing import Router
from llm_gateway.prompts.catalogue.catalogue import Catalogue
from llm_gateway.prompts.catalogue.indexing import PromptIndexer
from llm_gateway.providers.fake.provider import FakeProvider
from llm_gateway.providers.openai.adapter import OpenAIProvider
from llm_gateway.usage.record import UsageRecord
from llm_gateway.usage.record_names import RecordNames
from tests.fakes import InMemoryOutcomes, InMemoryUsage, RecordingObserver, rehearsals

PATIENCE_S = 20.0
MAX_MESSAGE_BYTES = 100_000
HELLO = (
    "---\ndescription: Greets.\nmodel: openai/gpt-4o-mini\n---\nsystem:\nBe kind.\nuser:\nHello {{ name }}"
)
M = TypeVar("M", bound=Message)


@dataclass
class House:
    """The server, a client's channel to it, and what is behind it."""

    usage: InMemoryUsage
    observer: RecordingObserver
    limiter: CallLimit
    server: GrpcServer
    channel: grpc.aio.Channel
    port: int

    @property
    def stub(self) -> Any:
        # Its types say nothing of the errors and trailers of a call, which is what most tests look at.
        return LlmGatewayStub(self.channel)

    async def records(self, wanted: int = 1) -> list[UsageRecord]:
        """The ledger, as soon as it has so many records."""
        await eventually(lambda: len(self.usage.records) >= wanted)
        return list(self.usage.records.values())


@dataclass
class Plan:
    """What to build a house of.

    Attributes:
        folder: An empty folder.
        vendor: Base URL of a vendor; None is the fake one.
        callers: Authenticate callers.
        places: How many calls may be under way.
        prompts: Texts by path.
        calls: What answers calls instead of a gateway.
        options: Further options of the server.
    """

    folder: Path
    vendor: str | None = None
    callers: Callers = field(default_factory=OpenCallers)
    places: int = 10
    reflection: bool = True
    prompts: dict[str, str] = field(default_factory=lambda: {"hello.prompt": HELLO})
    calls: Any = None
    options: dict[str, Any] = field(default_factory=dict)

    @asynccontextmanager
    async def house(self) -> AsyncIterator[House]:
        async with AsyncExitStack() as stack:
            index = await self._prompts()
            usage, observer, limiter = InMemoryUsage(), RecordingObserver(), CallLimit(self.places)
            provider = self._provider()
            if isinstance(provider, OpenAIProvider):
                stack.push_async_callback(provider.close)
            services = GrpcServices(
                calls=self.calls or self._calls(index, usage, observer, provider),
                prompt_index=index,
                rollups=usage,
                observer=observer,
                callers=self.callers,
                limiter=limiter,
            )
            options = GrpcOptions(
                "127.0.0.1", 0, MAX_MESSAGE_BYTES, reflection=self.reflection, **self.options
            )
            server = GrpcServer(services, options)
            port = await server.start()
            stack.push_async_callback(server.stop, 0)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
            yield House(usage, observer, limiter, server, channel, port)

    async def _prompts(self) -> FolderPromptIndex:
        self.root = self.folder / "prompts"
        for path, text in self.prompts.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text, encoding="utf-8")
        index = FolderPromptIndex(self.root)
        await PromptIndexer(FolderPromptFiles(self.root), index, 10_000, _now).reconcile()
        return index

    def _provider(self) -> Provider:
        if self.vendor is None:
            return FakeProvider()

        async def key() -> str:
            return "sk-test"

        return OpenAIProvider(key, _now, Endpoint(self.vendor))

    def _calls(
        self, index: FolderPromptIndex, usage: InMemoryUsage, observer: RecordingObserver, provider: Provider
    ) -> GuardedCalls:
        files = FolderPromptFiles(self.root)
        ids = (f"id-{n}" for n in range(1_000))
        gateway = Gateway(
            prompts=Catalogue(index, files, ttl_s=0, cache_bytes=100_000, clock=time.monotonic),
            router=Router(ModelCatalogue.packaged(), "openai/gpt-4o-mini"),
            completer=Completer({"openai": provider}, RetryPolicy(limit=0)),
            ledger=usage,
            observer=observer,
            limits=GatewayLimits(timeout_s=60, max_rendered_chars=100_000, ledger_timeout_s=5),
            now=_now,
            new_id=lambda: next(ids),
            test_mode=self.vendor is None,
            rehearsals=rehearsals,
        )
        outcomes = InMemoryOutcomes()
        idempotent = IdempotentCalls(
            gateway, outcomes, observer, ttl_s=3600, now=_now, new_id=lambda: next(ids)
        )
        return GuardedCalls(idempotent, InMemoryCallRates(_now), RecordNames())


def _now() -> datetime:
    return datetime.now(UTC)


def run(plan: Plan, scenario: Callable[[House], Awaitable[None]]) -> None:
    """Build the house, let `scenario` happen in it, tear it down."""

    async def whole() -> None:
        async with plan.house() as house:
            await asyncio.wait_for(scenario(house), PATIENCE_S * 2)

    asyncio.run(whole())


async def eventually(there: Callable[[], bool]) -> None:
    """Wait until it is `there`."""
    give_up = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < give_up, "it never came"
        await asyncio.sleep(0.02)


def call(**fields: Any) -> pb.CallPromptRequest:
    """A call of the sample prompt, as JSON would say it."""
    return ParseDict({"prompt": "hello", "variables": {"name": "Ada"}, **fields}, pb.CallPromptRequest())


@dataclass(frozen=True)
class Refusal:
    """An error as a client reads it."""

    code: grpc.StatusCode
    message: str
    info: error_details_pb2.ErrorInfo
    fields: dict[str, str]
    retry_after_s: float | None
    request_id: str


async def refusal(answer: Awaitable[Any]) -> Refusal:
    """The error that a call ends with."""
    try:
        await answer
    except grpc.aio.AioRpcError as error:
        return read_refusal(error)
    raise AssertionError("the call was answered")


def read_refusal(error: grpc.aio.AioRpcError) -> Refusal:
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry, retry_after_s = error_details_pb2.RetryInfo(), None
    for detail in status.details:
        for kind in (info, bad, retry):
            if detail.Is(kind.DESCRIPTOR):
                detail.Unpack(kind)
        if detail.Is(retry.DESCRIPTOR):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    fields = {violation.field: violation.description for violation in bad.field_violations}
    return Refusal(
        error.code(), error.details() or "", info, fields, retry_after_s, str(trailers["x-request-id"])
    )
