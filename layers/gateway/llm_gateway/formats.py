"""Text forms of moments, money and metadata, spelled the same wherever the gateway writes them.

Imports nothing of the gateway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal


def to_metadata_text(metadata: Mapping[str, str]) -> str:
    """`{"team":"checkout"}`: compact JSON, always in the same order."""
    return json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def to_decimal_text(value: Decimal) -> str:
    """`0.000123`: never an exponent, no trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def to_iso(moment: datetime) -> str:
    """`2026-11-23T10:00:00Z`, with fractions only if there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
