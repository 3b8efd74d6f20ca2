"""Operators: arithmetic, comparisons, `in`, `~` and slices, each paid for before it runs."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from jinja2.runtime import Undefined

from llm_gateway.prompts.rendering.formatting import percent
from llm_gateway.prompts.rendering.metering import (
    MAX_INT_BITS,
    budget,
    calculated,
    joined,
    text,
    too_large,
    weigh,
    width,
)
from llm_gateway.prompts.rendering.texts import read, search

_MAX_PRODUCT = 10_000_000
_COMPARED_PER_STEP = 64
_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "gteq": operator.ge,
    "lt": operator.lt,
    "lteq": operator.le,
}


def calculate(sign: str, compute: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """`left + right` and the like: `'a' * 10**9` costs nothing to write and a gigabyte to compute."""
    budget().step()
    for number in (left, right):
        if isinstance(number, int):
            calculated(number)
    if sign == "%" and isinstance(left, str):
        return percent(left, right)
    if sign == "+":
        _check_sum(left, right)
    elif sign in ("*", "**"):
        _check_product(sign, left, right)
    return compute(left, right)


def _check_sum(left: Any, right: Any) -> None:
    if isinstance(left, str) and isinstance(right, str):
        budget().reserve((len(left) + len(right)) * max(width(left), width(right)))
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        budget().reserve((len(left) + len(right)) * 8)


def _check_product(sign: str, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length()
        product = bits * max(right, 0) if sign == "**" else bits + right.bit_length()
        if product > MAX_INT_BITS:
            raise too_large()
        return
    times, repeated = (left, right) if isinstance(left, int) else (right, left)
    if isinstance(times, int) and isinstance(repeated, str | list | tuple):
        length = times * len(repeated)
        if length > _MAX_PRODUCT:
            raise too_large()
        budget().reserve(length * (width(repeated) if isinstance(repeated, str) else 8))


def compare(left: Any, sign: str, right: Any) -> bool:
    """`left == right`, `left in right` and the like; `sign` is Jinja2's name of the operator."""
    if sign in ("in", "notin"):
        look_through(left, right)
        return (left in right) is (sign == "in")
    if isinstance(left, str) and isinstance(right, str):
        if len(left) == len(right) or sign not in ("eq", "ne"):
            budget().scan(min(len(left), len(right)))
    elif not (_is_scalar(left) or _is_scalar(right)):
        weigh(left, opaque=True)
        weigh(right, opaque=True)
    return bool(_COMPARISONS[sign](left, right))


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def look_through(sought: Any, among: Any) -> None:
    """Pay for a search among the characters, items or keys of a value.

    Raises:
        TypeError: There is nothing to search in.
    """
    if isinstance(among, str):
        search(among, sought)
    elif isinstance(among, dict):
        weigh(sought, opaque=True)
    elif isinstance(among, list | tuple):
        budget().step(1 + len(among) // _COMPARED_PER_STEP)
        if isinstance(sought, str):
            budget().step(len(among) * len(sought) // 16_384)
        elif not _is_scalar(sought):
            weigh(among, opaque=True)
    elif not isinstance(among, Undefined):
        raise TypeError(type(among).__name__)


def compared(value: Any) -> Any:
    """An operand of several comparisons in a row (`1 < x < y`), paid for."""
    if isinstance(value, str):
        read(value)
    elif not _is_scalar(value):
        weigh(value, opaque=True)
    return value


def concatenated(parts: tuple[Any, ...]) -> str:
    """`a ~ b ~ c`."""
    return joined([part if isinstance(part, str) else text(part) for part in parts])


def sliced(value: Any, start: Any = None, stop: Any = None, step: Any = None) -> Any:
    """`value[start:stop:step]`, a copy."""
    if isinstance(value, Undefined):
        return value[start:stop:step]
    if not isinstance(value, str | list | tuple):
        raise TypeError(type(value).__name__)
    size = len(range(len(value))[start:stop:step])
    budget().step(1 + size // 1_024)
    budget().reserve(size * (width(value) if isinstance(value, str) else 8))
    return value[start:stop:step]
