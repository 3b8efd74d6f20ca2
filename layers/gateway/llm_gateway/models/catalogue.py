"""The models the gateway may call: limits, quirks and prices, all data from `catalogue.toml`."""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from importlib.resources import files
from typing import Any, Literal

from llm_gateway.errors import InvalidParameter, UnknownModel, UnknownProvider
from llm_gateway.models.options import ModelOptions
from llm_gateway.suggestions import nearest

_DATED = re.compile(r"-\d{4}(?P<day>-\d{2}-\d{2})?$")


@dataclass(frozen=True, slots=True)
class Rates:
    """What each kind of token of one call costs, in USD per 1,000,000."""

    input: Decimal
    cached_input: Decimal
    cache_write: Decimal
    output: Decimal


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """Rates in USD per 1,000,000 tokens.

    Attributes:
        input: Rate of input tokens.
        output: Rate of output tokens.
        cached_input: Rate of cached input tokens; None bills them in full.
        cache_write: Rate of input tokens that the vendor puts into its cache; None bills them in full.
        long_above: Input tokens above which the whole call is billed at the `long_` rates.
        date: Day on which the rates were read from the vendor's list, if they were.
    """

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    long_above: int | None = None
    long_input: Decimal | None = None
    long_output: Decimal | None = None
    long_cached_input: Decimal | None = None
    long_cache_write: Decimal | None = None
    date: datetime.date | None = None

    def rates(self, input_tokens: int) -> Rates:
        """The rates of a call with that many input tokens."""
        if self.long_above is None or input_tokens <= self.long_above:
            full, cached, written, output = self.input, self.cached_input, self.cache_write, self.output
        else:
            full, output = _or(self.long_input, self.input), _or(self.long_output, self.output)
            cached, written = self.long_cached_input, self.long_cache_write
        return Rates(full, _or(cached, full), _or(written, full), output)


def _or(rate: Decimal | None, otherwise: Decimal) -> Decimal:
    return otherwise if rate is None else rate


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One callable model.

    Attributes:
        provider: Name of the provider that serves it.
        name: The vendor's name, sent as it is.
        context_tokens: Input and output together.
        max_output_tokens: Most tokens one answer may have.
        max_tokens_field: The vendor's field that bounds the answer.
        sampling: True if it takes temperature, top_p and stop; reasoning models do not.
        json_mode: True if it can be told to answer with JSON.
        json_schema: True if it can be told the schema of that JSON.
        fallbacks: `provider/name` of the models that may answer in its place, in order.
        aliases: Other names of the model, dated or `-latest`, that cost the same.
        any_date: True if its name with any day after it costs the same.
        price: None if the catalogue has no price: calls are then `unpriced`, never free.
    """

    provider: str
    name: str
    context_tokens: int
    max_output_tokens: int
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"]
    sampling: bool = True
    json_mode: bool = True
    json_schema: bool = False
    fallbacks: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    any_date: bool = False
    price: ModelPrice | None = None

    @property
    def full_name(self) -> str:
        """`provider/name`, as requests, keys and prompts name it."""
        return f"{self.provider}/{self.name}"

    def accepted(self, requested: ModelOptions, authored: ModelOptions) -> ModelOptions:
        """The options to send: the request's own over the prompt author's.

        What the author prefers is dropped where the model does not take it; what the request
        demands is refused instead, so that nobody pays for an answer they did not ask for.

        Raises:
            InvalidParameter: Naming the field.
        """
        if not self.sampling:
            for field in ("temperature", "top_p", "stop"):
                if getattr(requested, field) not in (None, ()):
                    raise InvalidParameter(
                        f"{self.name} does not take {field}; leave it out.", param=f"parameters.{field}"
                    )
            authored = replace(authored, temperature=None, top_p=None, stop=())
        if not self.json_mode:
            authored = replace(authored, output_format=None)
        if not self.json_schema:
            authored = replace(authored, output_schema=None)
        options = requested.over(authored)
        if options.max_tokens is not None and options.max_tokens > self.max_output_tokens:
            raise InvalidParameter(
                f"max_tokens must be from 1 to {self.max_output_tokens} for {self.name}.",
                param="parameters.max_tokens",
                details={"maximum": self.max_output_tokens},
            )
        return options


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a provider is, and how it wants to be asked.

    Attributes:
        base_url: What `/chat/completions` is appended to; None is OpenAI's own.
        auth: Header of the key: `Authorization: Bearer`, `api-key` (Azure), or none at all.
        query: Added to each request's query, for example Azure's `api-version`.
    """

    base_url: str | None = None
    auth: Literal["bearer", "api-key", "none"] = "bearer"
    query: Mapping[str, str] = field(default_factory=dict)


MayUse = Callable[[str], bool]
"""Tells of a model, as `provider/name`, whether the caller may use it."""


def every_model(_: str) -> bool:
    """For callers without bounds."""
    return True


class ModelCatalogue:
    """All models, by provider and name.

    Args:
        specs: The models; a later one takes the place of an earlier one of the same name.
        endpoints: Where each provider is; those left out are at their own place.
    """

    def __init__(self, specs: Iterable[ModelSpec], endpoints: Mapping[str, Endpoint] | None = None) -> None:
        self._specs: dict[tuple[str, str], ModelSpec] = {(s.provider, s.name): s for s in specs}
        self._aliases = {(s.provider, alias): s for s in self._specs.values() for alias in s.aliases}
        self.endpoints: Mapping[str, Endpoint] = endpoints or {}

    @classmethod
    def packaged(cls) -> ModelCatalogue:
        """The catalogue that comes with this package."""
        text = files("llm_gateway.models").joinpath("catalogue.toml").read_text(encoding="utf-8")
        document = tomllib.loads(text)
        return cls(_spec(row, document["prices"]["date"]) for row in document["models"])

    @property
    def providers(self) -> Sequence[str]:
        """Names of the providers that have a model."""
        return sorted({provider for provider, _ in self._specs})

    def get(self, provider: str, name: str) -> ModelSpec | None:
        """The row of exactly this name, None if there is none."""
        return self._specs.get((provider, name))

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self._specs.values())

    def find(self, provider: str, name: str, may_use: MayUse = every_model) -> ModelSpec:
        """The model, or for a dated name (`gpt-4o-2024-08-06`) that of its family.

        A date that the price list does not know, by name or by pattern, has the family's limits and no
        price: its calls are unpriced, because a newer or older model may cost something else.

        Args:
            provider: Its provider.
            name: Its name.
            may_use: Which models an error may name.

        Raises:
            UnknownProvider: With the names there are.
            UnknownModel: With the nearest names.
        """
        spec = self._specs.get((provider, name))
        if spec is not None:
            return spec
        if (provider, name) in self._aliases:
            return replace(self._aliases[provider, name], name=name)
        dated = _DATED.search(name)
        family = dated and self._specs.get((provider, name[: dated.start()]))
        if dated and family:
            priced = family.any_date and dated["day"]
            return replace(family, name=name, price=family.price if priced else None)
        self.check_provider(provider, may_use)
        names = sorted(n for p, n in self._specs if p == provider and may_use(f"{p}/{n}"))
        near = nearest(name, names, most=5)
        raise UnknownModel(
            f"{provider} has no such model in the catalogue; nearest: {', '.join(near) or 'none'}.",
            param="model",
            details={"nearest": list(near)},
        )

    def check_provider(self, provider: str, may_use: MayUse = every_model) -> None:
        """Raise UnknownProvider, with the names there are, if none of the models is `provider`'s."""
        if provider not in self.providers:
            known = sorted({p for p, n in self._specs if may_use(f"{p}/{n}")})
            raise UnknownProvider(
                f"There is no such provider; known are: {', '.join(known) or 'none'}.",
                param="provider",
                details={"known": list(known)},
            )


def _spec(row: Mapping[str, Any], prices_read: datetime.date) -> ModelSpec:
    rates: dict[str, Any] = {
        name: v if name == "long_above" else Decimal(v) for name, v in row["price"].items()
    }
    aliases = tuple(row.get("aliases", ()))
    return ModelSpec(**{**row, "aliases": aliases, "price": ModelPrice(**rates, date=prices_read)})
