"""OpenAI's Chat Completions, and every service that speaks the same."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx2
import openai
from openai import Omit

from llm_gateway.deadline import Deadline
from llm_gateway.json_schema.values import Json
from llm_gateway.models.catalogue import Endpoint, ModelSpec
from llm_gateway.models.completion import Completion
from llm_gateway.models.errors import (
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
)
from llm_gateway.models.messages import Message
from llm_gateway.models.options import ModelOptions
from llm_gateway.providers.http_client import BodyNotDecodable, BodyTooLong, http_client
from llm_gateway.providers.openai.chat_completion import MESSAGES, read_completion
from llm_gateway.providers.openai.response_format import response_format
from llm_gateway.workers import INLINE, LIGHT_BYTES, Workers

if TYPE_CHECKING:
    from datetime import datetime

_OWN_URL = "https://api.openai.com/v1"
_VENDORS = "vendors' answers"
_IDENTIFIER = re.compile(r"[A-Za-z0-9_.-]{1,64}")

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
    openai.ContentFilterFinishReasonError: ModelRefused,
    openai.OpenAIError: InvalidProviderResponse,
}

Key = Callable[[], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Account:
    """What OpenAI bills and limits calls by, beside the key.

    Attributes:
        organization: Id of the organization, or None for the key's own.
        project: Id of the project, or None for the key's own.
    """

    organization: str | None = None
    project: str | None = None


class _Client(openai.AsyncOpenAI):
    """The SDK's client without what it reads from the environment.

    It would take address, keys, organization, project and further headers from variables named `OPENAI_…`,
    for whichever vendor it is built, and write what is sent into the log (`OPENAI_LOG`).
    """

    def __init__(self, endpoint: Endpoint, http: httpx2.AsyncClient, account: Account) -> None:
        super().__init__(
            api_key="in the headers of each request",
            admin_api_key="",
            organization=account.organization,
            project=account.project,
            webhook_secret="",
            base_url=endpoint.base_url or _OWN_URL,
            default_query=dict(endpoint.query),
            max_retries=0,
            http_client=http,
        )
        self.organization, self.project = account.organization, account.project
        self._custom_headers = {}
        self._ambient_authorizations = frozenset()
        for name in ("openai", "httpx2"):
            logging.getLogger(name).setLevel(logging.WARNING)


class OpenAIProvider:
    """Calls Chat Completions through the official SDK, whose own retries are off.

    The SDK sends and tells its errors apart; the answer is read here, because building the SDK's model of
    it costs as much again as the whole request.

    Args:
        key: Gives the key, asked before each call.
        now: Aware UTC, to read a Retry-After that is a date.
        endpoint: Where to and how.
        http: A client that several providers share; None makes one.
        account: Whose organization and project the calls belong to; only OpenAI knows these.
        workers: Read answers that are large.
    """

    def __init__(
        self,
        key: Key,
        now: Callable[[], datetime],
        endpoint: Endpoint | None = None,
        http: httpx2.AsyncClient | None = None,
        account: Account | None = None,
        workers: Workers = INLINE,
    ) -> None:
        self._key = key
        self._now = now
        self._workers = workers
        self._endpoint = endpoint or Endpoint()
        self._client = _Client(self._endpoint, http or http_client(), account or Account())

    async def complete(
        self, model: ModelSpec, messages: Sequence[Message], options: ModelOptions, timeout_s: float
    ) -> Completion:
        """See Provider.complete."""
        deadline, headers = Deadline.after(timeout_s), await self._headers()
        with self._translated_errors():
            response = await self._client.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                body=_body(model, messages, options),
                options={"headers": headers, "timeout": timeout_s},
            )
        body = response.content

        def read() -> Completion:
            return read_completion(body)

        first = read if len(body) <= LIGHT_BYTES else None
        return await self._workers.run(read, deadline, owner=_VENDORS, first=first, paid=True)

    async def check_key(self, timeout_s: float) -> None:
        """See CheckableProvider.check_key; a provider without keys has nothing to try."""
        if self._endpoint.auth == "none":
            return
        headers = await self._headers()
        with self._translated_errors():
            await self._client.get(
                "/models", cast_to=httpx2.Response, options={"headers": headers, "timeout": timeout_s}
            )

    async def close(self) -> None:
        """Close the connections that are kept for the next call."""
        await self._client.close()

    async def _headers(self) -> dict[str, str | Omit]:
        match self._endpoint.auth:
            case "bearer":
                return {"Authorization": f"Bearer {await self._key()}"}
            case "api-key":
                return {"Authorization": Omit(), "api-key": await self._key()}
            case "none":
                return {"Authorization": Omit()}

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except openai.OpenAIError as error:
            raise self._translated(error) from error
        except (BodyTooLong, BodyNotDecodable) as error:
            raise InvalidProviderResponse(MESSAGES[InvalidProviderResponse]) from error

    def _translated(self, error: openai.OpenAIError) -> ProviderError:
        code = getattr(error, "code", None)
        status = getattr(error, "status_code", None)
        kind = _BY_CODE.get(str(code)) or _kind(error, status)
        named = {"vendor_code": code, "vendor_request_id": getattr(error, "request_id", None)}
        details: dict[str, Json] = {
            name: value
            for name, value in named.items()
            if isinstance(value, str) and _IDENTIFIER.fullmatch(value)
        }
        if isinstance(status, int):
            details["vendor_status"] = status
        return kind(MESSAGES[kind], details=details, retry_after_s=self._retry_after_s(error))

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
    if isinstance(status, int) and 300 <= status < 400:  # nobody is redirected
        return InvalidProviderResponse
    if isinstance(error.__cause__, (BodyTooLong, BodyNotDecodable)):
        return InvalidProviderResponse
    if status == 408:  # the SDK has no class for it
        return ProviderUnavailable
    if type(error) is openai.APIStatusError:  # any other 4xx
        return ProviderRejected
    return next(_BY_TYPE[cls] for cls in type(error).__mro__ if cls in _BY_TYPE)


def _body(model: ModelSpec, messages: Sequence[Message], options: ModelOptions) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model.name,
        "messages": [{"role": m.role, "content": m.content} for m in messages],
        "temperature": options.temperature,
        "top_p": options.top_p,
        model.max_tokens_field: options.max_tokens,
        "stop": list(options.stop) or None,
        "response_format": response_format(options),
    }
    return {name: value for name, value in body.items() if value is not None}
