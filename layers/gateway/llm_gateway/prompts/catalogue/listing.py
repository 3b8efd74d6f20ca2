"""Prompts in path order, as far as a caller may see them, and the names nearest to one that is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from llm_gateway.access.reach import EVERYTHING, Reach
from llm_gateway.errors import AmbiguousPrompt, PromptNotFound, StoreUnavailable
from llm_gateway.prompts.files.path import check_path, has_extension, is_partial
from llm_gateway.suggestions import did_you_mean

if TYPE_CHECKING:
    from llm_gateway.prompts.catalogue.catalogue import PromptIndex
    from llm_gateway.prompts.catalogue.entries import PromptEntry

_MOST_COMPARED = 50  # names that are read for a suggestion: one small query, whatever the store holds
_MOST_RANGES = 4


async def prompts_within(
    index: PromptIndex,
    directory: str,
    at_most: int,
    after: str | None,
    reach: Reach,
    ranges: int | None = None,
) -> list[PromptEntry]:
    """Prompts below `directory` that may be seen, in path order; what may not be seen is not even read.

    Args:
        index: Where they are.
        directory: Empty for all.
        at_most: How many.
        after: Only paths after this one.
        reach: What may be seen.
        ranges: How many of the bounds are looked at; None is all.

    Raises:
        StoreUnavailable: The index does not answer.
    """
    found: list[PromptEntry] = []
    for bound in _open_ranges(directory, after, reach)[:ranges]:
        start = after if after is not None and after.startswith(bound) else None
        found += await _within(index, bound, at_most - len(found), start)
        if len(found) >= at_most:
            break
    return [entry for entry in found if reach.holds(entry.path)]


async def find_entry(index: PromptIndex, path: str, reach: Reach = EVERYTHING) -> PromptEntry:
    """The one entry a caller means by `path`.

    Raises:
        InvalidPath: The path is not a plain relative one.
        PromptNotFound: Nothing there, or a partial, which cannot be called.
        AmbiguousPrompt: Several files fit a path without extension.
        StoreUnavailable: The index does not answer.
    """
    return await chosen(index, path, await entries_at(index, path), reach)


async def entries_at(index: PromptIndex, path: str) -> Sequence[PromptEntry]:
    """The entries that `path` may stand for, whether the caller may see them or not.

    Raises:
        InvalidPath: The path is not a plain relative one.
        StoreUnavailable: The index does not answer.
    """
    check_path(path)
    return () if is_partial(path) else await index.find(path)


async def chosen(index: PromptIndex, path: str, entries: Sequence[PromptEntry], reach: Reach) -> PromptEntry:
    """The one of `entries` that may be seen.

    Raises:
        PromptNotFound, AmbiguousPrompt: As `find_entry`; they name only what may be seen.
    """
    seen = [entry for entry in entries if reach.holds(entry.path)]
    if len(seen) > 1:
        raise AmbiguousPrompt(path, [entry.path for entry in seen])
    if not seen:
        hint = "" if has_extension(path) else " with any extension"
        meant = did_you_mean(path, await _neighbours(index, path, reach))
        raise PromptNotFound(
            f"There is no prompt '{path}'{hint}.{meant} GET /v1/prompts lists them.", param="prompt"
        )
    return seen[0]


async def _neighbours(index: PromptIndex, path: str, reach: Reach) -> list[str]:
    """A few names that begin like `path`: in its own directory, else among all."""
    directory, _, name = path.rpartition("/")
    with suppress(StoreUnavailable):  # the answer is the same, it only helps less
        for folder, start in (
            (directory, f"{directory}/{name[:1]}" if directory else name[:1]),
            ("", path[:1]),
        ):
            found = await prompts_within(index, folder, _MOST_COMPARED, start, reach, _MOST_RANGES)
            if found:
                return [entry.path for entry in found]
    return []


def _open_ranges(directory: str, after: str | None, reach: Reach) -> list[str]:
    """The ranges that hold something after `after`."""
    ranges = reach.ranges(directory)
    if after is None:
        return ranges
    return [
        bound for bound in ranges if bound > after or (not has_extension(bound) and after.startswith(bound))
    ]


async def _within(index: PromptIndex, bound: str, at_most: int, after: str | None) -> list[PromptEntry]:
    if has_extension(bound):
        return [] if is_partial(bound) else list(await index.find(bound))
    if not bound or bound.endswith("/"):
        page = await index.page(bound.removesuffix("/"), at_most, after)
    else:  # a beginning of names: no path equals it, so the page may begin after it
        page = await index.page(bound.rpartition("/")[0], at_most, after or bound)
    return [entry for entry in page.entries if entry.path.startswith(bound)]
