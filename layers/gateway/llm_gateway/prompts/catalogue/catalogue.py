"""The catalogue: which version of a prompt is current, and its compiled body.

Two ports feed it. The index says what is current and changes under our feet; bodies belong to a
version and never change. So bodies are cached for good (within a bound) and only the view of what
is current ages: at most `ttl_s` seconds, after which one small read of the shared generation tells
whether anything changed at all.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from llm_gateway.access.reach import EVERYTHING, Reach
from llm_gateway.deadline import Deadline, MonotonicClock
from llm_gateway.errors import PromptBroken, PromptNotFound, StoreUnavailable
from llm_gateway.prompts.catalogue.entries import PromptEntry, Revision, own_version
from llm_gateway.prompts.catalogue.labels import chosen_version
from llm_gateway.prompts.catalogue.listing import chosen, entries_at
from llm_gateway.prompts.catalogue.shares import Labels
from llm_gateway.prompts.problem import without_words
from llm_gateway.suggestions import did_you_mean
from llm_gateway.workers import INLINE, PARSING_S, PROMPTS, Workers

if TYPE_CHECKING:
    from llm_gateway.prompts.prompt import Prompt

_CHECK_TIMEOUT_S = 0.5


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

    async def revision(self, path: str, version: str) -> Revision | None:
        """One version of the prompt at exactly `path`; None if there never was such a version."""
        ...

    async def history(self, path: str) -> Sequence[Revision]:
        """Every version of the prompt at exactly `path`, newest first."""
        ...

    async def labels(self, path: str) -> Labels:
        """The labels of the prompt at exactly `path`."""
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


class Catalogue:
    """Prompts by path and version, for one process.

    Args:
        index: What is current.
        bodies: The files.
        ttl_s: Longest time the view of what is current goes unchecked, seconds.
        cache_bytes: Bound of the cached bodies, in bytes of source.
        clock: Monotonic seconds.
        workers: Parse the files.
        unchecked: Told why the view could not be checked; what was current is served on.
    """

    def __init__(
        self,
        index: PromptIndex,
        bodies: PromptBodies,
        *,
        ttl_s: float,
        cache_bytes: int,
        clock: MonotonicClock,
        workers: Workers = INLINE,
        unchecked: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self._index = index
        self._bodies = bodies
        self._ttl_s = ttl_s
        self._clock = clock
        self._unchecked = unchecked
        self._workers = workers
        self._view = _View()
        self._generation: int | None = None
        self._checked_at: float | None = None
        self._checking: asyncio.Task[None] | None = None
        self._prompts = _PromptCache(cache_bytes)

    async def load(
        self,
        path: str,
        version: str | None = None,
        label: str | None = None,
        key: str = "",
        reach: Reach = EVERYTHING,
    ) -> Prompt:
        """The prompt at `path`: the current version, exactly the one asked for, or the label's.

        Args:
            path: The prompt.
            version: Exactly this version.
            label: The version that this label points to.
            key: Who asks; the same caller gets the same version of a label with a canary.
            reach: What the caller may see; for it there is nothing else.

        Raises:
            InvalidPath, PromptNotFound, AmbiguousPrompt: As `listing.find_entry`.
            PromptNotFound: The prompt has no such version or label.
            PromptBroken: The version does not parse.
            StoreUnavailable: A store does not answer.
        """
        await self._refresh()
        view = self._view  # what is read now must not enter a view begun after it
        entry = await self._entry(view, path, reach)
        if label is not None:
            version = await self._labelled(view, entry.path, label, key)
        wanted = version or entry.version
        if wanted is None:
            problem = without_words(reach.shown(entry).error or "")
            raise PromptBroken(f"'{entry.path}' has no usable version: {problem}.", param="prompt")
        return self._prompts.get(entry.path, wanted) or await self._read(entry, wanted, reach)

    async def _entry(self, view: _View, path: str, reach: Reach) -> PromptEntry:
        """What is there is kept, for everybody; what a caller may see of it depends on the caller."""
        entries = view.entries.get(path) or await entries_at(self._index, path)
        if entries:  # names of nothing are not kept: there is no end to them
            view.entries[path] = entries
        return await chosen(self._index, path, entries, reach)

    async def _labelled(self, view: _View, path: str, label: str, key: str) -> str:
        if path not in view.labels:
            view.labels[path] = await self._index.labels(path)
        known = view.labels[path].shares
        if label not in known:
            listed = f"it has {', '.join(sorted(known))}" if known else "it has none"
            meant = did_you_mean(label, known)
            raise PromptNotFound(f"'{path}' has no such label; {listed}.{meant}", param="label")
        return chosen_version(known[label], path, label, key)

    async def _refresh(self) -> None:
        """Look at the shared generation, at most once per `ttl_s`, and beside the call if there is time.

        The first view of a process is dated before it is read and its generation left unknown, so
        a cold call needs no extra read and still nothing outlives `ttl_s` unchecked. From half of
        `ttl_s` on, calls start the next look without waiting for it.
        """
        now = self._clock()
        if self._checked_at is None:
            self._checked_at = now
        age = now - self._checked_at
        if age >= self._ttl_s:
            await self._check(now)
        elif age >= self._ttl_s / 2 and (self._checking is None or self._checking.done()):
            self._checking = asyncio.create_task(self._check(now))

    async def _check(self, now: float) -> None:
        """Forget the view if the generation moved; keep it for another `ttl_s` if nobody can tell."""
        try:
            async with asyncio.timeout(_CHECK_TIMEOUT_S):
                generation = await self._index.generation()
        except (StoreUnavailable, TimeoutError) as error:
            self._unchecked(error)
        else:
            if generation != self._generation:
                self._view = _View()
            self._generation = generation
        self._checked_at = now

    async def _read(self, entry: PromptEntry, version: str, reach: Reach) -> Prompt:
        # The parser brings Jinja2 and YAML; whoever only lists prompts never loads them.
        from llm_gateway.prompts.files.front_matter import PromptSyntaxError
        from llm_gateway.prompts.prompt import parse_prompt

        partials = await self._partials(entry, version)
        files = {entry.path: own_version(version), **partials}
        bodies = await asyncio.gather(*(self._bodies.read(path, v) for path, v in files.items()))
        data, *included = bodies
        files_of = dict(zip(partials, included, strict=True))
        try:
            prompt = await self._workers.run(
                lambda: parse_prompt(entry.path, version, data, files_of),
                Deadline.after(PARSING_S),
                owner=PROMPTS,
            )
        except PromptSyntaxError as error:
            problem = without_words(reach.redacted(str(error), partials))
            raise PromptBroken(
                f"This version of '{entry.path}' does not parse: {problem}.", param="version"
            ) from error
        self._prompts.put(prompt)
        return prompt

    async def _partials(self, entry: PromptEntry, version: str) -> Mapping[str, str]:
        """The versions of the partials that belong to a version of a prompt."""
        if version == entry.version:
            return entry.partials
        if version == own_version(version):
            return {}
        revision = await self._index.revision(entry.path, version)
        if revision is None:
            raise PromptNotFound(
                f"There is no such version of '{entry.path}'; leave 'version' out for the current one.",
                param="version",
            )
        return revision.partials


@dataclass(slots=True)
class _View:
    """What one process knows of what is current."""

    entries: dict[str, Sequence[PromptEntry]] = field(default_factory=dict)
    labels: dict[str, Labels] = field(default_factory=dict)


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
