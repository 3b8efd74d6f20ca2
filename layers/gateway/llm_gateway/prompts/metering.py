"""What one rendering may cost, and how the cost of an operation is known before it runs.

Loops and values decide what a template costs, so nothing read from its text alone can bound it. A
budget counts steps (rounds, calls, items an operation walks through) and bytes (texts and lists made
on the way); both grow the same on every machine. The clock is only the net below them. Operations
that run inside C cannot be interrupted, so each is paid for before it starts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeGuard

from jinja2.runtime import Undefined

from llm_gateway.errors import RenderLimitExceeded

TIME_LIMIT_S = 2.0
MAX_STEPS = 400_000
_SPARE_BYTES = 24_000_000
_BYTES_PER_CHAR = 8
_MAX_DEPTH = 100
_CLOCK_EVERY = 32
_SMALL = 10_000  # characters that need no look at what they are made of

_SCALARS = (int, float, bool, type(None))
_SEQUENCES = (list, tuple, KeysView, ValuesView, ItemsView)
_CONTAINERS = (*_SEQUENCES, dict)


class Budget:
    """What is left to one rendering; once spent, every further operation fails."""

    __slots__ = ("_bytes", "_clock", "_deadline", "_max_bytes", "_max_steps", "_spent", "_steps")

    def __init__(
        self,
        max_chars: int,
        time_limit_s: float = TIME_LIMIT_S,
        clock: Callable[[], float] = time.monotonic,
        *,
        max_steps: int = MAX_STEPS,
        max_bytes: int | None = None,
        deadline: float | None = None,
    ) -> None:
        """Open a budget; its time begins now.

        Args:
            max_chars: Longest text the rendering may give; the bytes it may make grow with it.
            time_limit_s: Seconds it may take.
            clock: Seconds that only grow.
            max_steps: Steps it may take.
            max_bytes: Bytes it may make; by default 24 MB and 8 bytes for each of `max_chars`.
            deadline: Time of `clock` at which it must have ended; the earlier of this and the time
                limit counts.
        """
        self._max_bytes = _SPARE_BYTES + _BYTES_PER_CHAR * max_chars if max_bytes is None else max_bytes
        self._max_steps = max_steps
        self._clock = clock
        limit = clock() + time_limit_s
        self._deadline = limit if deadline is None else min(limit, deadline)
        self._steps = 0
        self._bytes = 0
        self._spent = 0

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return self._steps

    def step(self, count: int = 1) -> None:
        """Pay for `count` steps."""
        self._steps += count
        if self._steps > self._max_steps:
            raise too_large()
        self._spent += 1
        if self._spent % _CLOCK_EVERY == 0 and self._clock() > self._deadline:
            raise RenderLimitExceeded("Rendering the prompt takes too long.", param="variables")

    def reserve(self, size: int) -> None:
        """Refuse to begin what would need `size` more bytes than are left; pays nothing."""
        if self._bytes + size > self._max_bytes:
            raise too_large()

    def pay(self, size: int) -> None:
        """Pay for `size` bytes."""
        self._bytes += size
        if self._bytes > self._max_bytes:
            raise too_large()


_current: ContextVar[Budget] = ContextVar("render_budget")


@contextmanager
def spending(budget: Budget) -> Iterator[None]:
    """Everything rendered inside is paid for by `budget`; rendering never awaits, so nothing else is."""
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)


def budget() -> Budget:
    """The budget of the rendering that is under way."""
    return _current.get()


def too_large() -> RenderLimitExceeded:
    """The refusal of work that is out of proportion; says nothing of what it was."""
    return RenderLimitExceeded("The rendered prompt is too large.", param="variables")


def width(text: str) -> int:
    """Bytes per character, never too few: a wide character widens the whole text it is joined to."""
    return 1 if text.isascii() else max(1, min(4, (sys.getsizeof(text) - 56) // (len(text) + 1)))


def joined(parts: list[str], separator: str = "") -> str:
    """`separator.join(parts)`, paid for first."""
    left = budget()
    left.step(1 + len(parts) // 16)
    length = sum(map(len, parts)) + len(separator) * len(parts)
    if length > _SMALL:
        left.reserve(length)
        left.reserve(length * max(map(width, [separator, *parts])))
    result = separator.join(parts)
    left.pay(sys.getsizeof(result))
    return result


def text(value: Any) -> str:
    """`str(value)` of a JSON value: a list may hold one long text a million times."""
    if isinstance(value, str):
        return value
    weigh(value, factor=4)
    return str(value)


def weigh(value: Any, factor: int = 1, opaque: bool = False) -> int:
    """Pay for an operation that walks through all of `value`; return how deep that goes.

    A list that holds another one twice is small in memory and huge to print or to compare, so every
    occurrence is counted.

    Args:
        value: Whatever the operation works on.
        factor: How many times larger than the value the result may be.
        opaque: Take objects that are no JSON value as they come; they are compared by identity.

    Raises:
        RenderLimitExceeded: The budget does not suffice.
        TypeError: The value is none of JSON's, such as a macro.
    """
    left = budget()
    depth = 0
    level = [value]
    while True:
        inner: list[Any] = []
        for item in level:
            if isinstance(item, str):
                left.pay(factor * sys.getsizeof(item))
            elif not isinstance(item, _SCALARS):
                inner += _items(left, item, factor, opaque)
        if not inner:
            return depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise too_large()
        level = inner


def _items(left: Budget, value: Any, factor: int, opaque: bool) -> Iterable[Any]:
    """What a value holds, paid for."""
    if isinstance(value, range):
        left.step(1 + len(value) // 16)
        return ()
    if isinstance(value, _CONTAINERS):
        left.step(1 + len(value))
        left.pay(factor * sys.getsizeof(value))
        return [*value, *value.values()] if isinstance(value, dict) else value
    if opaque or isinstance(value, Undefined):
        return ()
    raise TypeError(type(value).__name__)


def taken(result: Any) -> Any:
    """What an operation made, paid for; a lazy result is computed here, where each item counts.

    Lazy results are not handed on: nested in one another they end in Python's own recursion.
    """
    left = budget()
    if isinstance(result, Iterator):
        result = list(counted(result, weight=2))
    if isinstance(result, str):
        left.pay(sys.getsizeof(result))
    elif isinstance(result, list | tuple | dict):
        left.step(len(result) // 4)
        left.pay(sys.getsizeof(result))
        if _nested(result):
            left.pay(sum(sys.getsizeof(item) for item in result if isinstance(item, list | tuple)))
    return result


def _nested(result: object) -> TypeGuard[list[object]]:
    return isinstance(result, list) and any(isinstance(item, list | tuple) for item in result)


def counted(items: Any, weight: int = 1) -> Any:
    """`items` for a loop whose rounds cost `weight` steps each."""
    if isinstance(items, (str, range, *_CONTAINERS)):
        budget().step(1 + len(items) * weight)
        return items
    return _each_counted(iter(items), weight)


def _each_counted(items: Iterator[Any], weight: int) -> Iterator[Any]:
    for item in items:
        budget().step(weight)
        yield item
