"""The gateway's nouns: plain frozen values that every layer may hold; no I/O, no wire format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from llm_gateway.json_schema.values import Json

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "other"]
OutputFormat = Literal["text", "json"]

TEMPERATURE_RANGE = (0.0, 2.0)
TOP_P_RANGE = (0.0, 1.0)
TIMEOUT_RANGE_S = (5.0, 120.0)
MAX_STOP_SEQUENCES = 4


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation, as a provider gets it."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Mock:
    """What the fake provider answers instead of its own text.

    Attributes:
        answer: The answer, None for the usual one.
        delay_s: Seconds before each answer or error, None for those of a real one.
        errors: Codes of the provider errors that come before the answer, one for each attempt.
    """

    answer: str | None = None
    delay_s: float | None = None
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What shapes an answer; None leaves the choice to the model.

    Attributes:
        temperature: 0.0 to 2.0.
        top_p: 0.0 to 1.0.
        max_tokens: Upper bound of output tokens, reasoning included, at least 1.
        stop: Up to four sequences at which the model stops.
        output_format: `json` asks for one JSON value.
        output_schema: JSON Schema of that value.
        mock: What a fake provider does; the others do not look at it.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    output_format: OutputFormat | None = None
    output_schema: Mapping[str, Json] | None = None
    mock: Mock | None = None

    def of_attempt(self, number: int) -> ModelOptions:
        """The options of the attempt of this number, from 1: each has its own error of the mock."""
        if self.mock is None:
            return self
        return replace(self, mock=replace(self.mock, errors=self.mock.errors[number - 1 : number]))

    def over(self, defaults: ModelOptions) -> ModelOptions:
        """These options, with `defaults` where they are silent."""
        return ModelOptions(
            temperature=defaults.temperature if self.temperature is None else self.temperature,
            top_p=defaults.top_p if self.top_p is None else self.top_p,
            max_tokens=defaults.max_tokens if self.max_tokens is None else self.max_tokens,
            stop=self.stop or defaults.stop,
            output_format=self.output_format or defaults.output_format,
            output_schema=defaults.output_schema if self.output_schema is None else self.output_schema,
            mock=self.mock or defaults.mock,
        )


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Token counts of one completion as the vendor reports them; None where it is silent.

    Attributes:
        input_tokens: All input tokens, cached ones included.
        output_tokens: All output tokens, reasoning ones included.
        cached_input_tokens: The part of `input_tokens` served from the vendor's cache.
        reasoning_tokens: The part of `output_tokens` spent on reasoning.
        cache_write_tokens: The part of `input_tokens` that the vendor put into its cache.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None

    @property
    def total_tokens(self) -> int | None:
        """Input plus output, or None if either is unknown."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens

    def __add__(self, other: TokenUsage) -> TokenUsage:
        """Count by count; a sum with something unknown is unknown."""
        return TokenUsage(
            input_tokens=_sum(self.input_tokens, other.input_tokens),
            output_tokens=_sum(self.output_tokens, other.output_tokens),
            cached_input_tokens=_sum(self.cached_input_tokens, other.cached_input_tokens),
            reasoning_tokens=_sum(self.reasoning_tokens, other.reasoning_tokens),
            cache_write_tokens=_sum(self.cache_write_tokens, other.cache_write_tokens),
        )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's answer.

    Attributes:
        text: The answer.
        finish_reason: Why the model stopped.
        usage: Tokens spent.
        served_model: The model the vendor says it used, often a dated name.
    """

    text: str
    finish_reason: FinishReason
    usage: TokenUsage
    served_model: str
