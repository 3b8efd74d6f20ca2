"""Providers and models of a deployment's own, by configuration alone."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_gateway.bootstrap.services import Parts
from llm_gateway.bootstrap.settings import Settings
from llm_gateway.errors import ConfigurationError
from llm_gateway.models.catalogue import Endpoint, ModelCatalogue
from llm_gateway.models.overlay import overlaid

PACKAGED = ModelCatalogue.packaged()
OLLAMA = {"base_url": "http://127.0.0.1:11434/v1", "auth": "none"}
LLAMA = {"provider": "ollama", "name": "llama3.2", "context_tokens": 8192, "max_output_tokens": 2048}


def with_overlay(**document: Any) -> ModelCatalogue:
    return overlaid(PACKAGED, json.dumps(document))


def test_an_empty_overlay_changes_nothing() -> None:
    assert list(with_overlay()) == list(PACKAGED)


def test_several_providers_are_added_each_with_its_address_and_manner() -> None:
    azure = {
        "base_url": "https://x.openai.azure.com/openai/deployments/d",
        "auth": "api-key",
        "query": {"api-version": "2024-10-21"},
    }
    row = {"provider": "azure", "name": "our-4o", "like": "openai/gpt-4o"}
    made = with_overlay(providers={"ollama": OLLAMA, "azure": azure}, models=[LLAMA, row])
    assert made.providers == ["azure", "ollama", "openai"]
    assert made.endpoints["ollama"] == Endpoint("http://127.0.0.1:11434/v1", "none")
    assert made.endpoints["azure"].query == {"api-version": "2024-10-21"}
    llama, ours, known = (
        made.find("ollama", "llama3.2"),
        made.find("azure", "our-4o"),
        PACKAGED.find("openai", "gpt-4o"),
    )
    assert (llama.max_output_tokens, llama.max_tokens_field, llama.price) == (2048, "max_tokens", None)
    assert (ours.name, ours.max_output_tokens, ours.price) == (
        "our-4o",
        known.max_output_tokens,
        known.price,
    )


def test_a_row_of_a_known_model_changes_only_what_it_names() -> None:
    price = {"input": "1.5", "output": "6"}
    row = {"provider": "openai", "name": "gpt-4o", "price": price, "fallbacks": ["openai/gpt-4.1"]}
    made, known = with_overlay(models=[row]).find("openai", "gpt-4o"), PACKAGED.find("openai", "gpt-4o")
    assert made.price is not None
    assert (made.price.input, made.price.cached_input) == (Decimal("1.5"), None)
    assert made.fallbacks == ("openai/gpt-4.1",)
    assert made.context_tokens == known.context_tokens


def test_a_price_can_be_taken_away() -> None:
    row = {"provider": "openai", "name": "gpt-4o", "price": None}
    assert with_overlay(models=[row]).find("openai", "gpt-4o").price is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "not valid JSON"),
        ("[]", "one JSON object"),
        ('{"model": []}', "no field 'model'"),
        ('{"providers": {"Bad Name": {"base_url": "http://x"}}}', "providers.Bad Name"),
        ('{"providers": {"x": {"base_url": "ftp://x"}}}', "providers.x.base_url"),
        ('{"providers": {"x": {"base_url": "http://x", "auth": "basic"}}}', "providers.x.auth"),
        (json.dumps({"models": [LLAMA]}), "'ollama' of the model 'llama3.2' is not among 'providers'"),
        ('{"models": [{"provider": "openai", "name": "new"}]}', "'new' needs 'context_tokens'"),
        ('{"models": [{"provider": "openai", "name": "n", "like": "openai/no"}]}', "like 'openai/no'"),
        ('{"models": [{"provider": "openai", "name": "gpt-4o", "fallbacks": ["a/b"]}]}', "fallback 'a/b'"),
        ('{"models": [{"provider": "openai", "name": "o1", "price": {"input": 1}}]}', "price.output"),
        ('{"models": [{"provider": "openai", "name": "o1", "context_tokens": 0}]}', "context_tokens"),
    ],
)
def test_a_mistake_is_told_with_the_setting_and_the_field(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        overlaid(PACKAGED, text)
    assert caught.value.message.startswith("LLM_GATEWAY_MODELS: ")
    assert told in caught.value.message


def negotiated(price: str) -> str:
    row = {"provider": "openai", "name": "gpt-4o", "price": {"input": price, "output": "9"}}
    return json.dumps({"models": [row]})


def input_price(**settings: str) -> Decimal:
    price = Parts(Settings(**settings), "test").model_catalogue.find("openai", "gpt-4o").price  # type: ignore[arg-type]
    assert price is not None
    return price.input


def test_negotiated_rates_come_from_a_file_and_the_variable_is_laid_over_it(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text(negotiated("2.2"))
    assert input_price(models_file=str(file)) == Decimal("2.2")
    assert input_price(models_file=str(file), models=negotiated("2.1")) == Decimal("2.1")


def test_a_rate_of_the_variable_is_laid_over_a_provider_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"providers": {"ollama": OLLAMA}, "models": [LLAMA]}))
    row = {"provider": "ollama", "name": "llama3.2", "price": {"input": "1", "output": "2"}}
    parts = Parts(Settings(models_file=str(file), models=json.dumps({"models": [row]})), "test")
    made = parts.model_catalogue.find("ollama", "llama3.2")
    assert made.price is not None
    assert (made.price.output, made.max_output_tokens) == (Decimal(2), 2048)
    assert parts.model_catalogue.endpoints["ollama"].auth == "none"


@pytest.mark.parametrize(
    ("content", "told"), [(None, "cannot be read (FileNotFoundError)"), ("{", "not valid JSON")]
)
def test_a_file_that_is_of_no_use_is_told_with_its_setting(
    tmp_path: Path, content: str | None, told: str
) -> None:
    file = tmp_path / "models.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        input_price(models_file=str(file))
    assert caught.value.message.startswith("LLM_GATEWAY_MODELS_FILE: ")
    assert told in caught.value.message
