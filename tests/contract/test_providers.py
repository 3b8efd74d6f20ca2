"""What every provider promises, and how OpenAI's is mapped; over real HTTP to a loopback server."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import openai
import pytest

from llm_gateway import errors
from llm_gateway.models import errors as provider_errors
from llm_gateway.models.catalogue import Endpoint, ModelCatalogue, ModelSpec
from llm_gateway.models.completion import Completion, TokenUsage
from llm_gateway.models.errors import ProviderError, ProviderRateLimited, ProviderUnavailable
from llm_gateway.models.messages import Message
from llm_gateway.models.options import Mock, ModelOptions
from llm_gateway.models.provider import Provider
from llm_gateway.prompts.prompt import parse_prompt
from llm_gateway.providers.fake.provider import FakeProvider
from llm_gateway.providers.openai import adapter as openai_adapter
from llm_gateway.providers.openai.adapter import OpenAIProvider
from tests import upstream as loopback
from tests.fakes import NOON, ScriptedProvider, completion
from tests.upstream import Reply, Upstream, chat_completion, failure

MESSAGES = (Message("system", "Be brief."), Message("user", "Hello?"))
MODEL = ModelCatalogue.packaged().find("openai", "gpt-4o-mini")
REASONING = ModelCatalogue.packaged().find("openai", "o3-mini")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with loopback.running() as server:
        yield server


def openai_provider(upstream: Upstream, now: datetime = NOON) -> OpenAIProvider:
    async def key() -> str:
        return "sk-test"

    return OpenAIProvider(key, lambda: now, Endpoint(upstream.url))


def ask(
    provider: Provider,
    model: ModelSpec = MODEL,
    options: ModelOptions | None = None,
    timeout_s: float = 5,
    times: int = 1,
) -> Completion:
    async def asked() -> Completion:
        try:
            for _ in range(times):
                answer = await provider.complete(model, MESSAGES, options or ModelOptions(), timeout_s)
            return answer
        finally:
            if isinstance(provider, OpenAIProvider):
                await provider.close()

    return asyncio.run(asked())


@pytest.fixture(params=["openai", "fake", "scripted"])
def provider(request: pytest.FixtureRequest, upstream: Upstream) -> Provider:
    made: dict[str, Callable[[], Provider]] = {
        "openai": lambda: openai_provider(upstream),
        "fake": FakeProvider,
        "scripted": lambda: ScriptedProvider(completion(), completion()),
    }
    return made[request.param]()


def test_an_answer_has_text_a_reason_and_counted_tokens(provider: Provider) -> None:
    answer = ask(provider)
    assert answer.text
    assert answer.finish_reason == "stop"
    assert answer.usage.input_tokens
    assert answer.usage.output_tokens
    assert (answer.usage.cached_input_tokens or 0) <= answer.usage.input_tokens
    assert answer.served_model.startswith("gpt-4o-mini")


def test_the_fake_answers_the_same_every_time_and_tells_prompts_apart() -> None:
    first, again = ask(FakeProvider()), ask(FakeProvider())
    other = asyncio.run(FakeProvider().complete(MODEL, [Message("user", "Else")], ModelOptions(), 5))
    assert first == again
    assert first.text != other.text


def test_the_fake_keeps_to_max_tokens_and_says_so() -> None:
    answer = ask(FakeProvider(), options=ModelOptions(max_tokens=3))
    assert (answer.finish_reason, answer.usage.output_tokens) == ("length", 3)


def test_the_request_is_what_the_vendor_documents(upstream: Upstream) -> None:
    options = ModelOptions(temperature=0.0, top_p=0.5, max_tokens=9, stop=("END",), output_format="json")
    ask(openai_provider(upstream), options=options)
    assert upstream.requests == [
        {
            "model": "gpt-4o-mini",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello?"},
            ],
            "temperature": 0.0,
            "top_p": 0.5,
            "max_tokens": 9,
            "stop": ["END"],
            "response_format": {"type": "json_object"},
        }
    ]
    assert upstream.keys == ["Bearer sk-test"]


def test_what_is_not_asked_for_is_not_sent(upstream: Upstream) -> None:
    ask(openai_provider(upstream))
    assert set(upstream.requests[0]) == {"model", "messages"}


def test_a_reasoning_model_gets_its_own_name_for_the_token_limit(upstream: Upstream) -> None:
    ask(openai_provider(upstream), REASONING, ModelOptions(max_tokens=9))
    assert upstream.requests[0]["max_completion_tokens"] == 9
    assert "max_tokens" not in upstream.requests[0]


def test_cached_and_reasoning_tokens_are_read(upstream: Upstream) -> None:
    assert ask(openai_provider(upstream)).usage == TokenUsage(1000, 200, 400, 50)


def test_tokens_written_to_the_vendors_cache_are_read(upstream: Upstream) -> None:
    read = {"cached_tokens": 400, "cache_write_tokens": 600}
    usage = {"prompt_tokens": 1000, "completion_tokens": 200, "prompt_tokens_details": read}
    upstream.answers(Reply(body=chat_completion(usage=usage)))
    assert ask(openai_provider(upstream)).usage == TokenUsage(1000, 200, 400, None, 600)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, TokenUsage()),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, TokenUsage(5, 2, None, None)),
        ({"prompt_tokens": "many", "completion_tokens": -1, "total_tokens": 0}, TokenUsage()),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "total_tokens": 7,
                "prompt_tokens_details": {"cached_tokens": 6},
            },
            TokenUsage(5, 2, None, None),
        ),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 3},
            },
            TokenUsage(5, 2, 3, None),
        ),
    ],
)
def test_token_counts_that_are_missing_or_absurd_are_unknown(
    upstream: Upstream, usage: object, expected: TokenUsage
) -> None:
    upstream.answers(Reply(body=chat_completion(usage=usage)))
    assert ask(openai_provider(upstream)).usage == expected


FAILURES: list[tuple[Reply, type[ProviderError]]] = [
    (failure(400, "context_length_exceeded"), provider_errors.ProviderRejected),
    (failure(400, "content_policy_violation"), provider_errors.ContentFiltered),
    (failure(400, "content_filter"), provider_errors.ContentFiltered),
    (failure(401, "invalid_api_key"), provider_errors.ProviderAuthFailed),
    (failure(403), provider_errors.ProviderAuthFailed),
    (failure(404, "model_not_found"), provider_errors.ProviderRejected),
    (failure(408), provider_errors.ProviderUnavailable),
    (failure(409), provider_errors.ProviderUnavailable),
    (failure(413), provider_errors.ProviderRejected),
    (failure(422), provider_errors.ProviderRejected),
    (failure(429, "rate_limit_exceeded"), provider_errors.ProviderRateLimited),
    (failure(429, "insufficient_quota"), provider_errors.ProviderQuotaExhausted),
    (failure(500), provider_errors.ProviderUnavailable),
    (failure(503), provider_errors.ProviderUnavailable),
    (failure(529), provider_errors.ProviderUnavailable),
    (Reply(body=b"<html>SECRET VENDOR TEXT"), provider_errors.ResponseNotJson),
    (Reply(body=b"SECRET", headers={"content-type": "text/html"}), provider_errors.ResponseNotJson),
    (Reply(body=b'{"id": "chatcmpl-1", "choi'), provider_errors.ResponseNotJson),
    (Reply(body=[]), provider_errors.InvalidProviderResponse),
    (Reply(body={}), provider_errors.ResponseNoChoices),
    (Reply(body=chat_completion(choices=[])), provider_errors.ResponseNoChoices),
    (Reply(body=chat_completion(choices=[{}])), provider_errors.ResponseNoContent),
    (Reply(body=chat_completion(None)), provider_errors.ResponseNoContent),
    (
        Reply(body=chat_completion(choices=[{"message": {"refusal": "No."}, "finish_reason": "stop"}])),
        provider_errors.ModelRefused,
    ),
    (
        Reply(body=chat_completion(choices=[{"message": {"content": ""}, "finish_reason": "length"}])),
        provider_errors.AnswerTruncated,
    ),
    (
        Reply(body=chat_completion(choices=[{"message": {}, "finish_reason": "content_filter"}])),
        provider_errors.ContentFiltered,
    ),
]


@pytest.mark.parametrize(("reply", "expected"), FAILURES)
def test_every_failure_has_its_own_error_and_quotes_nothing(
    upstream: Upstream, reply: Reply, expected: type[ProviderError]
) -> None:
    upstream.answers(reply)
    with pytest.raises(ProviderError) as caught:
        ask(openai_provider(upstream))
    assert type(caught.value) is expected
    assert "SECRET" not in repr(caught.value.to_wire("r"))
    assert caught.value.status != 401
    assert len(upstream.requests) == 1, "the SDK must not retry by itself"


def test_the_vendors_code_is_in_the_details(upstream: Upstream) -> None:
    upstream.answers(failure(400, "context_length_exceeded"))
    with pytest.raises(ProviderError) as caught:
        ask(openai_provider(upstream))
    assert caught.value.details == {"vendor_code": "context_length_exceeded", "vendor_status": 400}


def test_a_vendor_code_that_is_no_identifier_is_left_out(upstream: Upstream) -> None:
    upstream.answers(failure(400, "you said: SECRET"))
    with pytest.raises(ProviderError) as caught:
        ask(openai_provider(upstream))
    assert caught.value.details == {"vendor_status": 400}


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(
    upstream: Upstream, header: str, seconds: float | None
) -> None:
    upstream.answers(failure(429, retry_after=header))
    with pytest.raises(ProviderError) as caught:
        ask(openai_provider(upstream, datetime(2026, 11, 23, 12, 0, tzinfo=UTC)))
    assert caught.value.retry_after_s == seconds


def test_a_vendor_that_is_not_there_is_unavailable(upstream: Upstream) -> None:
    async def key() -> str:
        return "sk-test"

    with pytest.raises(provider_errors.ProviderUnavailable):
        ask(OpenAIProvider(key, lambda: NOON, Endpoint("http://127.0.0.1:9/v1")))


def test_a_silent_vendor_is_given_up_in_time_and_hung_up_on(upstream: Upstream) -> None:
    upstream.answers(Reply(body=chat_completion(), delay_s=5))
    began = time.monotonic()
    with pytest.raises(provider_errors.ProviderTimeout):
        ask(openai_provider(upstream), timeout_s=0.3)
    assert upstream.disconnected.wait(2)
    assert time.monotonic() - began < 3


def test_the_key_is_asked_for_again_with_every_call(upstream: Upstream) -> None:
    keys = iter(["sk-old", "sk-new"])

    async def key() -> str:
        return next(keys)

    provider = OpenAIProvider(key, lambda: NOON, Endpoint(upstream.url))
    ask(provider, times=2)
    assert upstream.keys == ["Bearer sk-old", "Bearer sk-new"]


def test_an_unreadable_key_is_the_gateways_own_problem(upstream: Upstream) -> None:
    async def key() -> str:
        raise errors.ConfigurationError("The provider's key cannot be read.")

    with pytest.raises(errors.ConfigurationError):
        ask(OpenAIProvider(key, lambda: NOON, Endpoint(upstream.url)))
    assert upstream.requests == []


# Raised only by parts of the SDK that the gateway does not use.
_ELSEWHERE = {
    "LengthFinishReasonError", "InvalidWebhookSignatureError", "SubjectTokenProviderError",
    "WebSocketConnectionClosedError", "WebSocketQueueFullError", "OAuthError", "APIError",
}  # fmt: skip


def test_no_exception_of_the_sdk_is_forgotten() -> None:
    known = {cls.__name__ for cls in openai_adapter._BY_TYPE} | {"APIStatusError"} | _ELSEWHERE
    exceptions = {
        name
        for name, cls in inspect.getmembers(openai, inspect.isclass)
        if issubclass(cls, openai.OpenAIError) and not name.startswith("_")
    }
    assert exceptions - known == set(), "map the new exception in providers/openai/adapter.py"


def test_a_mock_gives_its_errors_one_for_each_attempt_and_then_its_answer() -> None:
    options = ModelOptions(mock=Mock("mocked", 0.0, ("provider_rate_limited", "provider_unavailable")))
    messages = [Message("user", "Hi")]
    for number, error in enumerate((ProviderRateLimited, ProviderUnavailable), start=1):
        with pytest.raises(error):
            asyncio.run(FakeProvider().complete(MODEL, messages, options.of_attempt(number), 5))
    answer = asyncio.run(FakeProvider().complete(MODEL, messages, options.of_attempt(3), 5))
    assert answer.text == "mocked"
    assert answer.usage.output_tokens


@pytest.mark.parametrize("code", sorted(ProviderError.kinds()))
def test_every_error_that_a_mock_may_name_can_be_raised(code: str) -> None:
    front = f"---\ngateway.mock: {{errors: [{code}]}}\n---\nHello"
    mock = parse_prompt("a.md", "v1", front.encode()).front.mock
    with pytest.raises(ProviderError) as caught:
        asyncio.run(FakeProvider().complete(MODEL, [], ModelOptions(mock=mock), 5))
    assert caught.value.code == code
