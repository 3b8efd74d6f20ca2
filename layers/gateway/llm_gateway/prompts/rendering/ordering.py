"""Filters that sort, group and tell apart; they look at every item, and several times at each."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from operator import itemgetter
from typing import Any

from jinja2 import pass_environment
from jinja2.environment import Environment
from jinja2.filters import _GroupTuple, make_attrgetter, make_multi_attrgetter
from jinja2.runtime import Undefined

from llm_gateway.prompts.rendering import texts
from llm_gateway.prompts.rendering.metering import budget, too_large, weigh

_MAX_PATH = 1_000
_Filter = Callable[..., Any]


def walk(value: Any) -> None:
    """Pay for going through a value once.

    Raises:
        TypeError: It is nothing to go through.
        UndefinedError: It is undefined.
    """
    if isinstance(value, str):
        budget().step(1 + len(value) // 8)
        texts.reserve_pieces(value, len(value))
        budget().pay(0 if value.isascii() else 76 * len(value))  # characters beyond Latin-1 are not shared
    elif isinstance(value, list | tuple | dict):
        budget().step(1 + len(value) // 4)
        budget().reserve(len(value) * 8)
    elif isinstance(value, Undefined):
        len(value)
    else:
        raise TypeError(type(value).__name__)


def check_path(path: Any) -> None:
    """Refuse a path of fields (`'a.b'`) that no prompt has; it is taken apart at each use."""
    if isinstance(path, str) and len(path) > _MAX_PATH:
        raise too_large()


def items_of(value: Any) -> list[tuple[Any, Any]]:
    """The pairs of a mapping."""
    if isinstance(value, Undefined):
        return []
    if not isinstance(value, dict):
        raise TypeError(type(value).__name__)
    walk(value)
    budget().step(len(value) // 2)
    budget().pay(len(value) * 64)
    return list(value.items())


def _compare_all(value: Any) -> None:
    """Pay for sorting, grouping and the like, which look at every item, and several times at each."""
    before = budget().steps
    walk(value)
    items = len(value) if isinstance(value, str) else weigh(value, opaque=True).items
    budget().reserve(96 * items)
    budget().step(3 * (budget().steps - before) + (items if isinstance(value, str) else 0))


def _small(key: Any) -> Any:
    """What stands for a text where large and small letters are the same."""
    if not isinstance(key, str):
        return key
    budget().pay(len(key) * (4 if key.isascii() else 16))
    budget().scan(len(key))
    return key.lower()


def _as_it_is(key: Any) -> Any:
    if isinstance(key, str):
        budget().scan(len(key))
    return key


def _key(case_sensitive: bool) -> Callable[[Any], Any]:
    return _as_it_is if case_sensitive else _small


@pass_environment
def ordered(
    environment: Environment,
    value: Any,
    reverse: bool = False,
    case_sensitive: bool = False,
    attribute: Any = None,
) -> list[Any]:
    """The items in order."""
    check_path(attribute)
    _compare_all(value)
    key_of = make_multi_attrgetter(environment, attribute, postprocess=_key(case_sensitive))
    return sorted(value, key=key_of, reverse=reverse)


def largest(choose: Callable[..., Any]) -> _Filter:
    """`min` or `max`, which `choose` is."""

    @pass_environment
    def run(environment: Environment, value: Any, case_sensitive: bool = False, attribute: Any = None) -> Any:
        check_path(attribute)
        _compare_all(value)
        key_of = make_attrgetter(environment, attribute, postprocess=_key(case_sensitive))
        return choose(value, key=key_of, default=environment.undefined("the sequence is empty"))

    return run


def sorted_items(
    value: Any, case_sensitive: bool = False, by: str = "key", reverse: bool = False
) -> list[tuple[Any, Any]]:
    """The pairs of a mapping in order."""
    if not isinstance(value, dict):
        raise TypeError(type(value).__name__)
    _compare_all(value)
    place, key = ("key", "value").index(by), _key(case_sensitive)
    return sorted(items_of(value), key=lambda item: key(item[place]), reverse=reverse)


@pass_environment
def grouped(
    environment: Environment, value: Any, attribute: Any, default: Any = None, case_sensitive: bool = False
) -> list[Any]:
    """Groups of the items that have the same attribute; a group bears it as its first item has it."""
    check_path(attribute)
    _compare_all(value)
    key_of = make_attrgetter(environment, attribute, postprocess=_key(case_sensitive), default=default)
    name_of = make_attrgetter(environment, attribute, default=default)
    keyed = sorted(((key_of(item), item) for item in value), key=itemgetter(0))
    groups = [[item for _, item in members] for _, members in groupby(keyed, key=itemgetter(0))]
    budget().pay(sum(128 + 72 * len(group) for group in groups))
    return [_GroupTuple(name_of(group[0]), group) for group in groups]


@pass_environment
def unique(
    environment: Environment, value: Any, case_sensitive: bool = False, attribute: Any = None
) -> list[Any]:
    """The first of each; numbers are told apart by their digits, as anyone can choose their hashes."""
    check_path(attribute)
    _compare_all(value)
    key_of = make_attrgetter(environment, attribute, postprocess=_key(case_sensitive))
    seen: set[object] = set()
    kept: list[Any] = []
    for item in value:
        key = _hashed(key_of(item))
        if key not in seen:
            seen.add(key)
            kept.append(item)
    return kept


def _hashed(key: Any) -> object:
    if key is None or isinstance(key, str | Undefined):
        return key
    if isinstance(key, tuple):
        return ("items", *map(_hashed, key))
    if isinstance(key, int | float):
        return ("number", str(int(key)) if key == key // 1 and abs(key) < float("inf") else str(key))
    raise TypeError(type(key).__name__)
