"""The closed world of a template: what a value may be, and what may be looked up in it.

A value is one of JSON's (text, number, boolean, null, list, mapping), a tuple where Jinja2 makes one,
something undefined, or one of a few things that only a template makes: a macro, `loop`, a namespace,
`self` and its blocks, and a function of ours. Nothing else may come out of an operation, and Python's
own attributes of a value are never looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jinja2.filters import _GroupTuple
from jinja2.runtime import BlockReference, LoopContext, Macro, TemplateReference, Undefined
from jinja2.utils import Namespace, missing

from llm_gateway.prompts.rendering.metering import budget


@dataclass(frozen=True, slots=True)
class Function:
    """A function that a template calls by its name; no Python function is a value of a template.

    Attributes:
        run: What is called; it pays for itself.
    """

    run: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a value, on its way to being called; a template cannot hold on to it.

    Attributes:
        owner: The value.
        run: Takes the value and the arguments; it pays for itself.
    """

    owner: Any
    run: Callable[..., Any]


OPAQUE = (Macro, LoopContext, Namespace, TemplateReference, BlockReference, Function)
_OPAQUE = frozenset(OPAQUE)
_SCALARS = frozenset({str, int, bool, float, type(None)})
_CONTAINERS = frozenset({list, tuple, dict, _GroupTuple})
_OF_A_MACRO = frozenset({"name", "arguments", "caller", "catch_kwargs", "catch_varargs"})
OF_A_LOOP = frozenset(
    {"depth", "depth0", "first", "index", "index0", "last", "length", "nextitem", "previtem"}
    | {"revindex", "revindex0"}
)
_OF_A_GROUP = {"grouper": 0, "list": 1}


def admitted(result: Any) -> Any:
    """The result of an operation, paid for, if it belongs to the world.

    A lazy result is computed here, where each item counts: nested in one another they would end in
    Python's own recursion.

    Raises:
        TypeError: It is nothing that a template may hold.
    """
    if isinstance(result, Iterator):
        result = list(_counted(result))
    kind = type(result)
    if kind is str:
        budget().pay(sys.getsizeof(result))
    elif kind in _CONTAINERS:
        budget().step(len(result) // 4)
        budget().pay(sys.getsizeof(result))
        if kind is list:
            budget().pay(sum(sys.getsizeof(item) for item in result if isinstance(item, list | tuple)))
    else:
        belonging(result)
    return result


def belonging(value: Any) -> Any:
    """The value, if it belongs to the world; for what was there already, and so is paid for.

    Raises:
        TypeError: It is nothing that a template may hold.
    """
    kind = type(value)
    if not (kind in _SCALARS or kind in _CONTAINERS or kind in _OPAQUE or issubclass(kind, Undefined)):
        raise TypeError(kind.__name__)
    return value


def _counted(items: Iterator[Any]) -> Iterator[Any]:
    left = budget()
    for item in items:
        left.step(2)
        left.look()
        yield item


def part(value: Any, key: Any) -> Any:
    """What `value.key` or `value[key]` means; `missing` if there is no such thing.

    The items of a mapping, list, tuple or text; the fields of a namespace, of `loop`, of a macro and
    of a group of `groupby`; the blocks of `self`. Python's attributes of a value are none of these.

    Raises:
        UndefinedError: `value` itself is undefined.
    """
    if isinstance(value, dict | list | tuple | str):
        return _item(value, key)
    if isinstance(value, Undefined):
        return value[key]
    if not isinstance(key, str) or key.startswith("_"):
        return missing
    return _field(value, key)


def _item(value: Any, key: Any) -> Any:
    if isinstance(value, _GroupTuple) and isinstance(key, str):
        key = _OF_A_GROUP.get(key, key)
    try:
        return value[key]
    except (LookupError, TypeError):
        return missing


def _field(value: Any, name: str) -> Any:
    """A namespace's `getattr` looks into its own mapping; of the others only properties by name."""
    if isinstance(value, TemplateReference):
        try:
            return value[name]
        except KeyError:
            return missing
    known = (
        isinstance(value, Namespace)
        or (isinstance(value, LoopContext) and name in OF_A_LOOP)
        or (isinstance(value, Macro) and name in _OF_A_MACRO)
    )
    return getattr(value, name, missing) if known else missing


class Rounds:
    """The items of a loop; every round looks at the clock."""

    __slots__ = ("_items",)

    def __init__(self, items: Any, weight: int) -> None:
        """Pay for the rounds of a loop.

        Args:
            items: What the template loops over.
            weight: Steps of one round.

        Raises:
            TypeError: It is nothing to loop over.
        """
        if isinstance(items, Undefined):
            items = list(items)
        if not isinstance(items, str | list | tuple | dict):
            raise TypeError(type(items).__name__)
        budget().step(1 + len(items) * weight)
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        left = budget()
        clock, deadline = left.clock, left.deadline
        for item in self._items:
            if clock() > deadline:
                left.look()
            yield item
