"""CallPrompt: what callers send and get."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, JsonValue

from llm_gateway.api.fields import Asked, JsonObject, Metadata, Name, Parameters, ServiceName, Usd, Wire
from llm_gateway.models.completion import FinishReason
from llm_gateway.models.options import TIMEOUT_RANGE_S, OutputFormat
from llm_gateway.prompts.catalogue.shares import LABEL_PATTERN

CORRELATION_ID = re.compile(r"^[A-Za-z0-9._:/-]{1,128}$")
IDEMPOTENCY_KEY = r"^[\x21-\x7e]{1,255}$"


class Output(Asked):
    """What the answer has to be; what is left out is the prompt's choice."""

    format: OutputFormat | None = Field(None, description="`json` if a schema is given.")
    json_schema: JsonObject | None = Field(
        None, alias="schema", description="JSON Schema that the answer has to fit."
    )
    repair: bool | None = Field(
        None, description="True lets the model be asked once more for an answer that does not fit."
    )


class CallRequest(Asked):
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
    variables: JsonObject = Field(default_factory=dict, description="Values of the prompt's variables.")
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
    metadata: Metadata = Field(
        default_factory=dict,
        description="The caller's own words about the call, for its bills: kept on the ledger, in exports "
        "and in events. At most 16, and 256 bytes as JSON.",
        examples=[{"team": "checkout", "tenant": "42"}],
    )
    test_mode: bool = Field(
        False,
        description="True has a fake provider answer, as a deployment in test mode does: nothing is paid.",
    )
    idempotency_key: Annotated[str, Field(pattern=IDEMPOTENCY_KEY)] | None = Field(
        None,
        description="The same key with the same request gives the first answer again, at no cost. "
        "Over HTTP also the header Idempotency-Key.",
    )


class PromptVersion(Wire):
    """Which prompt answered."""

    path: str
    version: str
    label: str | None = Field(description="The label it was called by.")


class Usage(Wire):
    """Tokens spent; null where the vendor does not say."""

    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    cached_input_tokens: int | None = Field(description="Part of input_tokens.")
    reasoning_tokens: int | None = Field(description="Part of output_tokens.")
    cache_write_tokens: int | None = Field(None, description="Part of input_tokens.")


class CallResponse(Wire):
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
