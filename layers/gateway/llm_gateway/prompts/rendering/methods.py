"""The closed table of methods: by type of value and name, each a function of ours that pays for itself.

A method that is not in the table does not exist; Python's own are never reached. Methods that change
a value are left out, as a value may be the caller's, and so are those whose cost or result has no bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2.runtime import LoopContext

from llm_gateway.prompts.rendering import texts
from llm_gateway.prompts.rendering.formatting import FORMATS
from llm_gateway.prompts.rendering.metering import budget, weigh
from llm_gateway.prompts.rendering.operators import look_through

Methods = Mapping[str, Callable[..., Any]]

OF_TEXTS: Methods = {
    **{
        change.__name__: texts.changed(change)
        for change in (str.capitalize, str.casefold, str.lower, str.swapcase, str.title, str.upper)
    },
    **{
        test.__name__: texts.tested(test)
        for test in (
            *(str.isalnum, str.isalpha, str.isascii, str.isdecimal, str.isdigit, str.islower),
            *(str.isnumeric, str.isspace, str.istitle, str.isupper),
        )
    },
    **{find.__name__: texts.found(find) for find in (str.count, str.find, str.index)},
    **{find.__name__: texts.found(find, backwards=True) for find in (str.rfind, str.rindex)},
    **{test.__name__: texts.begins(test) for test in (str.startswith, str.endswith)},
    **{strip.__name__: texts.stripped(strip) for strip in (str.strip, str.lstrip, str.rstrip)},
    **{remove.__name__: texts.without(remove) for remove in (str.removeprefix, str.removesuffix)},
    **{pad.__name__: texts.padded(pad) for pad in (str.center, str.ljust, str.rjust)},
    "zfill": texts.zeros,
    "replace": texts.replaced,
    "split": texts.split(backwards=False),
    "rsplit": texts.split(backwards=True),
    "splitlines": texts.lines,
    "partition": texts.parted(backwards=False),
    "rpartition": texts.parted(backwards=True),
    "join": texts.listed,
    **FORMATS,
}


def _get(value: dict[Any, Any], key: Any, default: Any = None) -> Any:
    weigh(key, opaque=True)
    return value.get(key, default)


def _of_mapping(method: Callable[[dict[Any, Any]], Any]) -> Callable[[dict[Any, Any]], list[Any]]:
    """Its keys, values or items as a list: a view would change with the mapping."""

    def run(value: dict[Any, Any]) -> list[Any]:
        budget().step(1 + len(value) // 16)
        budget().reserve(len(value) * 72)
        return list(method(value))

    return run


OF_MAPPINGS: Methods = {
    "get": _get,
    "items": _of_mapping(dict.items),
    "keys": _of_mapping(dict.keys),
    "values": _of_mapping(dict.values),
}


def _count(value: list[Any] | tuple[Any, ...], sought: Any) -> int:
    look_through(sought, value)
    return value.count(sought)


def _index(
    value: list[Any] | tuple[Any, ...], sought: Any, start: int | None = None, stop: int | None = None
) -> int:
    """Python's own writes down what it does not find, however long that is."""
    look_through(sought, value)
    for place in range(len(value))[start:stop]:
        if value[place] == sought:
            return place
    raise ValueError("not in the list")


OF_LISTS: Methods = {"count": _count, "index": _index}


def _is_integer(value: float) -> bool:
    return float(value).is_integer()


OF_NUMBERS: Methods = {"is_integer": _is_integer}


def _cycle(loop: LoopContext, *values: Any) -> Any:
    return loop.cycle(*values)


def _changed(loop: LoopContext, *values: Any) -> bool:
    weigh(values, opaque=True)
    return loop.changed(*values)


OF_LOOPS: Methods = {"cycle": _cycle, "changed": _changed}

_BY_TYPE: tuple[tuple[type | tuple[type, ...], Methods], ...] = (
    (str, OF_TEXTS),
    (dict, OF_MAPPINGS),
    ((list, tuple), OF_LISTS),
    (bool, {}),
    ((int, float), OF_NUMBERS),
    (LoopContext, OF_LOOPS),
)


def methods_of(value: Any) -> Methods:
    """The methods of a value, by name."""
    return next((methods for kinds, methods in _BY_TYPE if isinstance(value, kinds)), {})


TABLES: tuple[Methods, ...] = tuple(methods for _, methods in _BY_TYPE)
