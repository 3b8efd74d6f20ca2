"""Operations on texts, each bounded and paid for before it runs.

Most take time and memory that grow with the text. Those that take more (searching backwards, cutting
into pieces, replacing by something longer, padding) have a price of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from llm_gateway.prompts.rendering.metering import budget, joined, too_large, width

MAX_WIDTH = 1_000
_ADAPTIVE_FROM = 30_000  # a forward search in a text this long takes linear time, whatever is sought
_PIECE = 64  # bytes of a short text and its place in a list
_WIDE_PIECE = 88
_Pieces = TypeVar("_Pieces", list[str], tuple[str, str, str])


def check_width(*widths: Any) -> None:
    """Refuse to pad without end; how wide a text may be padded is bounded, not what it holds.

    Raises:
        RenderLimitExceeded: A width is too large.
        TypeError: A width is a fraction, or not a number at all, which Python's wrapping never ends with.
    """
    for wide in widths:
        if isinstance(wide, float):
            raise TypeError("a width is a whole number")
        if isinstance(wide, int) and abs(wide) > MAX_WIDTH:
            raise too_large()


def read(value: str, *others: Any) -> None:
    """Pay for reading a text, and the other arguments that are texts."""
    budget().scan(len(value) + sum(len(other) for other in others if isinstance(other, str)))


def search(value: str, sought: Any, backwards: bool = False) -> None:
    """Pay for a search; backwards its time is the product of both lengths."""
    read(value)
    if isinstance(sought, str):
        places = max(0, len(value) - len(sought) + 1)
        if backwards:
            budget().step(places * len(sought) // 4_096)
        elif len(value) < _ADAPTIVE_FROM:
            budget().step(places * len(sought) // 65_536)


def changed(change: Callable[[str], str]) -> Callable[[str], str]:
    """A change of letters: beyond ASCII one may become three, each four bytes wide on the way."""

    def run(value: str) -> str:
        read(value)
        budget().reserve(len(value) * (2 if value.isascii() else 24))
        return change(value)

    return run


def tested(test: Callable[[str], bool]) -> Callable[[str], bool]:
    """A question about all characters of a text."""

    def run(value: str) -> bool:
        read(value)
        return test(value)

    return run


def found(find: Callable[..., int], backwards: bool = False) -> Callable[..., int]:
    """A search for the place of a text in another one."""

    def run(value: str, sub: str, start: int | None = None, end: int | None = None) -> int:
        search(value, sub, backwards)
        return find(value, sub, start, end)

    return run


def begins(test: Callable[..., bool]) -> Callable[..., bool]:
    """`startswith` or `endswith`."""

    def run(value: str, sought: Any, start: int | None = None, end: int | None = None) -> bool:
        if isinstance(sought, tuple):
            budget().step(len(sought))
            read("", *sought)
        else:
            read("", sought)
        return test(value, sought, start, end)

    return run


def stripped(strip: Callable[..., str]) -> Callable[..., str]:
    """Cutting characters off the ends: each is sought among all of `chars`."""

    def run(value: str, chars: str | None = None) -> str:
        read(value)
        budget().step(len(value) * len(chars or "") // 4_096)
        return strip(value, chars)

    return run


def without(remove: Callable[[str, str], str]) -> Callable[[str, str], str]:
    """`removeprefix` or `removesuffix`."""

    def run(value: str, affix: str) -> str:
        read(value, affix)
        return remove(value, affix)

    return run


def padded(pad: Callable[..., str]) -> Callable[..., str]:
    """Filling up to a width."""

    def run(value: str, width: int, fillchar: str = " ") -> str:
        check_width(width)
        read(value)
        budget().reserve(4 * (len(value) + MAX_WIDTH))
        return pad(value, width, fillchar)

    return run


def zeros(value: str, width: int) -> str:
    """`value.zfill(width)`."""
    check_width(width)
    read(value)
    return value.zfill(width)


def replaced(value: str, old: str, new: str, count: int = -1) -> str:
    """`value.replace(old, new, count)`."""
    if not (isinstance(old, str) and isinstance(new, str)):
        raise TypeError("replace takes texts")
    search(value, old)
    times = value.count(old)
    times = times if count < 0 else min(times, count)
    budget().step(times // 16)
    wide = max(width(value), width(new))
    budget().reserve((len(value) + times * max(0, len(new) - len(old))) * wide)
    search(value, old)
    return value.replace(old, new, count)


def split(backwards: bool) -> Callable[..., list[str]]:
    """`split` or `rsplit`."""

    def run(value: str, sep: str | None = None, maxsplit: int = -1) -> list[str]:
        if sep is None:
            reserve_pieces(value, None if maxsplit < 0 else maxsplit + 1)
        else:
            search(value, sep, backwards)
            times = value.count(sep) if sep else 0
            reserve_pieces(value, 1 + (times if maxsplit < 0 else min(times, maxsplit)))
        return pieces(value, value.rsplit(sep, maxsplit) if backwards else value.split(sep, maxsplit))

    return run


def reserve_pieces(value: str, most: int | None = None) -> None:
    """Make sure of the bytes for cutting a text up, a piece for every other character if nothing is known."""
    read(value)
    shortest = 3 if width(value) == 1 else 2  # of one character and what divides it: Latin ones are shared
    count = len(value) // shortest + 1 if most is None else min(most, len(value) + 1)
    budget().step(count // 32)
    piece = _PIECE if value.isascii() else _WIDE_PIECE
    budget().reserve(len(value) * width(value) + count * piece)


def pieces(value: str, made: _Pieces) -> _Pieces:
    """The pieces of a text, paid for."""
    piece = _PIECE if value.isascii() else _WIDE_PIECE
    budget().pay(len(value) * width(value) + len(made) * piece)
    return made


def lines(value: str, keepends: bool = False) -> list[str]:
    """`value.splitlines(keepends)`."""
    reserve_pieces(value)
    return pieces(value, value.splitlines(keepends))


def parted(backwards: bool) -> Callable[[str, str], tuple[str, str, str]]:
    """`partition` or `rpartition`."""

    def run(value: str, sep: str) -> tuple[str, str, str]:
        search(value, sep, backwards)
        budget().reserve(len(value) * width(value))
        return pieces(value, value.rpartition(sep) if backwards else value.partition(sep))

    return run


def listed(value: str, items: Any) -> str:
    """`value.join(items)`."""
    if not isinstance(items, str | list | tuple | dict):
        raise TypeError(type(items).__name__)
    budget().reserve(len(items) * 8)
    budget().step(1 + len(items) // 16)
    if not all(isinstance(item, str) for item in items):
        raise TypeError("join takes texts")
    return joined(list(items), value)
