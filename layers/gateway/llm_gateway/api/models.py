"""ListModels: what callers get."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import Field

from llm_gateway.api.fields import Usd, Wire
from llm_gateway.models.catalogue import ModelSpec


class ModelPrices(Wire):
    """Rates in USD per 1,000,000 tokens."""

    input: Usd
    output: Usd
    cached_input: Usd | None
    cache_write: Usd | None
    long_above: int | None = Field(
        description="Input tokens above which the whole call costs the long rates."
    )
    long_input: Usd | None
    long_output: Usd | None
    long_cached_input: Usd | None
    long_cache_write: Usd | None
    date: str | None = Field(description="Day on which they were read from the vendor's list.")


class ModelInfo(Wire):
    """One model that can be called."""

    id: str = Field(description="`provider/name`, as a prompt or a request names it.")
    provider: str
    name: str
    context_tokens: int = Field(description="Input and output together.")
    max_output_tokens: int
    sampling: bool = Field(description="Takes temperature, top_p and stop.")
    json_mode: bool = Field(description="Can be told to answer with JSON.")
    json_schema: bool = Field(description="Can be told the schema of that JSON.")
    fallbacks: list[str] = Field(description="Models that answer in its place if it fails.")
    price: ModelPrices | None = Field(description="Null: its calls are counted as unpriced.")

    @classmethod
    def of(cls, spec: ModelSpec) -> ModelInfo:
        """What callers may know of a row of the catalogue."""
        price = None if spec.price is None else asdict(spec.price)
        if price is not None:
            price["date"] = price["date"] and price["date"].isoformat()
        return cls(
            id=spec.full_name,
            provider=spec.provider,
            name=spec.name,
            context_tokens=spec.context_tokens,
            max_output_tokens=spec.max_output_tokens,
            sampling=spec.sampling,
            json_mode=spec.json_mode,
            json_schema=spec.json_schema,
            fallbacks=list(spec.fallbacks),
            price=None if price is None else ModelPrices(**price),
        )


class ModelList(Wire):
    """ListModels: everything that can be called."""

    models: list[ModelInfo]
    default_model: str | None = Field(
        description="Called when neither request nor prompt names a model; null if the key does not allow it."
    )
