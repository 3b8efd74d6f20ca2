"""GET /v1/prompts and GET /v1/prompts/{path}."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from llm_gateway.access import Caller
from llm_gateway.entrypoints.http.callers import RequestCallers, permitted
from llm_gateway.errors import InvalidParameter, InvalidPath
from llm_gateway.prompts.catalogue import PromptIndex, find_entry
from llm_gateway.prompts.path import check_directory, check_path
from llm_gateway.wire.prompts import PromptList, PromptMetadata, PromptSummary


class ListQuery(BaseModel):
    """What to list."""

    model_config = ConfigDict(extra="forbid")

    directory: str = Field("", max_length=512, description="Only prompts below this directory.")
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, max_length=1024, description="`next_cursor` of the page before.")


def list_router(index: PromptIndex, callers: RequestCallers) -> APIRouter:
    """GET /v1/prompts."""
    routes = APIRouter()
    known = Depends(permitted(callers, "ListPrompts"))

    @routes.get("/v1/prompts", operation_id="ListPrompts")
    async def list_prompts(query: Annotated[ListQuery, Query()], caller: Caller = known) -> PromptList:
        """List the prompts within the caller's reach, with their basic metadata, in path order."""
        directory = check_directory(query.directory)
        page = await index.page(directory, query.limit, _after(query.cursor, directory))
        return PromptList(
            prompts=[PromptSummary.of(entry) for entry in page.entries if caller.may_read(entry.path)],
            next_cursor=None if page.next_after is None else _cursor(page.next_after),
        )

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
        caller.permit_prompt(path, resolved=False)
        entry = await find_entry(index, path)
        caller.permit_prompt(entry.path)
        labels, history = await asyncio.gather(index.labels(entry.path), index.history(entry.path))
        return PromptMetadata.of_prompt(entry, labels, history)

    return routes


def _cursor(path: str) -> str:
    return base64.urlsafe_b64encode(path.encode()).decode().rstrip("=")


def _after(cursor: str | None, directory: str) -> str | None:
    """The path a cursor stands for; it must be one that this listing could have given."""
    if cursor is None:
        return None
    try:
        padding = "=" * (-len(cursor) % 4)
        path = check_path(base64.b64decode(cursor + padding, altchars=b"-_", validate=True).decode())
    except (binascii.Error, ValueError, InvalidPath):
        raise _bad_cursor() from None
    if directory and not path.startswith(f"{directory}/"):
        raise _bad_cursor()
    return path


def _bad_cursor() -> InvalidParameter:
    return InvalidParameter("'cursor' must be the next_cursor of the page before, unchanged.", param="cursor")
