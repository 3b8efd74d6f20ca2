"""From uploaded files to their index entries.

Events only say *that* something happened to a path. What is true now is read from the store, and
written only if the entry is still the one that was there before the store was read: so duplicates,
late events and two writers at once change nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Literal, Protocol

from pydantic import TypeAdapter

from llm_gateway.errors import StoreUnavailable
from llm_gateway.prompts.catalogue.assembly import Assembly, PromptUploads, assemble
from llm_gateway.prompts.catalogue.catalogue import PromptIndex
from llm_gateway.prompts.catalogue.entries import PromptEntry, Revision, Stamp, own_version
from llm_gateway.prompts.files.path import is_partial, is_prompt_file
from llm_gateway.workers import INLINE, Workers

Outcome = Literal["indexed", "broken", "deleted", "outdated"]
BEFORE_EVERY_EVENT = "0"  # compares below every padded sequencer
_SEQUENCER_WIDTH = 40
_ATTEMPTS = 10
_AT_ONCE = 16
_MAX_ENTRY_BYTES = 350_000
"""Of an entry as JSON; an item of DynamoDB has 409,600 bytes at most."""


class WritablePromptIndex(PromptIndex, Protocol):
    """An index that this process may change."""

    async def stamp(self, path: str) -> tuple[PromptEntry, Stamp] | None:
        """The entry at `path` as it is at this moment, a deleted one too; None if there is none."""
        ...

    async def put(self, entry: PromptEntry, stamp: Stamp, seen: Stamp | None) -> bool:
        """Write `entry` if what is there is still what was `seen`; True if written.

        Args:
            entry: The new entry; `deleted` ones stay as a marker for late events.
            stamp: The new entry's stamp.
            seen: The stamp that was there, None if there was no entry.
        """
        ...

    async def everything(self) -> Mapping[str, PromptEntry]:
        """Every entry, deleted ones too, by path."""
        ...

    async def bump_generation(self) -> None:
        """Tell every process that something changed. Bumping once too often does no harm."""
        ...

    async def add_revision(self, path: str, revision: Revision) -> None:
        """Keep a version of a prompt for its history; once it is there it stays as it is."""
        ...

    async def add_includer(self, partial: str, path: str) -> None:
        """Remember that the prompt at `path` includes `partial`, or did."""
        ...

    async def includers(self, partial: str) -> Sequence[str]:
        """The paths of the prompts that include `partial`, or did."""
        ...


class PromptIndexer:
    """Keeps the index equal to the uploads.

    An entry follows from what is in the store and from nothing else, so it does not matter which
    event made it be written, nor in which order events came.

    Args:
        uploads: The files.
        index: Where entries go.
        max_bytes: Files above this size are reported broken.
        now: Aware UTC.
        defect: Told of each exception that the gateway itself is to blame for; its file is broken, the
            others are indexed.
        workers: Parse the files.
    """

    def __init__(
        self,
        uploads: PromptUploads,
        index: WritablePromptIndex,
        max_bytes: int,
        now: Callable[[], datetime],
        *,
        defect: Callable[[BaseException], None] = lambda _: None,
        workers: Workers = INLINE,
    ) -> None:
        self._uploads = uploads
        self._index = index
        self._max_bytes = max_bytes
        self._now = now
        self._defect = defect
        self._workers = workers

    async def index(self, path: str, sequencer: str) -> Sequence[tuple[Outcome, PromptEntry]]:
        """Read what is at `path` now and write its entry; for a partial, those of all that include it.

        The generation is bumped even if the entry was already there: an earlier delivery of the
        same event may have died between the two writes.

        Args:
            path: The file.
            sequencer: The event's sequencer, hexadecimal, of any length.
        """
        if is_partial(path):
            results = await self._write_all(await self._index.includers(path))
        else:
            results = [await self._write(path, padded(sequencer))]
        await self._index.bump_generation()
        return results

    async def reconcile(self) -> Sequence[PromptEntry]:
        """Repair what lost events left behind; returns the entries that were wrong."""
        current = await self._uploads.current()
        files = {path: version for path, version in current.items() if is_prompt_file(path)}
        entries = await self._index.everything()
        drifted = {path for path in files if not is_partial(path) and path not in entries}
        for path, entry in entries.items():
            if any(files.get(source) != version for source, version in entry.sources.items()):
                drifted.add(path)
        repaired = [entry for _, entry in await self._write_all(sorted(drifted))]
        if repaired:
            await self._index.bump_generation()
        return repaired

    async def _write_all(self, paths: Sequence[str]) -> list[tuple[Outcome, PromptEntry]]:
        """Write the entries of all paths; one that fails is raised when the others are written."""
        slots = asyncio.Semaphore(_AT_ONCE)

        async def write(path: str) -> tuple[Outcome, PromptEntry]:
            async with slots:
                return await self._write(path, None)

        results = await asyncio.gather(*(write(path) for path in paths), return_exceptions=True)
        written = [result for result in results if not isinstance(result, BaseException)]
        for failed in results:
            if isinstance(failed, BaseException):
                if written:
                    await self._index.bump_generation()
                raise failed
        return written

    async def _write(self, path: str, sequencer: str | None) -> tuple[Outcome, PromptEntry]:
        """Write the entry of `path`; without an event the sequencer stays, so late events still count."""
        for _ in range(_ATTEMPTS):
            known = await self._index.stamp(path)
            before, seen = known or (None, None)
            if before and seen and sequencer is not None and seen.sequencer >= sequencer:
                return "outdated", before
            entry = await self._entry(path, before)
            stamp = Stamp(
                sequencer=sequencer or (seen.sequencer if seen else BEFORE_EVERY_EVENT),
                writes=seen.writes + 1 if seen else 1,
            )
            if await self._index.put(entry, stamp, seen):
                return _outcome(entry), entry
        raise StoreUnavailable("The entry of a prompt is written by too many at once; try again.")

    async def _entry(self, path: str, before: PromptEntry | None) -> PromptEntry:
        announce = self._announcer(path, before)
        ignored = not is_prompt_file(path)  # entries of such files are from before the rule, and go
        made = (
            None if ignored else await assemble(self._uploads, path, self._max_bytes, announce, self._workers)
        )
        if made is None:
            return PromptEntry(path, None, "", 0, self._now(), state="deleted", sources={path: None})
        for defect in made.defects:
            self._defect(defect.__cause__ or defect)
        for revision in _revisions(made):
            await self._index.add_revision(path, revision)
        return _storable(_described(path, made))

    def _announcer(self, path: str, before: PromptEntry | None) -> Callable[[str], Awaitable[None]]:
        """Includers are written down before a partial is read, so that no change of it is missed."""
        known = before.sources if before else {}

        async def announce(partial: str) -> None:
            if partial not in known:
                await self._index.add_includer(partial, path)

        return announce


def padded(sequencer: str) -> str:
    """The sequencer in the form that compares as text: S3's rule is zeros on the right.

    Source: S3's event message structure, on comparing sequencers of different length.
    """
    return sequencer.upper().ljust(_SEQUENCER_WIDTH, "0")


def _outcome(entry: PromptEntry) -> Outcome:
    return "indexed" if entry.state == "ok" else entry.state


def _revisions(made: Assembly) -> list[Revision]:
    """What is served, and the newest upload if that is broken."""
    revisions: list[Revision] = []
    if made.prompt is not None:
        revisions.append(Revision(made.prompt.version, made.made_at, made.size_bytes, made.partials))
    own = own_version(made.prompt.version) if made.prompt else None
    if made.problem is not None and own != made.newest.version:
        newest = made.newest
        broken = Revision(newest.version, newest.last_modified, newest.size_bytes, {}, made.problem)
        revisions.append(broken)
    return revisions


def _described(path: str, made: Assembly) -> PromptEntry:
    """The newest upload is described; what is served may be an earlier one."""
    entry = PromptEntry(
        path=path,
        version=None,
        etag=made.newest.etag,
        size_bytes=made.newest.size_bytes,
        last_modified=made.newest.last_modified,
        state="ok" if made.problem is None else "broken",
        error=made.problem,
        partials=made.partials,
        sources=made.sources,
    )
    if made.prompt is None:
        return entry
    front = made.prompt.front
    return replace(
        entry,
        version=made.prompt.version,
        required_variables=made.prompt.required_variables,
        description=front.description,
        model=front.model,
        parameters=front.options,
        input_schema=None if front.input_schema is None else dict(front.input_schema),
        warnings=front.warnings,
    )


def _storable(entry: PromptEntry) -> PromptEntry:
    """The entry, or one without what its author wrote if no index can hold that; it is served either way."""
    try:
        if len(_codec().dump_json(entry)) <= _MAX_ENTRY_BYTES:
            return entry
        problem = f"what the file says of itself is longer than {_MAX_ENTRY_BYTES} bytes as JSON; say less"
    except ValueError:  # of Unicode, or what pydantic makes of it
        problem = "what the file says of itself is no text that can be stored"
    return PromptEntry(
        path=entry.path,
        version=entry.version,
        etag=entry.etag,
        size_bytes=entry.size_bytes,
        last_modified=entry.last_modified,
        state="broken",
        error=problem,
        partials=entry.partials,
        sources=entry.sources,
    )


@cache
def _codec() -> TypeAdapter[PromptEntry]:
    return TypeAdapter(PromptEntry)
