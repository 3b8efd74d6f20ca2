"""Answers as OpenAI's families and its imitators send them: our reading beside the official client's."""

from __future__ import annotations

import asyncio

import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from llm_gateway.models.catalogue import Endpoint, ModelCatalogue
from llm_gateway.models.completion import Completion, TokenUsage
from llm_gateway.models.errors import AnswerTruncated, ContentFiltered, ProviderError
from llm_gateway.models.messages import Message
from llm_gateway.models.options import ModelOptions
from llm_gateway.providers.openai.adapter import OpenAIProvider
from tests import upstream as loopback
from tests.fakes import NOON
from tests.recorded import FAMILIES, recorded
from tests.upstream import Reply

MODEL = ModelCatalogue.packaged().find("openai", "gpt-4o-mini")

# Text, finish reason, tokens (input, output, cached, reasoning), model that served.
ANSWERS: dict[str, tuple[str, str, TokenUsage, str]] = {
    "gpt-3.5-turbo": ("The parcel left on Monday.", "stop", TokenUsage(31, 7), "gpt-3.5-turbo-0125"),
    "gpt-4": ("The parcel left on Monday and", "length", TokenUsage(42, 6, 0, 0), "gpt-4-0613"),
    "gpt-4o": (
        "Es ging am Montag los, sagt der Händler. 📦",
        "stop",
        TokenUsage(2006, 300, 1920, 0),
        "gpt-4o-2024-08-06",
    ),
    "gpt-4.1": ('{"left_on": "Monday"}', "stop", TokenUsage(58, 9, 0, 0), "gpt-4.1-2025-04-14"),
    "o3-mini": ("Monday.", "stop", TokenUsage(29, 74, 0, 64), "o3-mini-2025-01-31"),
    "gpt-5": ("It left on Monday.", "stop", TokenUsage(1311, 1162, 1280, 1152), "gpt-5-2025-08-07"),
    "ollama": ("It left on Monday.", "stop", TokenUsage(33, 6), "llama3.2:3b"),
    "vllm": ("It left on Monday.", "stop", TokenUsage(35, 6), "Qwen/Qwen3-8B"),
    "azure": ("It left on Monday.", "stop", TokenUsage(157, 6, 0, 0), "gpt-4o-2024-11-20"),
}
REFUSALS: dict[str, tuple[type[ProviderError], TokenUsage]] = {
    "azure-filtered": (ContentFiltered, TokenUsage(157, 2, 0, 0)),
    "vllm-thinking": (AnswerTruncated, TokenUsage(35, 64)),
}


def read(family: str) -> Completion:
    """The answer of a server that sends this family's body."""

    async def key() -> str:
        return "sk-test"

    async def asked(url: str) -> Completion:
        provider = OpenAIProvider(key, lambda: NOON, Endpoint(url))
        try:
            return await provider.complete(MODEL, [Message("user", "When?")], ModelOptions(), 5)
        finally:
            await provider.close()

    with loopback.running() as upstream:
        upstream.answers(Reply(body=recorded(family)))
        return asyncio.run(asked(upstream.url))


@pytest.mark.parametrize("family", ANSWERS)
def test_every_familys_answer_is_read_to_the_last_token(family: str) -> None:
    answer = read(family)
    read_as = (answer.text, answer.finish_reason, answer.usage, answer.served_model)
    assert read_as == ANSWERS[family]


@pytest.mark.parametrize("family", REFUSALS)
def test_an_answer_without_text_is_an_error_that_knows_what_it_cost(family: str) -> None:
    kind, usage = REFUSALS[family]
    with pytest.raises(ProviderError) as caught:
        read(family)
    assert type(caught.value) is kind
    assert caught.value.usage == usage


def test_no_recorded_answer_is_forgotten() -> None:
    assert sorted([*ANSWERS, *REFUSALS]) == FAMILIES


def parsed_by_the_official_client(family: str) -> ChatCompletion:
    async def asked(url: str) -> ChatCompletion:
        async with AsyncOpenAI(api_key="sk-test", base_url=url, max_retries=0) as client:
            return await client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "When?"}]
            )

    with loopback.running() as upstream:
        upstream.answers(Reply(body=recorded(family)))
        return asyncio.run(asked(upstream.url))


@pytest.mark.parametrize("family", ANSWERS)
def test_the_official_clients_own_reading_is_the_same(family: str) -> None:
    ours, theirs = read(family), parsed_by_the_official_client(family)
    assert theirs.usage is not None
    assert (ours.text, ours.finish_reason, ours.served_model, ours.usage.total_tokens) == (
        theirs.choices[0].message.content,
        theirs.choices[0].finish_reason,
        theirs.model,
        theirs.usage.total_tokens,
    )
