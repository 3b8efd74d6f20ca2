"""ListPrompts and GetPromptMetadata: what callers ask and get, and how it is answered."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from llm_gateway.access.caller import Caller
from llm_gateway.access.reach import Reach
from llm_gateway.api.fields import Instant, Parameters, Wire
from llm_gateway.errors import InvalidParameter
from llm_gateway.prompts.catalogue.catalogue import PromptIndex
from llm_gateway.prompts.catalogue.entries import PromptEntry, Revision
from llm_gateway.prompts.catalogue.listing import find_entry, prompts_within
from llm_gateway.prompts.catalogue.shares import Labels
from llm_gateway.prompts.files.path import check_directory, is_partial, is_prompt_file

HISTORY_LIMIT = 20


class PromptSummary(Wire):
    """Basic metadata of one prompt."""

    path: str
    version: str | None = Field(description="The version that is served; null if none ever parsed.")
    size_bytes: int
    last_modified: Instant
    description: str | None
    model: str | None
    required_variables: list[str]
    state: Literal["ok", "broken"] = Field(description="`broken`: the newest upload does not parse.")

    @classmethod
    def of(cls, entry: PromptEntry) -> PromptSummary:
        """The summary of an index entry."""
        return cls(**_summary(entry))


class PromptList(Wire):
    """ListPrompts: one page, in path order."""

    prompts: list[PromptSummary]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null at the end.")


class LabelShare(Wire):
    """A version and its part of a label's calls."""

    version: str
    percent: int = Field(ge=1, le=100)


class HistoryItem(Wire):
    """One version that a prompt has or had."""

    version: str
    made_at: Instant = Field(description="When the newest of its files was uploaded.")
    size_bytes: int
    error: str | None = Field(description="Why it was never served.")


class PromptMetadata(PromptSummary):
    """GetPromptMetadata: all the gateway knows of a prompt but its text."""

    etag: str
    parameters: Parameters = Field(description="The author's choices.")
    input_schema: dict[str, JsonValue] | None = Field(description="JSON Schema of the variables.")
    output_schema: dict[str, JsonValue] | None = Field(description="JSON Schema of the answer.")
    error: str | None = Field(description="Why the newest upload is broken.")
    warnings: list[str]
    partials: dict[str, str] = Field(description="Version of each partial that is served with it.")
    labels: dict[str, list[LabelShare]] = Field(description="What each label points to.")
    history: list[HistoryItem] = Field(description=f"The newest {HISTORY_LIMIT} versions, newest first.")

    @classmethod
    def of_prompt(cls, entry: PromptEntry, labels: Labels, history: Sequence[Revision]) -> PromptMetadata:
        """The metadata of an index entry, with the prompt's labels and versions."""
        options = entry.parameters
        schema, output_schema = entry.input_schema, options.output_schema
        return cls(
            **_summary(entry),
            etag=entry.etag,
            parameters=Parameters(
                temperature=options.temperature,
                top_p=options.top_p,
                max_tokens=options.max_tokens,
                stop=list(options.stop) or None,
            ),
            input_schema=schema if isinstance(schema, dict) else None,
            output_schema=None if output_schema is None else dict(output_schema),
            error=entry.error,
            warnings=list(entry.warnings),
            partials=dict(entry.partials),
            labels={
                name: [LabelShare(version=share.version, percent=share.percent) for share in shares]
                for name, shares in sorted(labels.shares.items())
            },
            history=[
                HistoryItem(version=r.version, made_at=r.made_at, size_bytes=r.size_bytes, error=r.error)
                for r in history[:HISTORY_LIMIT]
            ],
        )


def _summary(entry: PromptEntry) -> dict[str, Any]:
    return {
        "path": entry.path,
        "version": entry.version,
        "size_bytes": entry.size_bytes,
        "last_modified": entry.last_modified,
        "description": entry.description,
        "model": entry.model,
        "required_variables": list(entry.required_variables),
        "state": "broken" if entry.state == "broken" else "ok",
    }


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
        replace(revision, error=reach.redacted(revision.error, {**entry.sources, **revision.partials}))
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
