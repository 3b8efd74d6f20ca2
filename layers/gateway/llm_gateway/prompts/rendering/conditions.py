"""Tests that a prompt may use after `is`: a closed table of our own, each paid for before it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2.runtime import BlockReference, LoopContext, Macro, Undefined

from llm_gateway.prompts.rendering.filters import FILTERS
from llm_gateway.prompts.rendering.metering import calculated, text
from llm_gateway.prompts.rendering.operators import compare
from llm_gateway.prompts.rendering.texts import read
from llm_gateway.prompts.rendering.world import Function

_Test = Callable[..., bool]
_COMPARISONS = {
    "eq": ("==", "eq", "equalto"),
    "ne": ("!=", "ne"),
    "gt": (">", "gt", "greaterthan"),
    "gteq": (">=", "ge"),
    "lt": ("<", "lt", "lessthan"),
    "lteq": ("<=", "le"),
    "in": ("in",),
}


def _comparing(sign: str) -> _Test:
    def run(value: Any, other: Any) -> bool:
        return compare(value, sign, other)

    return run


def _being(*kinds: type) -> _Test:
    def run(value: Any) -> bool:
        return isinstance(value, kinds)

    return run


def _remainder(value: Any, by: Any) -> Any:
    """`value % by` of numbers; of a text it would fill in a pattern."""
    for number in (value, by):
        if isinstance(number, int):
            calculated(number)
        elif not isinstance(number, float):
            raise TypeError(type(number).__name__)
    return value % by


def _odd(value: Any) -> bool:
    return bool(_remainder(value, 2) == 1)


def _even(value: Any) -> bool:
    return bool(_remainder(value, 2) == 0)


def _divisible(value: Any, num: Any) -> bool:
    return bool(_remainder(value, num) == 0)


def _lower(value: Any) -> bool:
    whole = text(value)
    read(whole)
    return whole.islower()


def _upper(value: Any) -> bool:
    whole = text(value)
    read(whole)
    return whole.isupper()


def _iterable(value: Any) -> bool:
    if isinstance(value, Undefined):
        iter(value)
    return isinstance(value, str | list | tuple | dict)


def _known_to(names: Callable[[], Mapping[str, object]]) -> _Test:
    def run(value: Any) -> bool:
        return isinstance(value, str) and value in names()

    return run


TESTS: Mapping[str, _Test] = {
    "defined": lambda value: not isinstance(value, Undefined),
    "undefined": _being(Undefined),
    "none": lambda value: value is None,
    "true": lambda value: value is True,
    "false": lambda value: value is False,
    "boolean": _being(bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": _being(float),
    "number": _being(int, float),
    "string": _being(str),
    "mapping": _being(dict),
    "sequence": _being(str, list, tuple, dict),
    "iterable": _iterable,
    "callable": _being(Macro, LoopContext, BlockReference, Function),
    "sameas": lambda value, other: value is other,
    "escaped": _being(),  # no text is marked as HTML
    "odd": _odd,
    "even": _even,
    "divisibleby": _divisible,
    "lower": _lower,
    "upper": _upper,
    "filter": _known_to(lambda: FILTERS),
    "test": _known_to(lambda: TESTS),
    **{name: _comparing(sign) for sign, names in _COMPARISONS.items() for name in names},
}
