"""Text forms of moments, money and metadata, spelled the same wherever the gateway writes them; stored forms.

Imports nothing of the gateway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any


def to_metadata_text(metadata: Mapping[str, str]) -> str:
    """`{"team":"checkout"}`: compact JSON, always in the same order."""
    return json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def to_decimal_text(value: Decimal) -> str:
    """`0.000123`: never an exponent, no trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def known_fields(kind: type[Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The stored values that a dataclass has fields for.

    Old and new versions of the gateway run side by side during a deployment, so a stored value may hold
    fields that this version does not know; they are ignored.
    """
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in stored.items() if name in names}


def changed_fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass instance that are not at their default, for storing.

    A version that does not know a new field then reads every value that does not use it.
    """
    return {
        field.name: getattr(value, field.name)
        for field in fields(value)
        if field.default is MISSING or getattr(value, field.name) != field.default
    }


def to_iso(moment: datetime) -> str:
    """`2026-11-23T10:00:00Z`, with fractions only if there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
