"""The four methods: a message in, the gateway's own function, a message out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import Message
from pydantic import BaseModel
from typing_extensions import override

from llm_gateway.api.calls import CallRequest
from llm_gateway.api.prompts import ListQuery, list_prompts, prompt_metadata
from llm_gateway.api.usage import UsageQuery, usage_stats
from llm_gateway.calls.idempotency import CallsPrompts
from llm_gateway.entrypoints.grpc_api.generated import llm_gateway_pb2 as pb
from llm_gateway.entrypoints.grpc_api.generated import llm_gateway_pb2_grpc
from llm_gateway.entrypoints.grpc_api.interceptors import ASKED
from llm_gateway.entrypoints.grpc_api.messages import fields_of, message_of
from llm_gateway.errors import InvalidRequest
from llm_gateway.models.options import TIMEOUT_RANGE_S
from llm_gateway.prompts.catalogue.catalogue import PromptIndex
from llm_gateway.usage.rollups import RollupStore
from llm_gateway.validation import validated
from llm_gateway.workers import INLINE, LIGHT_BYTES, Workers

if TYPE_CHECKING:
    from llm_gateway.entrypoints.grpc_api.interceptors import Context

SERVICE = pb.DESCRIPTOR.services_by_name["LlmGateway"].full_name
T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


class GatewayServicer(llm_gateway_pb2_grpc.LlmGatewayServicer):
    """Answers the methods of the contract; see GrpcServices for what with."""

    def __init__(
        self,
        calls: CallsPrompts,
        prompt_index: PromptIndex,
        rollups: RollupStore,
        workers: Workers = INLINE,
    ) -> None:
        self._calls = calls
        self._prompt_index = prompt_index
        self._rollups = rollups
        self._workers = workers

    @override
    async def CallPrompt(self, request: pb.CallPromptRequest, context: Context) -> pb.CallPromptResponse:
        asked = ASKED.get()
        light = request.ByteSize() <= LIGHT_BYTES
        call = await self._done(lambda: _validated(CallRequest, request), light=light)
        answer = await self._calls.call_prompt(call, asked.request_id, asked.time_left, asked.caller)
        light = len(answer.text) <= LIGHT_BYTES
        return await self._done(lambda: message_of(pb.CallPromptResponse, answer), light=light, paid=True)

    async def _done(self, work: Callable[[], T], *, light: bool, paid: bool = False) -> T:
        """Have a message read or written, beside the other calls if it is large."""
        asked = ASKED.get()
        return await self._workers.run(
            work,
            asked.time_left if paid else asked.time_left.sooner(TIMEOUT_RANGE_S[0]),
            owner=asked.caller.service or "",
            first=work if light else None,
            paid=paid,
        )

    @override
    async def GetPromptMetadata(
        self, request: pb.GetPromptMetadataRequest, context: Context
    ) -> pb.GetPromptMetadataResponse:
        if not request.path:
            raise InvalidRequest("'path' is missing.", param="path")
        metadata = await prompt_metadata(self._prompt_index, request.path, ASKED.get().caller)
        return message_of(pb.GetPromptMetadataResponse, metadata)

    @override
    async def ListPrompts(self, request: pb.ListPromptsRequest, context: Context) -> pb.ListPromptsResponse:
        query = _validated(ListQuery, request)
        page = await list_prompts(self._prompt_index, query, ASKED.get().caller)
        return message_of(pb.ListPromptsResponse, page)

    @override
    async def GetUsageStats(
        self, request: pb.GetUsageStatsRequest, context: Context
    ) -> pb.GetUsageStatsResponse:
        query = _validated(UsageQuery, request)
        stats = await usage_stats(self._rollups, query, ASKED.get().caller)
        return message_of(pb.GetUsageStatsResponse, stats)


def _validated(model: type[Model], request: Message) -> Model:
    return validated(model, fields_of(request))
