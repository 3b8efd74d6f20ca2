"""The type of a JSON value."""

from __future__ import annotations

from typing_extensions import TypeAliasType

# A TypeAliasType, because pydantic cannot follow a plain recursive alias.
Json = TypeAliasType("Json", "bool | int | float | str | list[Json] | dict[str, Json] | None")
