"""Models and providers of a deployment's own, laid over the packaged catalogue by configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from llm_gateway.errors import ConfigurationError, RequestError
from llm_gateway.models.catalogue import Endpoint, ModelCatalogue, ModelPrice, ModelSpec
from llm_gateway.models.endpoint_url import checked_url
from llm_gateway.validation import decode_json, validated

_OWN_PROVIDER = "openai"
Rate = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Endpoint(_Part):
    base_url: str
    auth: Literal["bearer", "api-key", "none"] = "bearer"
    query: dict[str, str] = {}


class _Price(_Part):
    input: Rate
    output: Rate
    cached_input: Rate | None = None
    cache_write: Rate | None = None
    long_above: int | None = None
    long_input: Rate | None = None
    long_output: Rate | None = None
    long_cached_input: Rate | None = None
    long_cache_write: Rate | None = None


class _Model(_Part):
    provider: Name
    name: Name
    like: str | None = None
    context_tokens: Annotated[int, Field(ge=1)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    sampling: bool | None = None
    json_mode: bool | None = None
    json_schema: bool | None = None
    fallbacks: Annotated[tuple[str, ...], Field(max_length=4)] | None = None
    price: _Price | None = None


class _Overlay(_Part):
    providers: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")], _Endpoint] = {}
    models: list[_Model] = []


def overlaid(catalogue: ModelCatalogue, text: str, setting: str = "LLM_GATEWAY_MODELS") -> ModelCatalogue:
    """`catalogue` with the providers and models of `text` added or changed.

    Args:
        catalogue: What there is.
        text: JSON with `providers`, by name, and `models`, a list of rows. A row of a known model changes
            the fields it names; a new one may take what it does not say from the model it is `like`.
        setting: Where the text is from, for messages.

    Raises:
        ConfigurationError: Naming the field at fault, or a fallback, provider or model that is not there.
    """
    try:
        return _laid_over(catalogue, validated(_Overlay, decode_json(text)))
    except _Fault as fault:
        raise ConfigurationError(f"{setting}: {fault}.") from None
    except RequestError as error:
        raise ConfigurationError(f"{setting}: {error.message}") from None


class _Fault(ValueError):
    """What is wrong, as the end of a sentence."""


def _laid_over(catalogue: ModelCatalogue, overlay: _Overlay) -> ModelCatalogue:
    endpoints = {name: _endpoint(name, e) for name, e in overlay.providers.items()}
    known = {_OWN_PROVIDER, *catalogue.endpoints, *endpoints}
    specs = {(spec.provider, spec.name): spec for spec in catalogue}
    for row in overlay.models:
        if row.provider not in known:
            raise _Fault(f"the provider '{row.provider}' of the model '{row.name}' is not among 'providers'")
        specs[row.provider, row.name] = _spec(row, catalogue)
    made = ModelCatalogue(specs.values(), {**catalogue.endpoints, **endpoints})
    _check_fallbacks(made)
    return made


def _endpoint(name: str, given: _Endpoint) -> Endpoint:
    try:
        return Endpoint(checked_url(given.base_url), given.auth, given.query)
    except ValueError as error:
        raise _Fault(f"'providers.{name}.base_url' {error}") from None


def _spec(row: _Model, catalogue: ModelCatalogue) -> ModelSpec:
    given: dict[str, Any] = row.model_dump(exclude_unset=True, exclude={"like", "price"})
    given = {name: value for name, value in given.items() if value is not None}
    if "price" in row.model_fields_set:
        given["price"] = None if row.price is None else ModelPrice(**row.price.model_dump())
    known = catalogue.get(row.provider, row.name)
    if row.like is not None:
        provider, _, name = row.like.partition("/")
        known = catalogue.get(provider, name)
        if known is None:
            raise _Fault(f"'{row.name}' is like '{row.like}', which is no known model")
        known = replace(known, fallbacks=(), aliases=(), any_date=False)
    return _new(given) if known is None else replace(known, **given)


def _new(given: Mapping[str, Any]) -> ModelSpec:
    for name in ("context_tokens", "max_output_tokens"):
        if name not in given:
            raise _Fault(f"the model '{given['name']}' needs '{name}', or a known model that it is 'like'")
    return ModelSpec(**{"max_tokens_field": "max_tokens", **given})


def _check_fallbacks(catalogue: ModelCatalogue) -> None:
    for spec in catalogue:
        for fallback in spec.fallbacks:
            provider, _, name = fallback.partition("/")
            if catalogue.get(provider, name) is None:
                raise _Fault(f"the fallback '{fallback}' of '{spec.name}' is no known model")
