"""What shapes a model's answer, and the ranges within which callers may choose.

Plain values; a provider turns them into its vendor's parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from llm_gateway.json_schema.values import Json

OutputFormat = Literal["text", "json"]


TEMPERATURE_RANGE = (0.0, 2.0)
TOP_P_RANGE = (0.0, 1.0)
TIMEOUT_RANGE_S = (5.0, 120.0)
MAX_STOP_SEQUENCES = 4


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
