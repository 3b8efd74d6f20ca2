"""What one rendering may cost, and how the cost of an operation is known before it runs.

Loops and values decide what a template costs, so nothing read from its text alone can bound it. A
budget counts steps and bytes, which are the same on every machine. A step is a round, a call, an item
an operation goes through, or a kilobyte of text it reads; it stands for about five microseconds. Bytes
are those of the texts and lists made on the way. Operations that run inside C cannot be interrupted,
so each is paid for before it starts. The clock is the net below: every round of every loop looks at it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from jinja2.runtime import Undefined

from llm_gateway.errors import RenderLimitExceeded

TIME_LIMIT_S = 2.0
MAX_STEPS = 400_000
QUICK_TIME_S = 0.02
QUICK_STEPS = 2_000
QUICK_BYTES = 1_000_000
_SPARE_BYTES = 24_000_000
_BYTES_PER_CHAR = 8
_MAX_DEPTH = 100
_CLOCK_EVERY = 32  # steps
_CHARS_PER_STEP = 1_024
MAX_INT_BITS = 10_000
_SMALL_BITS = 1_024
_SQUARE_BITS_PER_STEP = 1 << 22
_SMALL_PIECE = 64  # characters of a number, which are paid for where the text is put together
_SMALL = 10_000  # characters that need no look at what they are made of

_CONTAINERS = (list, tuple, dict)


class Budget:
    """What is left to one rendering; once spent, every further operation fails."""

    __slots__ = ("_bytes", "_look_at", "_max_bytes", "_max_steps", "_steps", "clock", "deadline")

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
        self.clock = clock
        limit = clock() + time_limit_s
        self.deadline = limit if deadline is None else min(limit, deadline)
        self._steps = 0
        self._look_at = _CLOCK_EVERY
        self._bytes = 0

    @property
    def steps(self) -> int:
        """Steps taken so far."""
        return self._steps

    @property
    def size(self) -> int:
        """Bytes made so far."""
        return self._bytes

    def step(self, count: int = 1) -> None:
        """Pay for `count` steps."""
        self._steps += count
        if self._steps >= self._look_at:
            if self._steps > self._max_steps:
                raise too_large()
            self._look_at = self._steps + _CLOCK_EVERY
            self.look()

    def look(self) -> None:
        """Look at the clock."""
        if self.clock() > self.deadline:
            raise RenderLimitExceeded("Rendering the prompt takes too long.", param="variables")

    def scan(self, chars: int) -> None:
        """Pay for reading `chars` characters."""
        self.step(1 + chars // _CHARS_PER_STEP)

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


def digits(number: int) -> None:
    """Pay for writing a whole number down, which takes time quadratic in its length."""
    bits = number.bit_length()
    if bits > _SMALL_BITS:
        budget().step(1 + bits * bits // _SQUARE_BITS_PER_STEP)


def calculated(number: int) -> None:
    """Pay for calculating with a whole number; refuse one that no prompt has."""
    if number.bit_length() > MAX_INT_BITS:
        raise too_large()
    digits(number)


@dataclass(frozen=True, slots=True)
class Weight:
    """What an operation that walks through all of a value meets.

    Attributes:
        size: Bytes of the texts and containers in it, each as often as it occurs.
        items: Values in it, the keys of mappings included.
        depth: Levels of containers below one another; 0 for a text or a number.
        ascii: True if all its texts are ASCII.
    """

    size: int
    items: int
    depth: int
    ascii: bool


class _Walk:
    """One walk through a value."""

    __slots__ = ("_opaque", "ascii", "items", "size")

    def __init__(self, opaque: bool) -> None:
        self._opaque = opaque
        self.size = 0
        self.items = 0
        self.ascii = True

    def inside(self, level: Iterable[Any]) -> list[Iterable[Any]]:
        """The contents of one level's containers; the level itself is paid for."""
        inner: list[Iterable[Any]] = []
        for item in level:
            if isinstance(item, str):
                self.size += sys.getsizeof(item)
                self.ascii = self.ascii and item.isascii()
                if len(item) >= _CHARS_PER_STEP:
                    budget().scan(len(item))
            elif isinstance(item, _CONTAINERS):
                inner += self._contents(item)
            elif isinstance(item, int):
                digits(item)
            elif not (item is None or isinstance(item, float | Undefined) or self._opaque):
                raise TypeError(type(item).__name__)
        return inner

    def _contents(self, item: list[Any] | tuple[Any, ...] | dict[Any, Any]) -> list[Iterable[Any]]:
        budget().step(1 + len(item))
        self.size += sys.getsizeof(item)
        self.items += len(item)
        return [item, item.values()] if isinstance(item, dict) else [item]


def weigh(value: Any, opaque: bool = False) -> Weight:
    """Pay for an operation that walks through all of `value`, a step for each item and kilobyte.

    A list that holds another one twice is small in memory and huge to print or to compare, so every
    occurrence is counted.

    Args:
        value: Whatever the operation works on.
        opaque: Take values that are none of JSON's as they come; they are compared by identity.

    Raises:
        RenderLimitExceeded: The budget does not suffice, or the value is nested too deeply.
        TypeError: The value is none of JSON's, such as a macro.
    """
    walk = _Walk(opaque)
    depth = 0
    level: list[Iterable[Any]] = walk.inside((value,))
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise too_large()
        level = [below for contents in level for below in walk.inside(contents)]
    return Weight(walk.size, walk.items, depth, walk.ascii)


def text(value: Any) -> str:
    """`str(value)` of a JSON value: a list may hold one long text a million times.

    Raises:
        RenderLimitExceeded: The budget does not suffice.
        TypeError: The value is none of JSON's, such as a macro.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        if value.bit_length() > _SMALL_BITS:
            digits(value)
    elif isinstance(value, _CONTAINERS):
        reserve_repr(weigh(value))
    elif not (value is None or isinstance(value, float | Undefined)):
        raise TypeError(type(value).__name__)
    made = str(value)
    if len(made) > _SMALL_PIECE:
        budget().pay(len(made))
    return made


def reserve_repr(weight: Weight) -> None:
    """Make sure of the bytes for writing a value down as Python does, escapes included."""
    budget().reserve(weight.size * (4 if weight.ascii else 10) + 8 * weight.items)
