"""Jinja2 for prompts: plain text out, JSON values in, nothing reachable behind them, no end of work.

Every way from one value to another leads through this environment or through a filter of ours:
attributes and items through `world.part`, methods through the table in `methods`, functions through
that in `functions`, operators through `operators`. Each pays from the rendering's budget before it
runs, and what it makes is a value of the closed world or an error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import StrictUndefined, pass_eval_context
from jinja2.exceptions import TemplateRuntimeError
from jinja2.nodes import EvalContext
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, TemplateReference, Undefined
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import missing
from typing_extensions import override

from llm_gateway.prompts.rendering import metered_tree, operators
from llm_gateway.prompts.rendering.conditions import TESTS
from llm_gateway.prompts.rendering.filters import FILTERS
from llm_gateway.prompts.rendering.functions import FUNCTIONS, paired
from llm_gateway.prompts.rendering.metering import budget, joined, text, weigh
from llm_gateway.prompts.rendering.methods import methods_of
from llm_gateway.prompts.rendering.world import Function, Method, Rounds, admitted, belonging, part

GLOBALS = tuple(FUNCTIONS)
_PRINTED_AS_THEY_ARE = (str, Undefined)
_OWN_KEYWORDS = ("_loop_vars", "_block_vars")  # Jinja2 adds them to calls


class PromptEnvironment(SandboxedEnvironment):
    """The environment that prompts are compiled in and run by; one serves all of them."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})
    concat = staticmethod(lambda parts: _together(parts))  # what macros and blocks collect

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,  # the optimizer computes constants at compile time, whatever their size
            finalize=_printed,
        )
        self.globals = dict(FUNCTIONS)
        self.filters = {**FILTERS, **_OWN_FILTERS}
        self.tests = dict(TESTS)

    @override
    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        return admitted(operators.calculate(operator, self.binop_table[operator], left, right))

    @override
    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call what may be called: a macro, a method or function of ours, a block, a recursive loop.

        Raises:
            TypeError: It is none of these.
        """
        budget().step(1 + len(args) + len(kwargs))
        for own in _OWN_KEYWORDS:
            kwargs.pop(own, None)
        if isinstance(__obj, Method):
            return admitted(__obj.run(__obj.owner, *args, **kwargs))
        if isinstance(__obj, Function):
            return admitted(__obj.run(*args, **kwargs))
        if isinstance(__obj, LoopContext):
            (items,) = args
            return belonging(__obj(Rounds(items, weight=1), **kwargs))
        if isinstance(__obj, Macro | BlockReference):
            return belonging(__obj(*args, **kwargs))
        if isinstance(__obj, Undefined):
            return __obj()
        raise TypeError(type(__obj).__name__)

    @override
    def getattr(self, obj: Any, attribute: str) -> Any:
        """`order.items` is the field of that name; a method is looked up where it is called."""
        found = part(obj, attribute)
        return self.undefined(obj=obj, name=attribute) if found is missing else found

    @override
    def getitem(self, obj: Any, argument: Any) -> Any:
        """A path of fields given as text (`map(attribute=…)`) comes here once for each field."""
        budget().step()
        name = argument
        if not isinstance(argument, str | int):
            weigh(argument, opaque=True)
            name = type(argument).__name__  # an error writes it down, however long it is
        found = part(obj, argument)
        return self.undefined(obj=obj, name=name) if found is missing else found

    @override
    def _filter_test_common(self, name: Any, *args: Any, **kwargs: Any) -> Any:
        """Filters and tests whose name is a value (`map(name)`): those of the tables, and only they."""
        if not isinstance(name, str) or name in _OWN_FILTERS:
            raise TemplateRuntimeError("no such filter")
        return super()._filter_test_common(name, *args, **kwargs)


@cache
def environment() -> PromptEnvironment:
    """The one environment of this process."""
    return PromptEnvironment()


def _together(parts: Any) -> str:
    return joined([part if isinstance(part, str) else text(part) for part in parts])


@pass_eval_context
def _printed(_: EvalContext, value: Any) -> Any:
    """Asking for Jinja2's context keeps it from printing constants at compile time."""
    return value if isinstance(value, _PRINTED_AS_THEY_ARE) else text(value)


def _method(owner: Any, name: str) -> Any:
    """What `owner.name(…)` calls."""
    if isinstance(owner, TemplateReference | Undefined):
        return part(owner, name)
    run = methods_of(owner).get(name)
    if run is None:
        raise TypeError(f"no method of {type(owner).__name__}")
    return Method(owner, run)


def _unpacked(values: Any) -> list[Any]:
    """What `f(*values)` hands on."""
    if not isinstance(values, list | tuple):
        raise TypeError(type(values).__name__)
    budget().step(1 + len(values))
    return list(values)


def _unpacked_names(fields: Any) -> dict[str, Any]:
    """What `f(**fields)` hands on; a name that Jinja2 uses for itself is none of a template's."""
    if not isinstance(fields, dict):
        raise TypeError(type(fields).__name__)
    budget().step(1 + len(fields))
    if any(not isinstance(name, str) or name.startswith("_") for name in fields):
        raise TypeError("not a name")
    return dict(fields)


def _paid_body(weight: int) -> None:
    budget().step(weight)
    budget().look()


_OWN_FILTERS: dict[str, Callable[..., Any]] = {
    metered_tree.ROUNDS: Rounds,
    metered_tree.CONCAT: operators.concatenated,
    metered_tree.COMPARE: operators.compare,
    metered_tree.COMPARED: operators.compared,
    metered_tree.SLICE: lambda *bounds: admitted(operators.sliced(*bounds)),
    metered_tree.PAIRED: lambda pairs: admitted(paired(pairs)),
    metered_tree.BODY: _paid_body,
    metered_tree.METHOD: _method,
    metered_tree.UNPACKED: _unpacked,
    metered_tree.UNPACKED_NAMES: _unpacked_names,
    metered_tree.PRINTED: text,
}
