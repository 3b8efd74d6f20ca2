"""Filters and tests that a prompt may use, each paid for before it runs.

An allow-list: whatever is not here is not available, because its cost is unknown, its result differs
from run to run (`random`), or it makes HTML (`urlize`, `xmlattr`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, cast

from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.tests import TESTS as JINJA_TESTS

from llm_gateway.prompts.metering import budget, taken, text, too_large, weigh, width

MAX_WIDTH = 1_000
MAX_INT_BITS = 10_000
_Check = Callable[..., object]
_JINJA = cast(dict[str, Callable[..., Any]], JINJA_FILTERS)
_TESTS = cast(dict[str, Callable[..., Any]], JINJA_TESTS)

# A directive of `%` that pads, wherever it stands; and one whose key is too odd to look behind.
_PADDED = re.compile(r"%(?:\([^()]{0,100}\))?[-+ #0]*(?:\d{4}|\*|\d{0,3}\.(?:\d{4}|\*))")
_ODD_KEY = re.compile(r"%\((?![^()]{0,100}\))")


def check_width(*widths: Any) -> None:
    """Refuse to pad without end; how wide a text may be padded is bounded, not what it holds."""
    for wide in widths:
        if isinstance(wide, int) and abs(wide) > MAX_WIDTH:
            raise too_large()


def check_numbers(*values: Any) -> None:
    """Refuse whole numbers that no prompt has: dividing them takes time quadratic in their length."""
    for value in values:
        if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
            raise too_large()


def check_format(pattern: str, arguments: Any) -> None:
    """Pay for `pattern % arguments`."""
    if _PADDED.search(pattern) or _ODD_KEY.search(pattern):
        raise too_large()
    directives = pattern.count("%")
    budget().pay(directives * MAX_WIDTH // 10)
    weigh(arguments, factor=4 * max(1, directives if isinstance(arguments, Mapping) else 1))


def check_replace(value: str, old: str, new: str) -> None:
    """Pay for `value.replace(old, new)`."""
    times = value.count(old)
    wide = max(width(value), width(new))
    budget().reserve((len(value) + times * max(0, len(new) - len(old))) * wide)
    budget().step(1 + times // 16)


def check_scan(value: str, searched: Any) -> None:
    """Pay for a search whose time is the product of both lengths."""
    if isinstance(searched, str):
        budget().step(1 + len(value) * len(searched) // 256)


def check_pieces(value: Any) -> None:
    """Pay for cutting a text into pieces, each of which weighs much more than its characters."""
    if isinstance(value, str):
        budget().step(1 + len(value) // 8)
        budget().reserve(len(value) * (24 if value.isascii() else 32))


def _texts(factor: int) -> _Check:
    def check(*values: Any, **named: Any) -> None:
        weigh([*values, *named.values()], factor)

    return check


def _ordered(*values: Any, **named: Any) -> None:
    """Sorting, grouping and comparing look at every item, and several times at each."""
    before = budget().steps
    weigh([*values, *named.values()], opaque=True)
    budget().step(3 * (budget().steps - before))
    for value in values:
        check_pieces(value)


def _listed(value: Any, *_: Any, **__: Any) -> None:
    if isinstance(value, str):
        check_pieces(value)
        budget().pay(0 if value.isascii() else 76 * len(value))  # characters beyond Latin-1 are not shared
    elif hasattr(value, "__len__"):
        budget().step(1 + len(value))


def _chunked(value: Any, count: int, fill_with: Any = None) -> None:
    del fill_with
    check_width(count)
    _listed(value)


def _centered(value: Any, width: int = 80) -> None:
    check_width(width)
    weigh(value, 4)


def _indented(value: Any, width: Any = 4, first: Any = False, blank: Any = False) -> None:
    del first, blank
    check_width(width)
    weigh(value, 2)
    check_pieces(value)
    by = len(width) * 4 if isinstance(width, str) else width
    budget().pay(len(value.splitlines()) * by)


def _trimmed(value: Any, chars: Any = None) -> None:
    weigh(value)
    check_scan(text(value), chars)


def _wrapped(
    value: str,
    width: int = 79,
    break_long_words: Any = True,
    wrapstring: str | None = None,
    break_on_hyphens: Any = True,
) -> None:
    """Breaking up one long word takes time quadratic in its length."""
    del width, break_long_words, break_on_hyphens
    check_pieces(value)
    longest = sum(len(word) ** 2 for word in value.split())
    budget().step(len(value) // 4 + longest // 256)
    budget().pay(len(value) * (4 + 4 * len(wrapstring or "")))


def _rounded(value: Any, precision: int = 0, method: Any = "common") -> None:
    del method
    if not isinstance(value, int | float):
        raise TypeError
    check_numbers(value)
    if abs(precision) > 100:
        raise too_large()


def _summed(value: Any, attribute: Any = None, start: Any = 0) -> None:
    """Adding up lists takes time quadratic in their number; prompts add up numbers."""
    del attribute
    if not isinstance(start, int | float):
        raise TypeError
    _listed(value)


def _as_json(value: Any, indent: int | None = None) -> None:
    check_width(indent)
    before = budget().steps
    depth = weigh(value, 6)
    budget().pay((budget().steps - before) * (indent or 0) * (depth + 1))


def _joined(value: Any, d: Any = "", attribute: Any = None) -> None:
    """The separator counts once for every item."""
    del attribute
    before = budget().steps
    weigh(value, 2)
    count = len(value) if isinstance(value, str) else budget().steps - before
    budget().step(count)
    budget().reserve(count * 4 * len(text(d)))


def _replaced(value: Any, old: Any, new: Any, count: Any = None) -> None:
    del count
    weigh([value, old, new])
    check_replace(text(value), text(old), text(new))


def _formatted(value: Any, *arguments: Any, **named: Any) -> None:
    check_format(text(value), named or arguments)


def _counted_words(value: Any) -> None:
    weigh(value)
    check_pieces(text(value))


def _divided(value: Any, by: Any = 2) -> None:
    """`%` on a text would format it."""
    if not (isinstance(value, int | float) and isinstance(by, int | float)):
        raise TypeError
    check_numbers(value, by)


def _metered(function: Callable[..., Any], check: _Check) -> Callable[..., Any]:
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)  # keeps Jinja2's own mark of what to pass first
    def run(*args: Any, **kwargs: Any) -> Any:
        budget().step()
        check(*args[skipped:], **kwargs)
        return taken(function(*args, **kwargs))

    return run


def _nothing_yet(*_: Any, **__: Any) -> None:
    pass


# What these return is there already, or is a number.
_FREE = ("d", "default", "first", "last", "length", "count", "abs", "int", "float", "attr", "filesizeformat")
_CHECKS: dict[str, _Check] = {
    **dict.fromkeys(("lower", "upper", "capitalize", "string", "safe"), _texts(3)),
    **dict.fromkeys(("escape", "e", "forceescape", "urlencode"), _texts(6)),
    **dict.fromkeys(("map", "select", "reject", "selectattr", "rejectattr"), _nothing_yet),
    **dict.fromkeys(("list", "reverse", "items"), _listed),
    **dict.fromkeys(("sort", "unique", "min", "max", "dictsort", "groupby"), _ordered),
    **dict.fromkeys(("batch", "slice"), _chunked),
    "title": _texts(16),
    "truncate": _texts(1),
    "trim": _trimmed,
    "wordcount": _counted_words,
    "join": _joined,
    "replace": _replaced,
    "indent": _indented,
    "wordwrap": _wrapped,
    "center": _centered,
    "format": _formatted,
    "round": _rounded,
    "sum": _summed,
    "tojson": _as_json,
}
_TEST_CHECKS: dict[str, _Check] = {
    **dict.fromkeys(("lower", "upper"), _texts(1)),
    **dict.fromkeys(("odd", "even", "divisibleby"), _divided),
    **dict.fromkeys(("in", "==", "eq", "equalto", "!=", "ne", ">", "gt", "greaterthan"), _ordered),
    **dict.fromkeys(("ge", ">=", "<", "lt", "lessthan", "<=", "le"), _ordered),
}
FILTERS: dict[str, Callable[..., Any]] = {
    **{name: _JINJA[name] for name in _FREE},
    **{name: _metered(_JINJA[name], check) for name, check in _CHECKS.items()},
}
TESTS: dict[str, Callable[..., Any]] = {
    name: _metered(test, _TEST_CHECKS[name]) if name in _TEST_CHECKS else test
    for name, test in _TESTS.items()
}
