"""What callers send and get: the pydantic models of every entrance."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PlainSerializer

from llm_gateway.model_catalogue import ModelSpec
from llm_gateway.models import (
    LABEL_PATTERN,
    MAX_STOP_SEQUENCES,
    TEMPERATURE_RANGE,
    TIMEOUT_RANGE_S,
    TOP_P_RANGE,
    FinishReason,
    Labels,
    ModelOptions,
    OutputFormat,
    PromptEntry,
    Revision,
)

HISTORY_LIMIT = 20
CORRELATION_ID = re.compile(r"^[A-Za-z0-9._:/-]{1,128}$")
IDEMPOTENCY_KEY = r"^[\x21-\x7e]{1,255}$"
_PRINTABLE = r"^\P{C}+$"

Name = Annotated[str, Field(min_length=1, max_length=128, pattern=_PRINTABLE)]
ServiceName = Annotated[str, Field(min_length=1, max_length=64, pattern=_PRINTABLE)]
Usd = Annotated[
    Decimal,
    PlainSerializer(lambda value: to_decimal_text(value), return_type=str, when_used="json"),
    Field(description="US dollars, exact, as a decimal string.", examples=["0.000123"]),
]
Instant = Annotated[datetime, PlainSerializer(lambda value: to_iso(value), return_type=str, when_used="json")]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


class Parameters(_Wire):
    """What shapes the answer; what is left out is the prompt's choice, then the model's."""

    temperature: float | None = Field(
        None, ge=TEMPERATURE_RANGE[0], le=TEMPERATURE_RANGE[1], allow_inf_nan=False
    )
    top_p: float | None = Field(None, ge=TOP_P_RANGE[0], le=TOP_P_RANGE[1], allow_inf_nan=False)
    max_tokens: int | None = Field(None, ge=1, description="At most the model's own maximum.")
    stop: list[Annotated[str, Field(min_length=1, max_length=256)]] | None = Field(
        None, min_length=1, max_length=MAX_STOP_SEQUENCES
    )

    def options(self) -> ModelOptions:
        """The same, inside the gateway."""
        return ModelOptions(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            stop=tuple(self.stop or ()),
        )


class Output(_Wire):
    """What the answer has to be; what is left out is the prompt's choice."""

    format: OutputFormat | None = Field(None, description="`json` if a schema is given.")
    json_schema: dict[str, JsonValue] | None = Field(
        None, alias="schema", description="JSON Schema that the answer has to fit."
    )
    repair: bool | None = Field(
        None, description="True lets the model be asked once more for an answer that does not fit."
    )


class CallRequest(_Wire):
    """CallPrompt: name a stored prompt, give its variables."""

    prompt: str = Field(
        min_length=1,
        max_length=512,
        description="Path of the prompt; the extension may be left out where only one file fits.",
        examples=["support/reply.prompt"],
    )
    version: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,1024}$")] | None = Field(
        None, description="Exactly this version; the current one if left out."
    )
    label: Annotated[str, Field(pattern=LABEL_PATTERN)] | None = Field(
        None,
        description="The version this label points to; not together with `version`.",
        examples=["production"],
    )
    sticky_key: Annotated[str, Field(min_length=1, max_length=256)] | None = Field(
        None,
        description="Whoever the answer is for, by any name: the same key gets the same version of a label "
        "that has a canary. `calling_service` if left out.",
    )
    variables: dict[str, JsonValue] = Field(
        default_factory=dict, description="Values of the prompt's variables."
    )
    provider: Name | None = Field(None, examples=["openai"])
    model: Name | None = Field(None, description="`gpt-4o-mini`, or `openai/gpt-4o-mini`.")
    parameters: Parameters = Field(default_factory=Parameters)
    output: Output = Field(default_factory=Output)
    timeout_s: float | None = Field(
        None,
        ge=TIMEOUT_RANGE_S[0],
        le=TIMEOUT_RANGE_S[1],
        allow_inf_nan=False,
        description="Seconds, 5 to 120.",
    )
    calling_service: ServiceName | None = Field(None, description="Who calls, for the usage statistics.")
    correlation_id: Annotated[str, Field(pattern=CORRELATION_ID.pattern)] | None = Field(
        None, description="The caller's own name for this call; it is in the answer and in the logs."
    )
    idempotency_key: Annotated[str, Field(pattern=IDEMPOTENCY_KEY)] | None = Field(
        None,
        description="The same key with the same request gives the first answer again, at no cost. "
        "Over HTTP also the header Idempotency-Key.",
    )


class PromptVersion(_Wire):
    """Which prompt answered."""

    path: str
    version: str
    label: str | None = Field(description="The label it was called by.")


class Usage(_Wire):
    """Tokens spent; null where the vendor does not say."""

    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    cached_input_tokens: int | None = Field(description="Part of input_tokens.")
    reasoning_tokens: int | None = Field(description="Part of output_tokens.")


class CallResponse(_Wire):
    """The model's answer and what it cost."""

    call_id: str
    correlation_id: str | None = Field(description="The one of the request.")
    text: str
    parsed: JsonValue = Field(
        description="The answer as a JSON value, where JSON was asked for; it fits the output schema."
    )
    finish_reason: FinishReason
    prompt: PromptVersion
    provider: str
    model: str
    served_model: str = Field(description="The model as the vendor names it, often dated.")
    usage: Usage
    cost_usd: Usd | None = Field(description="Null if the model has no price in the catalogue.")
    latency_ms: int
    attempts: int
    test_mode: bool = Field(description="True if a fake provider answered: nothing was paid.")
    replayed: bool = Field(
        False, description="True if this is an earlier answer again: nothing was paid for it now."
    )


class PromptSummary(_Wire):
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


class PromptList(_Wire):
    """ListPrompts: one page, in path order."""

    prompts: list[PromptSummary]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null at the end.")


class LabelShare(_Wire):
    """A version and its part of a label's calls."""

    version: str
    percent: int = Field(ge=1, le=100)


class HistoryItem(_Wire):
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


class ModelPrices(_Wire):
    """Rates in USD per 1,000,000 tokens."""

    input: Usd
    output: Usd
    cached_input: Usd | None
    long_above: int | None = Field(
        description="Input tokens above which the whole call costs the long rates."
    )
    long_input: Usd | None
    long_output: Usd | None
    long_cached_input: Usd | None
    date: str | None = Field(description="Day on which they were read from the vendor's list.")


class ModelInfo(_Wire):
    """One model that can be called."""

    id: str = Field(description="`provider/name`, as a prompt or a request names it.")
    provider: str
    name: str
    context_tokens: int = Field(description="Input and output together.")
    max_output_tokens: int
    sampling: bool = Field(description="Takes temperature, top_p and stop.")
    json_mode: bool = Field(description="Can be told to answer with JSON.")
    json_schema: bool = Field(description="Can be told the schema of that JSON.")
    fallbacks: list[str] = Field(description="Models that answer in its place if it fails.")
    price: ModelPrices | None = Field(description="Null: its calls are counted as unpriced.")

    @classmethod
    def of(cls, spec: ModelSpec) -> ModelInfo:
        """What callers may know of a row of the catalogue."""
        price = None if spec.price is None else asdict(spec.price)
        if price is not None:
            price["date"] = price["date"] and price["date"].isoformat()
        return cls(
            id=f"{spec.provider}/{spec.name}",
            provider=spec.provider,
            name=spec.name,
            context_tokens=spec.context_tokens,
            max_output_tokens=spec.max_output_tokens,
            sampling=spec.sampling,
            json_mode=spec.json_mode,
            json_schema=spec.json_schema,
            fallbacks=list(spec.fallbacks),
            price=None if price is None else ModelPrices(**price),
        )


class ModelList(_Wire):
    """ListModels: everything that can be called."""

    models: list[ModelInfo]
    default_model: str = Field(description="Called when neither request nor prompt names a model.")


class UsageTotals(_Wire):
    """Sums over calls."""

    requests: int
    errors: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_input_tokens: int
    reasoning_tokens: int
    cost_usd: Usd = Field(description="Cost of the priced calls.")
    unpriced: int = Field(description="Answered calls whose cost is unknown and therefore not in cost_usd.")
    mean_latency_ms: float | None


class UsageBucket(_Wire):
    """Totals of one bucket and group."""

    start: Instant
    group: dict[str, str | bool | None]
    totals: UsageTotals


class UsageStats(_Wire):
    """GetUsageStats: totals by bucket and group."""

    start: Instant = Field(description="The range answered: whole hours around the one asked for.")
    end: Instant
    bucket: Literal["hour", "day", "total"]
    group_by: list[str]
    buckets: list[UsageBucket]
    totals: UsageTotals


class Health(_Wire):
    """The process runs."""

    status: Literal["ok"]
    version: str


class Readiness(_Wire):
    """Whether calls can be served, and what is missing."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, Literal["ok", "failed"]]


class ErrorDetail(_Wire):
    """What went wrong; a superset of OpenAI's error object."""

    message: str
    type: str
    code: str = Field(description="Stable; see docs/api.md.")
    param: str | None = Field(description="The request field at fault, dotted.")
    request_id: str | None
    retryable: bool
    details: dict[str, JsonValue]


class ErrorBody(_Wire):
    """Body of every answer that is not 2xx."""

    error: ErrorDetail


def to_decimal_text(value: Decimal) -> str:
    """`0.000123`: never an exponent, no trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def to_iso(moment: datetime) -> str:
    """`2026-11-23T10:00:00Z`, with fractions only if there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


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
