"""Filling values into a pattern: `'%s' % x` and `'{}'.format(x)`, field by field, each paid for.

Python's own formatting takes widths without a bound and looks at attributes of values. Here a field's
value is a JSON value, its width is bounded, and what a pattern names in it is an item of a mapping or
list, as everywhere in a template.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from string import Formatter
from typing import Any

from jinja2.utils import missing
from typing_extensions import override

from llm_gateway.prompts.rendering.metering import budget, calculated, joined, reserve_repr, text, weigh
from llm_gateway.prompts.rendering.texts import check_width, read
from llm_gateway.prompts.rendering.world import part

_DIRECTIVE = re.compile(
    r"%(?:\((?P<key>[^()]{0,1000})\))?(?P<flags>[-+ #0]{0,16})(?P<width>\*|\d{0,20})"
    r"(?:\.(?P<precision>\*|\d{0,20}))?[hlL]?(?P<type>[diouxXeEfFgGcrsa%])"
)
_FIELD = re.compile(r"[^.\[\]]+|\.[^.\[\]]+|\[[^\[\]]+\]")
_DIGITS = re.compile(r"\d+")
_MAX_FIELD = 1_000


class _Arguments:
    """What stands on the right of `%`: values in order, or a mapping of them by name."""

    def __init__(self, given: Any) -> None:
        self._by_name: Mapping[str, Any] | None = given if isinstance(given, dict) else None
        self._waiting: Iterator[Any] = iter(given if isinstance(given, tuple) else (given,))
        self._may_be_left = isinstance(given, dict | list)

    def next(self) -> Any:
        for value in self._waiting:
            return value
        raise TypeError("not enough arguments for the pattern")

    def named(self, name: str) -> Any:
        if self._by_name is None:
            raise TypeError("the pattern needs a mapping")
        self._may_be_left = True
        return self._by_name[name]

    def close(self) -> None:
        """Refuse what is left over, as Python does."""
        if not self._may_be_left and next(self._waiting, missing) is not missing:
            raise TypeError("not all arguments are in the pattern")


def percent(pattern: str, given: Any) -> str:
    """`pattern % given`.

    Raises:
        RenderLimitExceeded: It would be too large.
        TypeError, ValueError, KeyError: The arguments do not fit the pattern.
    """
    read(pattern)
    arguments = _Arguments(given)
    parts: list[str] = []
    end = 0
    for directive in _DIRECTIVE.finditer(pattern):
        parts += (_plain(pattern[end : directive.start()]), _filled(directive, arguments))
        end = directive.end()
    parts.append(_plain(pattern[end:]))
    arguments.close()
    return joined(parts)


def _plain(literal: str) -> str:
    if "%" in literal:
        raise ValueError("unsupported directive")
    return literal


def _filled(directive: re.Match[str], arguments: _Arguments) -> str:
    budget().step()
    key, flags, kind = directive["key"], directive["flags"], directive["type"]
    wide = _size(directive["width"], arguments)
    precision = directive["precision"]
    exact = "" if precision is None else f".{_size(precision, arguments)}"
    if kind == "%":
        return "%"
    value = arguments.next() if key is None else arguments.named(key)
    made = f"%{flags}{wide}{exact}{kind}" % (_printable(value, kind),)
    budget().pay(len(made))
    return made


def _size(written: str, arguments: _Arguments) -> str:
    """A width or precision; a star takes it from the arguments."""
    if not written:
        return ""
    size = arguments.next() if written == "*" else int(written)
    if not isinstance(size, int):
        raise TypeError("a width is a whole number")
    check_width(size)
    return str(size)


def _printable(value: Any, kind: str) -> Any:
    if kind == "s":
        return text(value)
    if kind in "ra":
        reserve_repr(weigh(value))
    elif isinstance(value, int):
        calculated(value)
    elif not isinstance(value, str | float):
        raise TypeError(type(value).__name__)
    return value


class _Braces(Formatter):
    """Python's own parser of `{}` patterns; what a field names is looked up in the closed world."""

    @override
    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        budget().step()
        steps = _FIELD.findall(field_name) if len(field_name) <= _MAX_FIELD else []
        if "".join(steps) != field_name or not steps:
            raise ValueError("unsupported field")
        first, *below = steps
        value = args[int(first)] if first.isdecimal() else kwargs[first]
        for step in below:
            name = step[1:] if step[0] == "." else step[1:-1]
            value = part(value, int(name) if step[0] == "[" and name.isdecimal() else name)
            if value is missing:
                raise KeyError("a field of the pattern is not there")
        return value, first

    @override
    def convert_field(self, value: Any, conversion: Any) -> Any:
        if conversion is None:
            return value
        reserve_repr(weigh(value))
        return super().convert_field(value, conversion)

    @override
    def format_field(self, value: Any, format_spec: str) -> str:
        """A field's width may come from a variable, so it is checked once it is known."""
        read(format_spec)
        if len(format_spec) > _MAX_FIELD:
            raise ValueError("unsupported format")
        for digits in _DIGITS.findall(format_spec):
            check_width(int(digits[:9]))
        if isinstance(value, int):
            calculated(value)
        made = format(value if isinstance(value, int | float) else text(value), format_spec)
        budget().pay(len(made))
        return made


def _measured(pattern: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    read(pattern)
    budget().step((pattern.count("{") + pattern.count("}")) // 8)
    budget().reserve(4 * len(pattern))
    return _Braces().vformat(pattern, args, kwargs)


def braces(pattern: str, *args: Any, **kwargs: Any) -> str:
    """`pattern.format(*args, **kwargs)`."""
    return _measured(pattern, args, kwargs)


def braces_by_name(pattern: str, mapping: Mapping[str, Any]) -> str:
    """`pattern.format_map(mapping)`."""
    if not isinstance(mapping, dict):
        raise TypeError(type(mapping).__name__)
    return _measured(pattern, (), mapping)


FORMATS: Mapping[str, Callable[..., str]] = {"format": braces, "format_map": braces_by_name}
