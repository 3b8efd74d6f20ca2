"""How large a JSON value may be, and how its size is known before anything native walks through it.

A body of one megabyte can hold half a million values, and each costs some hundred bytes and a look by
every reader on its way. Bytes alone therefore bound nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

MAX_VALUES = 100_000
"""Most values of one document: objects, lists, texts, numbers, names are not counted."""
MAX_DEPTH = 100
"""Deepest nesting of objects and lists."""

# A text that never ends reaches to the end of the body: looked for from each quotation mark in it again,
# one of a megabyte would take an hour.
_TEXTS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.S)
_SEPARATORS = (b",", b"[", b"{")


class TooManyValues(ValueError):
    """A document holds more values, or is nested deeper, than the gateway reads."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How large a value is, level by level; level 0 is the value itself.

    Attributes:
        values: Values on each level.
        chars: Characters of texts and names on each level; a name belongs to the level below its object.
    """

    values: tuple[int, ...]
    chars: tuple[int, ...]

    @property
    def weight(self) -> int:
        """One figure for both, roughly what a copy of the value costs."""
        return sum(self.values) + sum(self.chars) // 32


def check_text(body: bytes, most: int = MAX_VALUES) -> None:
    """Refuse JSON text that holds too many values, before it is read.

    Raises:
        TooManyValues: It holds more than `most`.
    """
    if _separators(body) <= most or _separators(_TEXTS.sub(b"", body)) <= most:
        return
    raise TooManyValues(f"holds more than {most:,} values")


def extent_of(value: Any, most: int = MAX_VALUES) -> Extent:
    """The extent of a decoded JSON value.

    Raises:
        TooManyValues: It holds more than `most` values, or is nested more than MAX_DEPTH deep.
    """
    values, chars = list[int](), list[int]()
    level, left, named = [value], most, 0
    while level:
        if len(values) > MAX_DEPTH:
            raise TooManyValues(f"is nested more than {MAX_DEPTH} levels deep")
        left -= len(level)
        if left < 0:
            raise TooManyValues(f"holds more than {most:,} values")
        values.append(len(level))
        chars.append(named + sum(len(item) for item in level if isinstance(item, str)))
        level, named = _below(level)
    return Extent(tuple(values), tuple(chars))


def is_small(value: Any, values: int, chars: int) -> bool:
    """True if a value holds no more than so many values and characters; looks at no more than that."""
    try:
        return sum(extent_of(value, values).chars) <= chars
    except TooManyValues:
        return False


def _below(level: list[Any]) -> tuple[list[Any], int]:
    """The values one level further in, and the characters of their names."""
    below, named = list[Any](), 0
    for item in level:
        if isinstance(item, dict):
            below += item.values()
            named += sum(map(len, item))
        elif isinstance(item, list | tuple):
            below += item
    return below, named


def _separators(text: bytes) -> int:
    return sum(map(text.count, _SEPARATORS))
