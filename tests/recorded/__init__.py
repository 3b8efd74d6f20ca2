"""Answers of several vendors and model families: invented values in the shape that each one sends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
FAMILIES = sorted(path.stem for path in _FOLDER.glob("*.json"))


def recorded(family: str) -> dict[str, Any]:
    """The body of tests/recorded/<family>.json."""
    body: dict[str, Any] = json.loads((_FOLDER / f"{family}.json").read_text(encoding="utf-8"))
    return body
