"""The functions that a template calls by name, and the mappings it writes out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jinja2.utils import Namespace

from llm_gateway.prompts.rendering.metering import budget, too_large, weigh
from llm_gateway.prompts.rendering.world import Function

_MAX_RANGE = 100_000


def numbers(first: int, *others: int) -> list[int]:
    """`range(…)` as a list."""
    made = range(first, *others)
    if len(made) > _MAX_RANGE:
        raise too_large()
    budget().step(1 + len(made) // 128)
    budget().reserve(36 * len(made))
    return list(made)


def mapping(*given: Any, **fields: Any) -> dict[Any, Any]:
    """`dict(…)` of a mapping or of pairs, and of fields by name."""
    if len(given) > 1:
        raise TypeError("dict takes one mapping")
    source = given[0] if given else ()
    budget().step(1 + len(fields))
    return {**paired(source.items() if isinstance(source, dict) else source), **fields}


def paired(pairs: Iterable[Any]) -> dict[Any, Any]:
    """A mapping of pairs.

    The hash of a key walks through all of it. Those of numbers are known beforehand, so a mapping can
    be made to look at each of them for each other; the hashes of texts cannot be chosen.
    """
    left = budget()
    made: list[tuple[Any, Any]] = []
    chosen = 0
    for pair in pairs:
        if not isinstance(pair, list | tuple):
            raise TypeError(type(pair).__name__)
        key, value = pair
        left.step()
        weigh(key, opaque=True)
        chosen += not isinstance(key, str)
        made.append((key, value))
    left.step(chosen * chosen // 64)
    left.reserve(len(made) * 128)
    return dict(made)


def namespace(*given: Any, **fields: Any) -> Namespace:
    """`namespace(…)`, whose fields `set` may change."""
    return Namespace(mapping(*given, **fields))


FUNCTIONS = {"range": Function(numbers), "dict": Function(mapping), "namespace": Function(namespace)}
