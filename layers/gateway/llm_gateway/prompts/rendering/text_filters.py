"""Filters that make a text or read one; each is paid for before it runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, cast

from jinja2 import pass_environment
from jinja2.environment import Environment
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.runtime import Undefined
from markupsafe import escape

from llm_gateway.prompts.rendering import texts
from llm_gateway.prompts.rendering.formatting import percent
from llm_gateway.prompts.rendering.metering import budget, calculated, text, weigh, width
from llm_gateway.prompts.rendering.texts import check_width, read, reserve_pieces

_JINJA = cast(dict[str, Callable[..., Any]], JINJA_FILTERS)
_WORDS_AND_BLANKS = re.compile("[\t\n\x0b\x0c\r ]+|[^\t\n\x0b\x0c\r ]+")
_LONGEST_NUMBER = 4_300  # digits; Python reads no decimal number that is longer


def cased(change: Callable[[str], str]) -> Callable[[Any], str]:
    """A change of letters."""
    change_text = texts.changed(change)

    def run(value: Any) -> str:
        return change_text(text(value))

    return run


def titled(value: Any) -> str:
    """Each word with a capital."""
    whole = text(value)
    reserve_pieces(whole, len(whole))
    budget().step(len(whole) // 16)
    return str(_JINJA["title"](whole))


def escaped(value: Any) -> str:
    """The text with HTML's signs written as entities."""
    whole = text(value)
    read(whole)
    budget().reserve(5 * len(whole) * width(whole))
    return str(escape(whole))


def url_encoded(value: Any) -> str:
    """A text, or the fields of a mapping, as part of a URL."""
    weight = weigh(value)
    budget().step(weight.size // 64)
    budget().reserve(32 * weight.size)
    return str(_JINJA["urlencode"](value))


def trimmed(value: Any, chars: str | None = None) -> str:
    """The text without blanks, or `chars`, at its ends."""
    return texts.stripped(str.strip)(text(value), chars)


@pass_environment
def truncated(
    environment: Environment,
    s: Any,
    length: int = 255,
    killwords: bool = False,
    end: str = "...",
    leeway: int | None = None,
) -> str:
    """The beginning of a text."""
    if isinstance(length, float) or isinstance(leeway, float):
        raise TypeError("a length is a whole number")
    whole = text(s)
    read(whole)
    budget().reserve(2 * len(whole) * width(whole))
    return str(_JINJA["truncate"](environment, whole, length, killwords, end, leeway))


def words(s: Any) -> int:
    """How many words a text has."""
    whole = text(s)
    budget().step(1 + len(whole) // 32)
    return sum(1 for _ in re.finditer(r"\w+", whole))


def replaced(s: Any, old: Any, new: Any, count: int | None = None) -> str:
    """The text with one part of it replaced by another."""
    return texts.replaced(text(s), text(old), text(new), -1 if count is None else count)


def indented(s: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """The lines of a text moved to the right."""
    check_width(width)
    whole = text(s)
    count = len(texts.lines(whole)) + 1
    by = len(width) * 4 if isinstance(width, str) else abs(width)
    budget().step(count // 8)
    budget().reserve(4 * len(whole) + count * by)
    return str(_JINJA["indent"](whole, width, first, blank))


@pass_environment
def wrapped(
    environment: Environment,
    s: Any,
    width: int = 79,
    break_long_words: bool = True,
    wrapstring: str | None = None,
    break_on_hyphens: bool = True,
) -> str:
    """The text in lines of a width.

    Taking a word apart that is longer than a line takes time quadratic in its length.
    """
    if not (isinstance(width, int) and isinstance(wrapstring, str | None)):
        raise TypeError("a width is a whole number, and what stands between lines is a text")
    whole = text(s)
    count = len(texts.lines(whole))
    longest = sum(len(word[0]) ** 2 for word in _WORDS_AND_BLANKS.finditer(whole))
    budget().step(2 * count + len(whole) // 8 + longest // (2_000 * max(1, width)))
    most = len(whole) if width < 4 else count + len(whole) // 2
    budget().reserve(len(whole) * 8 + most * 4 * len(wrapstring or ""))
    return str(_JINJA["wordwrap"](environment, whole, width, break_long_words, wrapstring, break_on_hyphens))


def centered(value: Any, width: int = 80) -> str:
    """The text in the middle of a line."""
    return texts.padded(str.center)(text(value), width)


def formatted(value: Any, *args: Any, **kwargs: Any) -> str:
    """`value % args`."""
    return percent(text(value), kwargs or args)


def as_json(value: Any, indent: int | None = None) -> str:
    """The value as JSON, with HTML's signs escaped."""
    if not isinstance(indent, int | None):
        raise TypeError("an indentation is a whole number")
    check_width(indent)
    weight = weigh(value)
    budget().step(weight.items)
    longest = 6 * weight.size + weight.items * (8 + (indent or 0) * (weight.depth + 1))
    budget().reserve(2 * longest)
    made = json.dumps(value, sort_keys=True, indent=indent)
    for sign in "<>&'":
        made = made.replace(sign, f"\\u{ord(sign):04x}")
    return made


def sized(value: Any, binary: bool = False) -> str:
    """A number of bytes for people."""
    return str(_JINJA["filesizeformat"](number(value), binary))


def whole_number(value: Any, default: Any = 0, base: int = 10) -> Any:
    """The number that a text holds, without what comes after the point; else `default`."""
    _read_number(value)
    found = _JINJA["int"](value, default, base)
    if isinstance(found, int):
        calculated(found)
    return found


def fraction(value: Any, default: Any = 0.0) -> Any:
    """The number that a text holds; else `default`."""
    _read_number(value)
    return _JINJA["float"](value, default)


def number(value: Any) -> Any:
    """The value, paid for, if it may be read as a number."""
    _read_number(value)
    return value


def _read_number(value: Any) -> None:
    """Reading digits takes time quadratic in their number; Python reads only so many.

    Raises:
        UndefinedError: There is no value.
    """
    if isinstance(value, str):
        read(value)
        budget().reserve(10 * len(value) * width(value))  # Python's error writes down what is no number
        budget().step(min(len(value), _LONGEST_NUMBER) ** 2 >> 20)
    elif isinstance(value, Undefined):
        float(value)
