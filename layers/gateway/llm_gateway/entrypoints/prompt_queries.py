"""ListPrompts and GetPromptMetadata, whichever entrance asks."""

from __future__ import annotations

import asyncio
import base64
import binascii

from pydantic import BaseModel, ConfigDict, Field

from llm_gateway.access import Caller
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


async def list_prompts(index: PromptIndex, query: ListQuery, caller: Caller) -> PromptList:
    """One page of the prompts within the caller's reach.

    Raises:
        InvalidRequest: The directory or the cursor is none.
        StoreUnavailable: The index does not answer.
    """
    directory = check_directory(query.directory)
    page = await index.page(directory, query.limit, _after(query.cursor, directory))
    return PromptList(
        prompts=[PromptSummary.of(entry) for entry in page.entries if caller.may_read(entry.path)],
        next_cursor=None if page.next_after is None else _cursor(page.next_after),
    )


async def prompt_metadata(index: PromptIndex, path: str, caller: Caller) -> PromptMetadata:
    """Everything about one prompt but its text.

    Raises:
        RequestError: There is no such prompt, or not for this caller.
        StoreUnavailable: The index does not answer.
    """
    caller.permit_prompt(path, resolved=False)
    entry = await find_entry(index, path)
    caller.permit_prompt(entry.path)
    labels, history = await asyncio.gather(index.labels(entry.path), index.history(entry.path))
    return PromptMetadata.of_prompt(entry, labels, history)


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
