"""Field types and base model that several request and answer models share."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from llm_gateway.formats import to_decimal_text, to_iso, to_metadata_text
from llm_gateway.json_schema.value_bounds import TooManyValues, extent_of
from llm_gateway.models.options import MAX_STOP_SEQUENCES, TEMPERATURE_RANGE, TOP_P_RANGE, ModelOptions

MAX_METADATA_BYTES = 256
"""So that a ledger item stays within 1 KB, one write unit, with the longest of the usual names."""
_MAX_ENTRIES = 16
MAX_UNKNOWN = 20
"""Most fields of a request that are looked at although there are none of their names."""

_PRINTABLE = r"^[^\p{C}\p{Zl}\p{Zp}]+$"
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=_PRINTABLE)]
ServiceName = Annotated[str, Field(min_length=1, max_length=64, pattern=_PRINTABLE)]
_MetadataKey = Annotated[str, Field(min_length=1, max_length=64, pattern=_PRINTABLE)]
_MetadataValue = Annotated[str, Field(pattern=_PRINTABLE.replace("+", "*"))]
Metadata = Annotated[
    dict[_MetadataKey, _MetadataValue],
    Field(max_length=_MAX_ENTRIES),
    AfterValidator(lambda metadata: _small(metadata)),
    BeforeValidator(lambda value: _few(value)),
]
Usd = Annotated[
    Decimal,
    PlainSerializer(lambda value: to_decimal_text(value), return_type=str, when_used="json"),
    Field(description="US dollars, exact, as a decimal string.", examples=["0.000123"]),
]
Instant = Annotated[datetime, PlainSerializer(lambda value: to_iso(value), return_type=str, when_used="json")]
JsonObject = Annotated[dict[str, JsonValue], AfterValidator(lambda value: _as_json(value))]


class Wire(BaseModel):
    """Strict, closed and frozen, as all that callers send or get."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


class Asked(Wire):
    """What callers send; a validator of what comes in would let no strict model read its own JSON again."""

    @model_validator(mode="before")
    @classmethod
    def _few_unknown(cls, value: Any) -> Any:
        """A body may hold fifty thousand fields that there are not; each would be an error of pydantic's."""
        if not isinstance(value, dict) or len(value) <= len(cls.model_fields) + MAX_UNKNOWN:
            return value
        known = {name for field, info in cls.model_fields.items() for name in (field, info.alias)}
        unknown = islice((name for name in value if name not in known), MAX_UNKNOWN)
        return {name: value[name] for name in (*unknown, *(known & value.keys()))}


class Parameters(Asked):
    """What shapes the answer; what is left out is the prompt's choice, then the model's."""

    temperature: float | None = Field(
        None, ge=TEMPERATURE_RANGE[0], le=TEMPERATURE_RANGE[1], allow_inf_nan=False
    )
    top_p: float | None = Field(None, ge=TOP_P_RANGE[0], le=TOP_P_RANGE[1], allow_inf_nan=False)
    max_tokens: int | None = Field(None, ge=1, description="At most the model's own maximum.")
    stop: list[Annotated[str, Field(min_length=1, max_length=256)]] | None = Field(
        None, min_length=1, max_length=MAX_STOP_SEQUENCES
    )

    def options(self) -> ModelOptions:
        """The same, inside the gateway."""
        return ModelOptions(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            stop=tuple(self.stop or ()),
        )


def _few(value: Any) -> Any:
    """Metadata before its entries are looked at, each of which could be an error."""
    if isinstance(value, dict) and len(value) > _MAX_ENTRIES:
        raise PydanticCustomError("too_long", "too long", {"max_length": _MAX_ENTRIES})
    return value


def _as_json(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The value, if it can be sent on: Python's numbers and texts go further than JSON's.

    Lambda decodes events itself and lets such values in; over HTTP it is `1e400` that becomes one.
    """
    try:
        extent_of(value)
    except TooManyValues as error:
        raise PydanticCustomError("too_many_values", "too large", {"problem": str(error)}) from None
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:  # Unicode errors are such
        raise PydanticCustomError("not_json", "not JSON") from None
    return value


def _small(metadata: dict[str, str]) -> dict[str, str]:
    if len(to_metadata_text(metadata).encode()) > MAX_METADATA_BYTES:
        raise PydanticCustomError("too_many_bytes", "too long", {"max_bytes": MAX_METADATA_BYTES})
    return metadata
