"""GET /v1/prompts and GET /v1/prompts/{path}."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from llm_gateway.access.caller import Caller
from llm_gateway.api import prompts
from llm_gateway.api.prompts import ListQuery, PromptList, PromptMetadata
from llm_gateway.entrypoints.http.callers import RequestCallers, permitted
from llm_gateway.errors import RouteNotFound
from llm_gateway.prompts.catalogue.catalogue import PromptIndex


def list_router(index: PromptIndex, callers: RequestCallers) -> APIRouter:
    """GET /v1/prompts."""
    routes = APIRouter()
    known = Depends(permitted(callers, "ListPrompts"))

    @routes.get("/v1/prompts", operation_id="ListPrompts")
    async def list_prompts(query: Annotated[ListQuery, Query()], caller: Caller = known) -> PromptList:
        """List the prompts within the caller's reach, with their basic metadata, in path order."""
        return await prompts.list_prompts(index, query, caller)

    @routes.get("/v1/prompts/", include_in_schema=False)
    async def no_prompt() -> None:
        """Refuse the path, which API Gateway takes for the list and a router for a prompt without a name."""
        raise RouteNotFound("There is no such endpoint; see docs/api.md for the list.")

    return routes


def metadata_router(index: PromptIndex, callers: RequestCallers) -> APIRouter:
    """GET /v1/prompts/{path}."""
    routes = APIRouter()
    known = Depends(permitted(callers, "GetPromptMetadata"))

    @routes.get("/v1/prompts/{path:path}", operation_id="GetPromptMetadata")
    async def get_prompt_metadata(
        path: Annotated[str, Path(description="Path of the prompt.", examples=["support/reply.prompt"])],
        caller: Caller = known,
    ) -> PromptMetadata:
        """Describe a prompt: variables, schema, parameters, versions, labels, size; never its text."""
        return await prompts.prompt_metadata(index, path, caller)

    return routes
