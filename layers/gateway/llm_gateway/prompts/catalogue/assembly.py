"""From files in a store to a prompt that works: the newest versions that fit together.

A file whose newest version cannot be used stays in service as the newest one that can. So a broken
upload, or a partial that is deleted while prompts still include it, is reported and nobody notices.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

from llm_gateway.deadline import Deadline
from llm_gateway.prompts.catalogue.entries import version_of
from llm_gateway.prompts.files.bounds import MAX_TOKENS
from llm_gateway.prompts.files.front_matter import PromptSyntaxError
from llm_gateway.prompts.files.includes import MAX_PARTIALS, Source, read_source
from llm_gateway.prompts.files.path import is_partial
from llm_gateway.prompts.files.yaml_lines import UnreadablePrompt
from llm_gateway.prompts.prompt import Prompt, built_prompt
from llm_gateway.prompts.rendering.template import check_partial
from llm_gateway.workers import INLINE, PARSING_S, PROMPTS, Workers

_MAX_TOKENS_READ = 5 * MAX_TOKENS
"""Of all versions of all files together: 20 versions may be broken, each with its last line."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Upload:
    """One version of a file.

    Attributes:
        version: Version id the store gave it.
        etag: Entity tag.
        size_bytes: Size.
        last_modified: Aware UTC.
        data: The bytes; None if the file is larger than the gateway reads.
    """

    version: str
    etag: str
    size_bytes: int
    last_modified: datetime
    data: bytes | None


class PromptUploads(Protocol):
    """The files as authors uploaded them. All methods raise StoreUnavailable if the store does not answer."""

    async def newest(self, path: str, max_bytes: int) -> Upload | None:
        """The file at `path` as it is now; None if it does not exist."""
        ...

    def earlier(
        self, path: str, version: str | None, max_bytes: int, *, deleted_too: bool = False
    ) -> AsyncGenerator[Upload, None]:
        """What was at `path` before `version` (None: ever), newest first.

        Args:
            path: The file.
            version: Where to begin.
            max_bytes: Larger files come without their bytes.
            deleted_too: Whether to look past the last deletion.
        """
        ...

    async def current(self) -> Mapping[str, str]:
        """The newest version of every file that exists, by path."""
        ...


@dataclass(frozen=True, slots=True)
class Assembly:
    """What became of the files of one prompt.

    Attributes:
        newest: The newest version of the prompt's own file.
        prompt: What is served; None if no version can be used.
        made_at: When the newest file of what is served was uploaded, aware UTC.
        size_bytes: Size of the prompt's own file as it is served.
        partials: Version of each partial that is served, by path.
        sources: The newest version of every file looked at, by path; None where there is none.
        problem: Why not every file is served as it was uploaded last; None if every one is.
        defects: What the gateway itself stumbled over on the way.
    """

    newest: Upload
    prompt: Prompt | None
    made_at: datetime
    size_bytes: int
    partials: Mapping[str, str]
    sources: Mapping[str, str | None]
    problem: str | None
    defects: Sequence[UnreadablePrompt] = ()


async def assemble(
    uploads: PromptUploads,
    path: str,
    max_bytes: int,
    announce: Callable[[str], Awaitable[None]],
    workers: Workers = INLINE,
) -> Assembly | None:
    """Put the prompt at `path` together from the newest versions that work.

    Args:
        uploads: The files.
        path: The prompt.
        max_bytes: Larger files cannot be used.
        announce: Told of every partial before it is read.
        workers: Parse the files.

    Returns:
        None if there is no file at `path`.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    return await _Assembler(uploads, max_bytes, announce, workers).assemble(path)


def _checked_source(path: str, data: bytes) -> Source:
    source = read_source(path, data)
    if is_partial(path):
        check_partial(source.body, source.error)
    return source


@dataclass(frozen=True, slots=True)
class _Part:
    upload: Upload
    source: Source


class _Assembler:
    """One look at the files of one prompt; every file is looked at once, so all see the same versions."""

    def __init__(
        self,
        uploads: PromptUploads,
        max_bytes: int,
        announce: Callable[[str], Awaitable[None]],
        workers: Workers,
    ) -> None:
        self._uploads = uploads
        self._max_bytes = max_bytes
        self._announce = announce
        self._workers = workers
        self._partials: dict[str, _Part] = {}
        self._sources: dict[str, str | None] = {}
        self._problem: str | None = None
        self._defects: list[UnreadablePrompt] = []
        self._tokens_read = 0

    async def assemble(self, path: str) -> Assembly | None:
        newest = await self._uploads.newest(path, self._max_bytes)
        if newest is None:
            return None
        self._sources[path] = newest.version
        async for upload in self._candidates(path, newest):
            try:
                source = await self._read(path, upload, (path,))
                parts = self._included(source)
                return await self._parsed(partial(self._served, newest, upload, source, parts))
            except PromptSyntaxError as error:
                self._note(error)
        nothing = Assembly(newest, None, newest.last_modified, 0, {}, self._sources, self._problem)
        return replace(nothing, defects=self._defects)

    def _note(self, error: PromptSyntaxError) -> None:
        """The first problem is the one that is reported: it is of the newest version."""
        self._problem = self._problem or str(error)
        if isinstance(error, UnreadablePrompt):
            self._defects.append(error)

    async def _parsed(self, work: Callable[[], T]) -> T:
        return await self._workers.run(work, Deadline.after(PARSING_S), owner=PROMPTS, paid=True)

    def _served(self, newest: Upload, own: Upload, source: Source, parts: Mapping[str, _Part]) -> Assembly:
        versions = {path: part.upload.version for path, part in parts.items()}
        sources = {path: part.source for path, part in parts.items()}
        prompt = built_prompt(source, sources, version_of(own.version, versions))
        uploads = [own, *(part.upload for part in parts.values())]
        made_at = max(upload.last_modified for upload in uploads)
        return Assembly(
            newest,
            prompt,
            made_at,
            own.size_bytes,
            versions,
            dict(self._sources),
            self._problem,
            self._defects,
        )

    async def _candidates(self, path: str, newest: Upload | None) -> AsyncGenerator[Upload, None]:
        if newest is not None:
            yield newest
        before = None if newest is None else newest.version
        async for upload in self._uploads.earlier(
            path, before, self._max_bytes, deleted_too=is_partial(path)
        ):
            yield upload

    async def _read(self, path: str, upload: Upload, chain: Sequence[str]) -> Source:
        """One version of a file, once all that it includes can be used."""
        if upload.data is None:
            where = path if is_partial(path) else None
            raise PromptSyntaxError(f"the file is too large ({upload.size_bytes} bytes)", None, where)
        source = await self._parsed(partial(_checked_source, path, upload.data))
        self._tokens_read += source.size.tokens
        if self._tokens_read > _MAX_TOKENS_READ:
            raise source.error("its versions and partials are too large to look at all of them", None)
        for include in source.includes:
            if include.path in chain:
                raise source.error(f"'{include.path}' includes itself", include.line)
            if not await self._find(include.path, chain):
                raise source.error(f"there is no partial '{include.path}' that can be used", include.line)
        return source

    async def _find(self, path: str, chain: Sequence[str]) -> bool:
        """The newest version of a partial that can be used."""
        if path in self._partials:
            return True
        if path in self._sources or len(self._sources) > MAX_PARTIALS:
            return False
        await self._announce(path)
        newest = await self._uploads.newest(path, self._max_bytes)
        self._sources[path] = None if newest is None else newest.version
        if newest is None:
            self._problem = self._problem or f"the partial '{path}' is missing"
        async for upload in self._candidates(path, newest):
            try:
                self._partials[path] = _Part(upload, await self._read(path, upload, [*chain, path]))
                return True
            except PromptSyntaxError as error:
                self._note(error)
        return False

    def _included(self, source: Source) -> dict[str, _Part]:
        """Every partial that `source` includes, directly or not."""
        found: dict[str, _Part] = {}
        waiting = [source]
        while waiting:
            for include in waiting.pop().includes:
                if include.path not in found:
                    found[include.path] = self._partials[include.path]
                    waiting.append(found[include.path].source)
        return found
