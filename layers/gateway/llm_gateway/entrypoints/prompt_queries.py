"""ListPrompts and GetPromptMetadata, whichever entrance asks."""

from __future__ import annotations

import asyncio
import base64
import binascii
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from llm_gateway.access.caller import Caller
from llm_gateway.access.reach import Reach
from llm_gateway.errors import InvalidParameter
from llm_gateway.prompts.catalogue.catalogue import PromptIndex
from llm_gateway.prompts.catalogue.listing import find_entry, prompts_within
from llm_gateway.prompts.files.path import check_directory, is_partial, is_prompt_file
from llm_gateway.wire.prompts import HISTORY_LIMIT, PromptList, PromptMetadata, PromptSummary


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
    directory, reach = check_directory(query.directory), caller.reach
    after = _after(query.cursor, directory, reach)
    entries = await prompts_within(index, directory, query.limit + 1, after, reach)
    page = entries[: query.limit]
    return PromptList(
        prompts=[PromptSummary.of(entry) for entry in page],
        next_cursor=_cursor(page[-1].path) if len(entries) > query.limit else None,
    )


async def prompt_metadata(index: PromptIndex, path: str, caller: Caller) -> PromptMetadata:
    """Everything about one prompt but its text.

    Raises:
        RequestError: There is no such prompt, or not for this caller.
        StoreUnavailable: The index does not answer.
    """
    caller.permit_prompt(path)
    reach = caller.reach
    entry = await find_entry(index, path, reach)
    labels, history = await asyncio.gather(index.labels(entry.path), index.history(entry.path))
    shown = [
        replace(revision, error=reach.redacted(revision.error, revision.partials))
        if revision.error
        else revision
        for revision in history[:HISTORY_LIMIT]
    ]
    return PromptMetadata.of_prompt(reach.shown(entry), labels, shown)


def _cursor(path: str) -> str:
    return base64.urlsafe_b64encode(path.encode()).decode().rstrip("=")


def _after(cursor: str | None, directory: str, reach: Reach) -> str | None:
    """The path a cursor stands for; it must be one that this listing could have given to this caller."""
    if cursor is None:
        return None
    try:
        padding = "=" * (-len(cursor) % 4)
        path = base64.b64decode(cursor + padding, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise _bad_cursor() from None
    below = path.startswith(f"{directory}/") if directory else True
    listed = is_prompt_file(path) and not is_partial(path) and reach.holds(path)
    if not (below and listed and cursor == _cursor(path)):
        raise _bad_cursor()
    return path


def _bad_cursor() -> InvalidParameter:
    return InvalidParameter("'cursor' must be the next_cursor of the page before, unchanged.", param="cursor")
