"""OpenAI's Chat Completions, and every service that speaks the same."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion import Choice

from llm_gateway.errors import (
    ContentFiltered,
    InvalidProviderResponse,
    ProviderAuthFailed,
    ProviderError,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from llm_gateway.model_catalogue import ModelSpec
from llm_gateway.models import Completion, FinishReason, Json, Message, ModelOptions, TokenUsage

if TYPE_CHECKING:
    from datetime import datetime

_CODE = re.compile(r"[a-z0-9_.-]{1,64}")
_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}

# The most specific class wins. `code` of the vendor's error object is looked up first.
_BY_CODE: dict[str, type[ProviderError]] = {
    "insufficient_quota": ProviderQuotaExhausted,
    "content_filter": ContentFiltered,
    "content_policy_violation": ContentFiltered,
}
_BY_TYPE: dict[type[Exception], type[ProviderError]] = {
    openai.APITimeoutError: ProviderTimeout,
    openai.APIConnectionError: ProviderUnavailable,
    openai.APIResponseValidationError: InvalidProviderResponse,
    openai.RateLimitError: ProviderRateLimited,
    openai.AuthenticationError: ProviderAuthFailed,
    openai.PermissionDeniedError: ProviderAuthFailed,
    openai.ConflictError: ProviderUnavailable,
    openai.InternalServerError: ProviderUnavailable,
    openai.BadRequestError: ProviderRejected,
    openai.NotFoundError: ProviderRejected,
    openai.UnprocessableEntityError: ProviderRejected,
    openai.ContentFilterFinishReasonError: ContentFiltered,
    openai.OpenAIError: InvalidProviderResponse,
}
_MESSAGES: dict[type[ProviderError], str] = {
    ProviderTimeout: "The model's vendor did not answer in time.",
    ProviderUnavailable: "The model's vendor cannot be reached or is overloaded; try again.",
    ProviderRateLimited: "The model's vendor limits the gateway's rate; try again later.",
    ProviderQuotaExhausted: "The gateway's account at the vendor is out of credit; tell its operators.",
    ProviderAuthFailed: "The model's vendor refuses the gateway's key; tell its operators.",
    ProviderRejected: "The model's vendor refuses this request; see details.vendor_code.",
    ContentFiltered: "The vendor's content filter stopped this call; change the prompt's variables.",
    InvalidProviderResponse: "The model's vendor sent an answer that cannot be read; try again.",
}


class OpenAIProvider:
    """Calls Chat Completions through the official SDK, whose own retries are off.

    Args:
        api_key: Gives the key, asked before each call.
        base_url: Another endpoint that speaks the same; None is OpenAI's own.
        now: Aware UTC, to read a Retry-After that is a date.
    """

    def __init__(
        self, api_key: Callable[[], Awaitable[str]], base_url: str | None, now: Callable[[], datetime]
    ) -> None:
        self._client = openai.AsyncOpenAI(api_key=api_key, base_url=base_url, max_retries=0)
        self._now = now

    async def complete(
        self, model: ModelSpec, messages: Sequence[Message], options: ModelOptions, timeout_s: float
    ) -> Completion:
        """See Provider.complete."""
        with self._translated_errors():
            answer = await self._client.chat.completions.create(
                **_arguments(model, messages, options), timeout=timeout_s
            )
        return _completion(answer)

    async def close(self) -> None:
        """Close the connections that are kept for the next call."""
        await self._client.close()

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except openai.OpenAIError as error:
            raise self._translated(error) from error
        except (ValueError, RecursionError) as error:  # the body claims to be JSON and is not
            raise InvalidProviderResponse(_MESSAGES[InvalidProviderResponse]) from error

    def _translated(self, error: openai.OpenAIError) -> ProviderError:
        code = getattr(error, "code", None)
        status = getattr(error, "status_code", None)
        kind = _BY_CODE.get(str(code)) or _kind(error, status)
        details: dict[str, Json] = {}
        if isinstance(code, str) and _CODE.fullmatch(code):
            details["vendor_code"] = code
        if isinstance(status, int):
            details["vendor_status"] = status
        return kind(_MESSAGES[kind], details=details, retry_after_s=self._retry_after_s(error))

    def _retry_after_s(self, error: openai.OpenAIError) -> float | None:
        """Seconds the vendor asks us to wait: a number or an HTTP date (RFC 9110, section 10.2.3)."""
        if not isinstance(error, openai.APIStatusError):
            return None
        value = error.response.headers.get("retry-after", "").strip()
        if value.isdecimal() and len(value) < 10:  # longer than that is no wait but nonsense
            return float(value)
        try:
            return max(0.0, (parsedate_to_datetime(value) - self._now()).total_seconds())
        except (ValueError, TypeError, OverflowError):
            return None


def _kind(error: openai.OpenAIError, status: object) -> type[ProviderError]:
    if status == 408:  # the SDK has no class for it
        return ProviderUnavailable
    if type(error) is openai.APIStatusError:  # any other 4xx
        return ProviderRejected
    return next(_BY_TYPE[cls] for cls in type(error).__mro__ if cls in _BY_TYPE)


def _arguments(model: ModelSpec, messages: Sequence[Message], options: ModelOptions) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "model": model.name,
        "messages": [{"role": m.role, "content": m.content} for m in messages],
        "temperature": options.temperature,
        "top_p": options.top_p,
        model.max_tokens_field: options.max_tokens,
        "stop": list(options.stop) or None,
        "response_format": {"type": "json_object"} if options.output_format == "json" else None,
    }
    return {name: value for name, value in arguments.items() if value is not None}


def _completion(answer: object) -> Completion:
    """The vendor's answer in our terms; it may be anything, whatever the SDK's types promise."""
    if not isinstance(answer, ChatCompletion):
        raise InvalidProviderResponse(_MESSAGES[InvalidProviderResponse])
    # The SDK builds models without checking them, so any part may be absent or of another type.
    choices = cast(Any, answer.choices)
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Choice):
        raise _billed(InvalidProviderResponse, answer)
    choice = choices[0]
    message = cast(Any, choice.message)
    text = getattr(message, "content", None)
    if getattr(message, "refusal", None) or (choice.finish_reason == "content_filter" and not text):
        raise _billed(ContentFiltered, answer)
    if not isinstance(text, str):
        raise _billed(InvalidProviderResponse, answer)
    return Completion(
        text=_utf8(text),
        finish_reason=_FINISH_REASONS.get(str(choice.finish_reason), "other"),
        usage=_usage(answer.usage),
        served_model=_utf8(str(answer.model or "")),
    )


def _billed(kind: type[ProviderError], answer: ChatCompletion) -> ProviderError:
    """An answer that is of no use was generated all the same, and is paid for."""
    error = kind(_MESSAGES[kind])
    error.usage = _usage(answer.usage)
    return error


def _utf8(text: str) -> str:
    """The text without half characters (lone surrogates), which JSON can hold and no answer of ours can."""
    return text.encode("utf-8", "replace").decode()


def _usage(usage: object) -> TokenUsage:
    """Token counts, where the vendor gives whole numbers that fit together."""
    if not isinstance(usage, CompletionUsage):
        return TokenUsage()
    total_input = _whole(usage.prompt_tokens)
    cached = _whole(getattr(usage.prompt_tokens_details, "cached_tokens", None))
    return TokenUsage(
        input_tokens=total_input,
        output_tokens=_whole(usage.completion_tokens),
        cached_input_tokens=None if cached is None or cached > (total_input or 0) else cached,
        reasoning_tokens=_whole(getattr(usage.completion_tokens_details, "reasoning_tokens", None)),
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
