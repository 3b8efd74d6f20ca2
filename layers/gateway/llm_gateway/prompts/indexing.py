"""From an uploaded file to its index entry.

Events only say *that* something happened to a path. What is true now is read from the bucket, and
written under the event's sequencer, so duplicates and late events change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Protocol

from llm_gateway.models import PromptEntry
from llm_gateway.prompts.catalogue import PromptIndex
from llm_gateway.prompts.front_matter import PromptSyntaxError
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
    """The files as authors uploaded them."""

    async def newest(self, path: str, max_bytes: int) -> Upload | None:
        """The file at `path` as it is now; None if it does not exist.

        Raises:
            StoreUnavailable: The store does not answer.
        """
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

    async def bump_generation(self) -> None:
        """Tell every process that something changed. Bumping once too often does no harm."""
        ...


class PromptIndexer:
    """Keeps the index equal to the uploads.

    Args:
        uploads: The files.
        index: Where entries go.
        max_bytes: Files above this size are reported broken.
    """

    def __init__(self, uploads: PromptUploads, index: WritablePromptIndex, max_bytes: int) -> None:
        self._uploads = uploads
        self._index = index
        self._max_bytes = max_bytes

    async def index(self, path: str, sequencer: str, event_time: datetime) -> tuple[Outcome, PromptEntry]:
        """Read what is at `path` now and write its entry.

        The generation is bumped even if the entry was already there: an earlier delivery of the
        same event may have died between the two writes.

        Args:
            path: The file.
            sequencer: The event's sequencer, hexadecimal, of any length.
            event_time: Dates the entry of a deleted file, aware UTC.
        """
        upload = await self._uploads.newest(path, self._max_bytes)
        previous = next((entry for entry in await self._index.find(path) if entry.path == path), None)
        entry = _entry(path, upload, previous, event_time)
        written = await self._index.put(entry, padded(sequencer))
        await self._index.bump_generation()
        if not written:
            return "outdated", entry
        outcome: Outcome = "indexed" if entry.state == "ok" else entry.state
        return outcome, entry


def padded(sequencer: str) -> str:
    """The sequencer in the form that compares as text: S3's rule is zeros on the right.

    Source: S3's event message structure, on comparing sequencers of different length.
    """
    return sequencer.upper().ljust(_SEQUENCER_WIDTH, "0")


def _entry(
    path: str, upload: Upload | None, previous: PromptEntry | None, event_time: datetime
) -> PromptEntry:
    if upload is None:
        return PromptEntry(
            path=path, version=None, etag="", size_bytes=0, last_modified=event_time, state="deleted"
        )
    try:
        return _parsed(path, upload)
    except PromptSyntaxError as error:
        return _broken(path, upload, previous, str(error))


def _parsed(path: str, upload: Upload) -> PromptEntry:
    if upload.data is None:
        raise PromptSyntaxError(f"the file is too large ({upload.size_bytes} bytes)")
    prompt = parse_prompt(path, upload.version, upload.data)
    front = prompt.front
    return PromptEntry(
        path=path,
        version=upload.version,
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


def _broken(path: str, upload: Upload, previous: PromptEntry | None, reason: str) -> PromptEntry:
    """The newest upload is described; the last version that parsed, if any, stays in service."""
    good = previous or PromptEntry(
        path=path, version=None, etag="", size_bytes=0, last_modified=upload.last_modified
    )
    return replace(
        good,
        etag=upload.etag,
        size_bytes=upload.size_bytes,
        last_modified=upload.last_modified,
        state="broken",
        error=reason,
    )
