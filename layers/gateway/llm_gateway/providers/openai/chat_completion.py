"""Reads the body of a chat completion; it may be anything, whatever the vendor's documents promise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from llm_gateway.json_schema.value_bounds import TooManyValues, check_text
from llm_gateway.models.completion import Completion, FinishReason, TokenUsage
from llm_gateway.models.errors import (
    AnswerTruncated,
    ContentFiltered,
    InvalidProviderResponse,
    ModelRefused,
    ProviderAuthFailed,
    ProviderError,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    ResponseNoChoices,
    ResponseNoContent,
    ResponseNotJson,
)
from llm_gateway.validation import whole_characters

MESSAGES: Mapping[type[ProviderError], str] = {
    ProviderTimeout: "The model's vendor did not answer in time.",
    ProviderUnavailable: "The model's vendor cannot be reached or is overloaded; try again.",
    ProviderRateLimited: "The model's vendor limits the gateway's rate; try again later.",
    ProviderQuotaExhausted: "The gateway's account at the vendor is out of credit; tell its operators.",
    ProviderAuthFailed: "The model's vendor refuses the gateway's key; tell its operators.",
    ProviderRejected: "The model's vendor refuses this request; see details.vendor_code.",
    ContentFiltered: "The vendor's content filter stopped this call; change the prompt's variables.",
    ModelRefused: "The model declines to answer; change the prompt's variables.",
    AnswerTruncated: "The answer ran into its token limit; allow more with 'parameters.max_tokens'.",
    InvalidProviderResponse: "The vendor's answer is not what its API promises; try again.",
    ResponseNotJson: "The vendor's answer is not JSON, or was cut off; try again.",
    ResponseNoChoices: "The vendor's answer holds no choice; try again.",
    ResponseNoContent: "The vendor's answer holds no text; try again.",
}
_FINISH_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


def read_completion(body: bytes) -> Completion:
    """The answer in our terms.

    Raises:
        ProviderError: There is no usable answer; with the tokens that were billed for it all the same.
    """
    answer = _decoded(body)
    if not isinstance(answer, dict):
        raise _of_no_use(InvalidProviderResponse, {})
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _of_no_use(ResponseNoChoices, answer)
    reason = _FINISH_REASONS.get(str(choices[0].get("finish_reason")), "other")
    return Completion(
        text=whole_characters(_text(_mapping(choices[0].get("message")), reason, answer)),
        finish_reason=reason,
        usage=_usage(answer),
        served_model=whole_characters(str(answer.get("model") or "")),
    )


def _decoded(body: bytes) -> object:
    try:
        check_text(body)
        return from_json(body)
    except TooManyValues as error:
        raise _of_no_use(InvalidProviderResponse, {}) from error
    except ValueError:
        pass
    try:  # half characters (lone surrogates) are well-formed JSON, only not to the faster reader
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _of_no_use(ResponseNotJson, {}) from error


def _text(message: Mapping[str, Any], reason: FinishReason, answer: Mapping[str, Any]) -> str:
    text = message.get("content")
    if message.get("refusal"):
        raise _of_no_use(ModelRefused, answer)
    if not text and reason == "content_filter":
        raise _of_no_use(ContentFiltered, answer)
    if not text and reason == "length":  # a reasoning model that thought until its tokens were gone
        raise _of_no_use(AnswerTruncated, answer)
    if not isinstance(text, str):
        raise _of_no_use(ResponseNoContent, answer)
    return text


def _of_no_use(kind: type[ProviderError], answer: Mapping[str, Any]) -> ProviderError:
    """An answer that is of no use was generated all the same, and is paid for."""
    error = kind(MESSAGES[kind])
    error.usage = _usage(answer) if answer.get("usage") else None
    return error


def _usage(answer: Mapping[str, Any]) -> TokenUsage:
    """Token counts, where the vendor gives whole numbers that fit together."""
    usage = _mapping(answer.get("usage"))
    read = _mapping(usage.get("prompt_tokens_details"))
    total_input = _whole(usage.get("prompt_tokens"))
    cached = _at_most(total_input or 0, read.get("cached_tokens"))
    return TokenUsage(
        input_tokens=total_input,
        output_tokens=_whole(usage.get("completion_tokens")),
        cached_input_tokens=cached,
        reasoning_tokens=_whole(_mapping(usage.get("completion_tokens_details")).get("reasoning_tokens")),
        cache_write_tokens=_at_most((total_input or 0) - (cached or 0), read.get("cache_write_tokens")),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _at_most(limit: int, value: object) -> int | None:
    number = _whole(value)
    return None if number is None or number > limit else number


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
