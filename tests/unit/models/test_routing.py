"""Which model a call is for, and which may answer in its place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_gateway.errors import InvalidParameter, UnknownModel, UnknownProvider
from llm_gateway.models.catalogue import ModelCatalogue, ModelSpec
from llm_gateway.models.options import ModelOptions
from llm_gateway.models.routing import Router

CATALOGUE = ModelCatalogue(
    [
        *ModelCatalogue.packaged(),
        ModelSpec("local", "meta/llama", 8_000, 1_000, "max_tokens"),
    ]
)


def router() -> Router:
    return Router(CATALOGUE, "openai/gpt-4o-mini")


@pytest.mark.parametrize(
    ("provider", "model", "authored", "chosen"),
    [
        (None, None, None, "openai/gpt-4o-mini"),
        (None, None, "openai/gpt-4.1", "openai/gpt-4.1"),
        ("openai", None, "openai/gpt-4.1", "openai/gpt-4.1"),
        ("openai", None, "local/meta/llama", "openai/gpt-4o-mini"),
        (None, "gpt-4o", "openai/gpt-4.1", "openai/gpt-4o"),
        (None, "openai/gpt-4o", "local/meta/llama", "openai/gpt-4o"),
        ("openai", "gpt-4o", "local/meta/llama", "openai/gpt-4o"),
        (None, "local/meta/llama", None, "local/meta/llama"),
        ("local", "meta/llama", None, "local/meta/llama"),
        (None, "gpt-4o-2024-08-06", None, "openai/gpt-4o-2024-08-06"),
    ],
)
def test_the_request_chooses_before_the_author_and_the_author_before_the_default(
    provider: str | None, model: str | None, authored: str | None, chosen: str
) -> None:
    spec = router().choose(provider, model, authored)
    assert f"{spec.provider}/{spec.name}" == chosen


@pytest.mark.parametrize(
    ("provider", "model", "error", "hint"),
    [
        ("opanai", None, UnknownProvider, "openai"),
        ("opanai", "gpt-4o", UnknownProvider, "openai"),
        (None, "gpt-4o-mni", UnknownModel, "gpt-4o-mini"),
        (None, "openai/gpt-4p", UnknownModel, "gpt-4o"),
        ("local", None, InvalidParameter, "local"),
    ],
)
def test_an_unknown_choice_is_answered_with_the_nearest_names(
    provider: str | None, model: str | None, error: type[Exception], hint: str
) -> None:
    with pytest.raises(error, match=hint):
        router().choose(provider, model, None)


def test_a_fallback_that_is_unknown_or_does_not_take_the_request_is_left_out() -> None:
    names = ["openai/gpt-4.1", "openai/absent", "elsewhere/model", "openai/o3"]
    model = CATALOGUE.find("openai", "gpt-4o")
    routes = router().routes(model, names, ModelOptions(temperature=0.5), ModelOptions())
    assert [route.model.name for route in routes] == ["gpt-4o", "gpt-4.1"]


def test_without_fallbacks_of_the_author_those_of_the_catalogue_are_taken() -> None:
    small, large = (CATALOGUE.find("openai", name) for name in ("gpt-4o-mini", "gpt-4o"))
    catalogue = ModelCatalogue([small, replace(large, fallbacks=("openai/gpt-4o-mini",))])
    choice = Router(catalogue, "openai/gpt-4o")
    model = choice.choose(None, None, None)
    for authored, expected in (((), ["gpt-4o", "gpt-4o-mini"]), (("openai/gpt-4o",), ["gpt-4o", "gpt-4o"])):
        routes = choice.routes(model, authored, ModelOptions(), ModelOptions())
        assert [route.model.name for route in routes] == expected
