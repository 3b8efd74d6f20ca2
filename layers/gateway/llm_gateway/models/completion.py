"""What a model answers, and the tokens it took.

Plain values; prices are in usage/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "other"]


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
