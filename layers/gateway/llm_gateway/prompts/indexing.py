"""From an uploaded file to its index entry.

Events only say *that* something happened to a path. What is true now is read from the bucket, and
written under the event's sequencer, so duplicates and late events change nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol

from llm_gateway.models import PromptEntry
from llm_gateway.prompts.catalogue import PromptIndex
from llm_gateway.prompts.front_matter import PromptSyntaxError
from llm_gateway.prompts.path import is_partial, is_prompt_file
from llm_gateway.prompts.prompt import parse_prompt

Outcome = Literal["indexed", "broken", "deleted", "outdated"]
_SEQUENCER_WIDTH = 40


@dataclass(frozen=True, slots=True)
class Upload:
    """The newest state of a file.

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

    def earlier(self, path: str, version: str, max_bytes: int) -> AsyncGenerator[Upload, None]:
        """What was at `path` before `version`, newest first, back to its last deletion."""
        ...

    async def current(self) -> Mapping[str, str]:
        """The newest version of every file that exists, by path."""
        ...


class WritablePromptIndex(PromptIndex, Protocol):
    """An index that this process may change."""

    async def put(self, entry: PromptEntry, sequencer: str) -> bool:
        """Write `entry` unless something newer is there; True if written.

        Args:
            entry: The new entry; `deleted` ones stay as a marker for late events.
            sequencer: Orders events of the same path, compared as text, all of one width.
        """
        ...

    async def repair(self, entry: PromptEntry, seen: str | None) -> bool:
        """Write `entry` if no event came since its path was looked at; True if written.

        The sequencer stays what it is, so an event that is late or yet to come still counts.

        Args:
            entry: The entry as it should be.
            seen: The sequencer that was there, None if there was no entry.
        """
        ...

    async def everything(self) -> Mapping[str, tuple[PromptEntry, str]]:
        """Every entry, deleted ones too, and its sequencer, by path."""
        ...

    async def bump_generation(self) -> None:
        """Tell every process that something changed. Bumping once too often does no harm."""
        ...


class PromptIndexer:
    """Keeps the index equal to the uploads.

    An entry follows from what is in the bucket and from nothing else, so it does not matter which
    event made it be written, nor in which order events came.

    Args:
        uploads: The files.
        index: Where entries go.
        max_bytes: Files above this size are reported broken.
        now: Aware UTC.
    """

    def __init__(
        self,
        uploads: PromptUploads,
        index: WritablePromptIndex,
        max_bytes: int,
        now: Callable[[], datetime],
    ) -> None:
        self._uploads = uploads
        self._index = index
        self._max_bytes = max_bytes
        self._now = now

    async def index(self, path: str, sequencer: str) -> tuple[Outcome, PromptEntry]:
        """Read what is at `path` now and write its entry.

        The generation is bumped even if the entry was already there: an earlier delivery of the
        same event may have died between the two writes.

        Args:
            path: The file.
            sequencer: The event's sequencer, hexadecimal, of any length.
        """
        entry = await self._entry(path)
        written = await self._index.put(entry, padded(sequencer))
        await self._index.bump_generation()
        return (_outcome(entry) if written else "outdated"), entry

    async def reconcile(self) -> Sequence[PromptEntry]:
        """Repair what lost events left behind; returns the entries that were wrong."""
        files = {path: v for path, v in (await self._uploads.current()).items() if is_indexed(path)}
        entries = await self._index.everything()
        known = {path: entry.uploaded_version for path, (entry, _) in entries.items()}
        drifted = [path for path in sorted(files.keys() | known) if files.get(path) != known.get(path)]
        repaired: list[PromptEntry] = []
        for path in drifted:
            entry = await self._entry(path)
            _, seen = entries.get(path, (None, None))
            if await self._index.repair(entry, seen):
                repaired.append(entry)
        if repaired:
            await self._index.bump_generation()
        return repaired

    async def _entry(self, path: str) -> PromptEntry:
        upload = await self._uploads.newest(path, self._max_bytes)
        if upload is None:
            return PromptEntry(path, None, None, "", 0, self._now(), state="deleted")
        try:
            return _parsed(path, upload)
        except PromptSyntaxError as error:
            return await self._broken(path, upload, str(error))

    async def _broken(self, path: str, newest: Upload, reason: str) -> PromptEntry:
        """The newest upload is described; the last one that parses, if any, stays in service."""
        good = PromptEntry(path, None, newest.version, "", 0, newest.last_modified)
        async for upload in self._uploads.earlier(path, newest.version, self._max_bytes):
            try:
                good = _parsed(path, upload)
                break
            except PromptSyntaxError:
                continue
        return replace(
            good,
            uploaded_version=newest.version,
            etag=newest.etag,
            size_bytes=newest.size_bytes,
            last_modified=newest.last_modified,
            state="broken",
            error=reason,
        )


def is_indexed(path: str) -> bool:
    """True for the files that become entries: prompt files that can be called."""
    return is_prompt_file(path) and not is_partial(path)


def padded(sequencer: str) -> str:
    """The sequencer in the form that compares as text: S3's rule is zeros on the right.

    Source: S3's event message structure, on comparing sequencers of different length.
    """
    return sequencer.upper().ljust(_SEQUENCER_WIDTH, "0")


def _outcome(entry: PromptEntry) -> Outcome:
    return "indexed" if entry.state == "ok" else entry.state


def _parsed(path: str, upload: Upload) -> PromptEntry:
    if upload.data is None:
        raise PromptSyntaxError(f"the file is too large ({upload.size_bytes} bytes)")
    prompt = parse_prompt(path, upload.version, upload.data)
    front = prompt.front
    return PromptEntry(
        path=path,
        version=upload.version,
        uploaded_version=upload.version,
        etag=upload.etag,
        size_bytes=upload.size_bytes,
        last_modified=upload.last_modified,
        required_variables=prompt.required_variables,
        description=front.description,
        model=front.model,
        parameters=front.options,
        input_schema=None if front.input_schema is None else dict(front.input_schema),
        warnings=front.warnings,
    )
