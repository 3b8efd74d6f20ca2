"""What each calling service may spend in a day and in a month: nouns, and the setting they are read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from llm_gateway.errors import ConfigurationError, RequestError
from llm_gateway.validation import decode_json, validated

SHARED = "*"
"""The budget of every service that has none of its own, and of calls that name no service."""

Width = Literal["day", "month"]
Unit = Literal["usd", "tokens"]
_SETTING = "LLM_GATEWAY_BUDGETS"


@dataclass(frozen=True, slots=True)
class Limit:
    """Most that may be spent in one window.

    Attributes:
        width: A day or a month, in UTC.
        unit: What is counted.
        most: How much of it.
    """

    width: Width
    unit: Unit
    most: Decimal


Limits = tuple[Limit, ...]


@dataclass(frozen=True, slots=True)
class Amount:
    """What a call costs, in both units.

    Attributes:
        usd: US dollars, exact.
        tokens: Input and output together.
    """

    usd: Decimal = Decimal(0)
    tokens: int = 0

    def of(self, unit: Unit) -> Decimal:
        """This amount in one of the units."""
        return self.usd if unit == "usd" else Decimal(self.tokens)


class _Limits(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    day_usd: Annotated[Decimal, Field(ge=0, allow_inf_nan=False, max_digits=15)] | None = None
    month_usd: Annotated[Decimal, Field(ge=0, allow_inf_nan=False, max_digits=15)] | None = None
    day_tokens: Annotated[int, Field(ge=0)] | None = None
    month_tokens: Annotated[int, Field(ge=0)] | None = None

    def limits(self) -> Limits:
        given: tuple[tuple[Width, Unit, Decimal | int | None], ...] = (
            ("day", "usd", self.day_usd),
            ("month", "usd", self.month_usd),
            ("day", "tokens", self.day_tokens),
            ("month", "tokens", self.month_tokens),
        )
        return tuple(Limit(width, unit, Decimal(most)) for width, unit, most in given if most is not None)


class _Budgets(RootModel[dict[Annotated[str, Field(min_length=1, max_length=64)], _Limits]]):
    pass


def read_budgets(text: str) -> Mapping[str, Limits]:
    """Limits by budget; one without any limit lets its service spend what it likes.

    Args:
        text: JSON: by service `day_usd`, `month_usd`, `day_tokens`, `month_tokens`; `*` for all others.

    Raises:
        ConfigurationError: Naming the field at fault.
    """
    try:
        read = validated(_Budgets, decode_json(text.encode()))
    except RequestError as error:
        raise ConfigurationError(f"{_SETTING}: {error.message.removesuffix('.')}.") from None
    return {name: limits.limits() for name, limits in read.root.items()}


def resets_at(width: Width, moment: datetime) -> datetime:
    """End of the window that `moment`, aware, lies in; aware UTC."""
    midnight = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if width == "day":
        return midnight + timedelta(days=1)
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
