"""Jinja2 for prompts: plain text out, JSON values in, nothing reachable behind them, no end of work.

Every operation whose cost depends on a value is paid for from the rendering's budget. Operators,
calls, filters and printing have hooks in Jinja2; loops, `~`, comparisons and slices have none, so
the syntax tree is rewritten to send those through filters of our own (see `rewriting`).
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from jinja2 import StrictUndefined, pass_eval_context
from jinja2.nodes import EvalContext
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, Undefined, markup_join
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace
from typing_extensions import override

from llm_gateway.prompts import filters
from llm_gateway.prompts.metering import budget, counted, joined, taken, text, too_large, weigh, width
from llm_gateway.prompts.rewriting import BODY, COMPARED, CONCAT, ROUNDS, TAKEN

GLOBALS = ("range", "dict", "namespace")
_MAX_PRODUCT = 10_000_000
_PLAIN = (str, int, Undefined)
_PIECES = frozenset({"split", "rsplit", "splitlines"})
_SCANS = frozenset({"strip", "lstrip", "rstrip", "rfind", "rindex", "rsplit", "rpartition"})
_PADS = frozenset({"center", "ljust", "rjust", "zfill"})
_METHODS: tuple[tuple[type, frozenset[str]], ...] = (
    (
        str,
        _PIECES
        | _SCANS
        | _PADS
        | {"capitalize", "casefold", "count", "endswith", "find", "format", "format_map", "index"}
        | {"isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "islower", "isnumeric", "isspace"}
        | {"istitle", "isupper", "join", "lower", "partition", "removeprefix", "removesuffix"}
        | {"replace", "startswith", "swapcase", "title", "upper"},
    ),
    (dict, frozenset({"get", "items", "keys", "values"})),
    (float, frozenset({"is_integer"})),
    (tuple, frozenset({"count", "index", "grouper", "list"})),  # the last two are of `groupby`
    (list, frozenset({"count", "index"})),
    (Macro, frozenset({"name", "arguments", "caller", "catch_kwargs", "catch_varargs"})),
    (BlockReference, frozenset({"super"})),
    (
        LoopContext,
        frozenset({"changed", "cycle", "depth", "depth0", "first", "index", "index0", "last", "length"})
        | {"nextitem", "previtem", "revindex", "revindex0"},
    ),
)


class PromptEnvironment(ImmutableSandboxedEnvironment):
    """The environment that prompts are compiled in and run by; one serves all of them."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})
    concat = staticmethod(lambda parts: joined(list(parts)))  # what macros and blocks collect

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # the optimizer computes constants at compile time, whatever their size
            finalize=_printed,
        )
        self.globals = {name: self.globals[name] for name in GLOBALS}
        self.filters = {**filters.FILTERS, **_OWN_FILTERS}
        self.tests = dict(filters.TESTS)

    @override
    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`'a' * 10**9` costs nothing to write and a gigabyte to compute."""
        budget().step()
        filters.check_numbers(left, right)
        if operator == "%" and isinstance(left, str):
            filters.check_format(left, right)
        elif operator == "+":
            _check_sum(left, right)
        elif operator in ("*", "**"):
            _check_product(operator, left, right)
        return taken(super().call_binop(context, operator, left, right))

    @override
    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Jinja2 passes its own keyword arguments too, whose names begin with an underscore."""
        budget().step(1 + len(args) + len(kwargs))
        if isinstance(__obj, LoopContext):
            args = (counted(args[0], weight=4), *args[1:]) if args else args
        elif isinstance(__obj, types.BuiltinMethodType):
            _check_method(__obj, args, kwargs)
        elif __obj in (dict, Namespace) or isinstance(__obj, types.MethodType):
            weigh([*args, *kwargs.values()], opaque=True)
        result = super().call(__context, __obj, *args, **kwargs)
        if isinstance(getattr(__obj, "__self__", None), str):
            weigh(result)
        return result

    @override
    def getattr(self, obj: Any, attribute: str) -> Any:
        """`order.items` means the field of that name, if there is one, not the dict's method."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    @override
    def getitem(self, obj: Any, argument: Any) -> Any:
        """A path of fields given as text (`map(attribute=…)`) comes here once for each field."""
        budget().step()
        if not isinstance(argument, str | int):
            weigh(argument, opaque=True)
        return super().getitem(obj, argument)

    @override
    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Methods and properties by allow-list: those left out pad or copy without a bound."""
        if isinstance(obj, Namespace):
            return not attr.startswith("_")
        known = next((names for kind, names in _METHODS if isinstance(obj, kind)), frozenset[str]())
        return attr in known and super().is_safe_attribute(obj, attr, value)

    @override
    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if not isinstance(value, types.BuiltinMethodType) or value.__name__ not in ("format", "format_map"):
            return None
        pattern = value.__self__
        if not isinstance(pattern, str):
            return None
        whole = value.__name__ == "format_map"

        def run(*args: Any, **kwargs: Any) -> str:
            return _Formatter(self).vformat(str(pattern), () if whole else args, args[0] if whole else kwargs)

        return run


@cache
def environment() -> PromptEnvironment:
    """The one environment of this process."""
    return PromptEnvironment()


class _Formatter(SandboxedFormatter):
    @override
    def format_field(self, value: Any, format_spec: str) -> str:
        """A field's width may come from a variable, so it is checked once it is known."""
        budget().step()
        filters.check_numbers(value)
        for digits in "".join(char if char.isdigit() else " " for char in format_spec).split():
            filters.check_width(int(digits[:9]))
        plain = value if isinstance(value, int | float) else text(value)
        return str(taken(super().format_field(plain, format_spec)))

    @override
    def convert_field(self, value: Any, conversion: Any) -> Any:
        if conversion is not None:
            weigh(value, factor=10)
        return super().convert_field(value, conversion)


def _check_sum(left: Any, right: Any) -> None:
    if isinstance(left, str) and isinstance(right, str):
        budget().reserve((len(left) + len(right)) * max(width(left), width(right)))
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        budget().reserve((len(left) + len(right)) * 8)


def _check_product(operator: str, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length()
        product = bits * max(right, 0) if operator == "**" else bits + right.bit_length()
        if product > filters.MAX_INT_BITS:
            raise too_large()
        return
    times, repeated = (left, right) if isinstance(left, int) else (right, left)
    if isinstance(times, int) and isinstance(repeated, str | list | tuple):
        length = times * len(repeated)
        if length > _MAX_PRODUCT:
            raise too_large()
        budget().reserve(length * (width(repeated) if isinstance(repeated, str) else 8))


def _check_method(method: types.BuiltinMethodType, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    owner, name = method.__self__, method.__name__
    given = [*args, *(value for key, value in kwargs.items() if not key.startswith("_"))]
    if isinstance(owner, list | tuple):
        weigh([owner, *given], opaque=True)
    elif isinstance(owner, dict):
        weigh(args[:1], opaque=True)
    elif isinstance(owner, str):
        weigh([owner, *given], factor=3)
        _check_text_method(owner, name, given)


def _check_text_method(owner: str, name: str, given: list[Any]) -> None:
    if name in _PADS:
        filters.check_width(*given)
    if name in _PIECES:
        filters.check_pieces(owner)
    if name in _SCANS:
        for searched in given:
            filters.check_scan(owner, searched)
    if name == "replace" and len(given) > 1 and all(isinstance(part, str) for part in given[:2]):
        filters.check_replace(owner, given[0], given[1])
    if name == "join" and given and hasattr(given[0], "__len__"):
        budget().reserve(len(owner) * len(given[0]) * 4)


@pass_eval_context
def _printed(_: EvalContext, value: Any) -> Any:
    """Asking for Jinja2's context keeps it from printing constants at compile time."""
    return value if isinstance(value, _PLAIN) else text(value)


@pass_eval_context
def _concatenated(context: EvalContext, parts: Iterable[Any]) -> str:
    texts = [part if isinstance(part, str) else text(part) for part in parts]
    if not context.autoescape:
        return joined(texts)
    weigh(texts, factor=6)
    return markup_join(parts)


def _compared(value: Any) -> Any:
    if not isinstance(value, _PLAIN):
        weigh(value, opaque=True)
    return value


def _paid_body(weight: int) -> None:
    budget().step(weight)


_OWN_FILTERS: dict[str, Callable[..., Any]] = {
    ROUNDS: counted,
    CONCAT: _concatenated,
    COMPARED: _compared,
    TAKEN: taken,
    BODY: _paid_body,
}
