"""ListPrompts and GetPromptMetadata: what callers get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, JsonValue

from llm_gateway.prompts.catalogue.entries import PromptEntry, Revision
from llm_gateway.prompts.catalogue.shares import Labels
from llm_gateway.wire.fields import Instant, Parameters, Wire

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
