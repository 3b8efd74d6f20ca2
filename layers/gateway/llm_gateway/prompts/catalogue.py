"""The catalogue: which version of a prompt is current, and its compiled body.

Two ports feed it. The index says what is current and changes under our feet; bodies belong to a
version and never change. So bodies are cached for good (within a bound) and only the view of what
is current ages: at most `ttl_s` seconds, after which one small read of the shared generation tells
whether anything changed at all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from llm_gateway.deadline import MonotonicClock
from llm_gateway.errors import AmbiguousPrompt, PromptBroken, PromptNotFound
from llm_gateway.models import PromptEntry
from llm_gateway.prompts.path import check_path, has_extension, is_partial

if TYPE_CHECKING:
    from llm_gateway.prompts.prompt import Prompt


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Some entries in path order.

    Attributes:
        entries: Entries, broken ones included.
        next_after: Path to continue after, or None at the end.
    """

    entries: Sequence[PromptEntry]
    next_after: str | None


class PromptIndex(Protocol):
    """What is current. All methods raise StoreUnavailable when the store does not answer."""

    async def generation(self) -> int:
        """A number that grows whenever any entry changes."""
        ...

    async def find(self, path: str) -> Sequence[PromptEntry]:
        """The entry at `path`; without extension, every entry that differs only in it."""
        ...

    async def page(self, directory: str, limit: int, after: str | None) -> EntryPage:
        """Up to `limit` entries below `directory` (empty: all), in path order, after path `after`."""
        ...


class PromptBodies(Protocol):
    """The bytes of each version."""

    async def read(self, path: str, version: str) -> bytes:
        """The file as it was uploaded.

        Raises:
            PromptNotFound: There is no such version.
            StoreUnavailable: The store does not answer.
        """
        ...


async def find_entry(index: PromptIndex, path: str) -> PromptEntry:
    """The one entry a caller means by `path`.

    Raises:
        InvalidPath: The path is not a plain relative one.
        PromptNotFound: Nothing there, or a partial, which cannot be called.
        AmbiguousPrompt: Several files fit a path without extension.
        StoreUnavailable: The index does not answer.
    """
    check_path(path)
    entries = [] if is_partial(path) else await index.find(path)
    if len(entries) > 1:
        raise AmbiguousPrompt(path, [entry.path for entry in entries])
    if not entries:
        hint = "" if has_extension(path) else " with any extension"
        raise PromptNotFound(
            f"There is no prompt '{path}'{hint}. GET /v1/prompts lists them.", param="prompt"
        )
    return entries[0]


class Catalogue:
    """Prompts by path and version, for one process.

    Args:
        index: What is current.
        bodies: The files.
        ttl_s: Longest time the view of what is current goes unchecked, seconds.
        cache_bytes: Bound of the cached bodies, in bytes of source.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        index: PromptIndex,
        bodies: PromptBodies,
        *,
        ttl_s: float,
        cache_bytes: int,
        clock: MonotonicClock,
    ) -> None:
        self._index = index
        self._bodies = bodies
        self._ttl_s = ttl_s
        self._clock = clock
        self._entries: dict[str, PromptEntry] = {}
        self._generation: int | None = None
        self._checked_at: float | None = None
        self._prompts = _PromptCache(cache_bytes)

    async def load(self, path: str, version: str | None = None) -> Prompt:
        """The prompt at `path`: the current version, or exactly the one asked for.

        Raises:
            InvalidPath, PromptNotFound, AmbiguousPrompt: As `find_entry`.
            PromptBroken: The version does not parse.
            StoreUnavailable: A store does not answer.
        """
        entry = await self._current(path)
        wanted = version or entry.version
        if wanted is None:
            raise PromptBroken(f"'{entry.path}' has no usable version: {entry.error}.", param="prompt")
        return self._prompts.get(entry.path, wanted) or await self._read(entry.path, wanted)

    async def _current(self, path: str) -> PromptEntry:
        await self._refresh()
        entries = self._entries  # what is read now must not enter a view begun after it
        if path not in entries:
            entries[path] = await find_entry(self._index, path)
        return entries[path]

    async def _refresh(self) -> None:
        """Forget the entries if the shared generation moved; look at most once per `ttl_s`.

        The first view of a process is dated before it is read and its generation left unknown, so
        a cold call needs no extra read and still nothing outlives `ttl_s` unchecked.
        """
        now = self._clock()
        if self._checked_at is not None and now - self._checked_at >= self._ttl_s:
            generation = await self._index.generation()
            if generation != self._generation:
                self._entries = {}
            self._generation = generation
            self._checked_at = now
        elif self._checked_at is None:
            self._checked_at = now

    async def _read(self, path: str, version: str) -> Prompt:
        # The parser brings Jinja2 and YAML; whoever only lists prompts never loads them.
        from llm_gateway.prompts.front_matter import PromptSyntaxError
        from llm_gateway.prompts.prompt import parse_prompt

        data = await self._bodies.read(path, version)
        try:
            prompt = parse_prompt(path, version, data)
        except PromptSyntaxError as error:
            raise PromptBroken(
                f"This version of '{path}' does not parse: {error}.", param="version"
            ) from error
        self._prompts.put(prompt)
        return prompt


class _PromptCache:
    """Compiled prompts by path and version, the least recently used leaving first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._prompts: OrderedDict[tuple[str, str], Prompt] = OrderedDict()

    def get(self, path: str, version: str) -> Prompt | None:
        prompt = self._prompts.get((path, version))
        if prompt is not None:
            self._prompts.move_to_end((path, version))
        return prompt

    def put(self, prompt: Prompt) -> None:
        key = (prompt.path, prompt.version)
        if key not in self._prompts:
            self._bytes += prompt.size_bytes
        self._prompts[key] = prompt
        while self._bytes > self._max_bytes and self._prompts:
            _, oldest = self._prompts.popitem(last=False)
            self._bytes -= oldest.size_bytes
