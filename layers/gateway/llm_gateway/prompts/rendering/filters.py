"""Filters that a prompt may use: each a function of ours, paid for before it runs, whose result is a value.

A closed table: whatever is not in it is not available, because its cost is unknown, its result differs
from run to run (`random`), or it makes HTML (`urlize`, `xmlattr`). Text is text: nothing is marked safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, cast

from jinja2 import pass_context, pass_environment, pass_eval_context
from jinja2.environment import Environment
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.filters import make_attrgetter
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, Undefined
from jinja2.utils import missing

from llm_gateway.prompts.rendering import text_filters
from llm_gateway.prompts.rendering.metering import budget, calculated, joined, text, too_large
from llm_gateway.prompts.rendering.ordering import (
    check_path,
    grouped,
    items_of,
    largest,
    ordered,
    sorted_items,
    unique,
    walk,
)
from llm_gateway.prompts.rendering.texts import check_width
from llm_gateway.prompts.rendering.world import OPAQUE, admitted, belonging, part

_JINJA = cast(dict[str, Callable[..., Any]], JINJA_FILTERS)
_MAX_PRECISION = 100
_Filter = Callable[..., Any]


def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    return default_value if isinstance(value, Undefined) or (boolean and not value) else value


@pass_environment
def _attr(environment: Environment, value: Any, name: str) -> Any:
    if not isinstance(name, str):
        raise TypeError("the name of a field is a text")
    found = part(value, name)
    return environment.undefined(obj=value, name=name) if found is missing else found


def _length(value: Any) -> int:
    if not isinstance(value, str | list | tuple | dict | Undefined):
        raise TypeError(type(value).__name__)
    return len(value)


@pass_environment
def _first(environment: Environment, value: Any) -> Any:
    _length(value)
    return next(iter(value), environment.undefined("the sequence is empty"))


@pass_environment
def _last(environment: Environment, value: Any) -> Any:
    _length(value)
    return next(iter(reversed(value)), environment.undefined("the sequence is empty"))


def _list(value: Any) -> list[Any]:
    walk(value)
    return list(value)


def _reverse(value: Any) -> Any:
    walk(value)
    return value[::-1] if isinstance(value, str) else list(reversed(value))


@pass_environment
def _join(environment: Environment, value: Any, d: Any = "", attribute: Any = None) -> str:
    check_path(attribute)
    walk(value)
    budget().step(len(value) // 2)
    items = value if attribute is None else map(make_attrgetter(environment, attribute), value)
    return joined([text(item) for item in items], text(d))


@pass_environment
def _sum(environment: Environment, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    """Adding up lists takes time quadratic in their number; prompts add up numbers."""
    check_path(attribute)
    if not isinstance(start, int | float):
        raise TypeError(type(start).__name__)
    walk(value)
    items = value if attribute is None else map(make_attrgetter(environment, attribute), value)
    for item in items:
        if not isinstance(item, int | float):
            raise TypeError(type(item).__name__)
        if isinstance(start, int):
            calculated(start)
        start += item
    return start


def _abs(value: Any) -> Any:
    if not isinstance(value, int | float):
        raise TypeError(type(value).__name__)
    return abs(value)


def _round(value: Any, precision: int = 0, method: str = "common") -> Any:
    if not isinstance(value, int | float):
        raise TypeError(type(value).__name__)
    if isinstance(value, int):
        calculated(value)
    if abs(precision) > _MAX_PRECISION:
        raise too_large()
    return _JINJA["round"](value, precision, method)


@pass_context
def _map(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
    check_path(kwargs.get("attribute"))
    walk(value)
    return _JINJA["map"](context, value, *args, **kwargs)


def _selecting(name: str) -> _Filter:
    jinja = _JINJA[name]

    @pass_context
    def run(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        check_path(args[0] if args else None)
        walk(value)
        return jinja(context, value, *args, **kwargs)

    return run


def _batch(value: Any, linecount: int, fill_with: Any = None) -> Iterable[Any]:
    check_width(linecount)
    walk(value)
    return cast(Iterable[Any], _JINJA["batch"](value, linecount, fill_with))


@pass_eval_context
def _slice(context: EvalContext, value: Any, slices: int, fill_with: Any = None) -> Iterable[Any]:
    check_width(slices)
    walk(value)
    return cast(Iterable[Any], _JINJA["slice"](context, value, slices, fill_with))


def _paid(function: _Filter, result: Callable[[Any], Any] = admitted, opaque: bool = False) -> _Filter:
    """The filter for a template's use.

    Args:
        function: It, without the step that every call costs.
        result: Checks what it makes.
        opaque: Whether a macro, `loop` and the like may stand before it.
    """
    at = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)  # keeps Jinja2's own mark of what to pass first
    def run(*args: Any, **kwargs: Any) -> Any:
        budget().step()
        if not opaque and isinstance(args[at], OPAQUE):
            raise TypeError(type(args[at]).__name__)
        return result(function(*args, **kwargs))

    return run


# What these return is there already, or is a number.
_EXISTING: Mapping[str, _Filter] = {
    "first": _first,
    "last": _last,
    "min": largest(min),
    "max": largest(max),
    "length": _length,
    "count": _length,
    "abs": _abs,
    "round": _round,
    "sum": _sum,
    "int": text_filters.whole_number,
    "float": text_filters.fraction,
    "wordcount": text_filters.words,
}
_MAKING: Mapping[str, _Filter] = {
    **{change.__name__: text_filters.cased(change) for change in (str.lower, str.upper, str.capitalize)},
    **dict.fromkeys(("string", "safe"), text),
    **dict.fromkeys(("escape", "e", "forceescape"), text_filters.escaped),
    **{name: _selecting(name) for name in ("select", "reject", "selectattr", "rejectattr")},
    "title": text_filters.titled,
    "urlencode": text_filters.url_encoded,
    "trim": text_filters.trimmed,
    "truncate": text_filters.truncated,
    "replace": text_filters.replaced,
    "indent": text_filters.indented,
    "wordwrap": text_filters.wrapped,
    "center": text_filters.centered,
    "format": text_filters.formatted,
    "tojson": text_filters.as_json,
    "filesizeformat": text_filters.sized,
    "map": _map,
    "list": _list,
    "reverse": _reverse,
    "items": items_of,
    "join": _join,
    "sort": ordered,
    "unique": unique,
    "dictsort": sorted_items,
    "groupby": grouped,
    "batch": _batch,
    "slice": _slice,
}
FILTERS: Mapping[str, _Filter] = {
    **{name: _paid(function) for name, function in _MAKING.items()},
    **{name: _paid(function, belonging) for name, function in _EXISTING.items()},
    **dict.fromkeys(("default", "d"), _paid(_default, belonging, opaque=True)),
    "attr": _paid(_attr, belonging, opaque=True),
}
