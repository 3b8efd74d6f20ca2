"""Prompt files in a folder on disk; a version is a digest of its content.

Versions that were seen are kept beside the prompts (`.llm-gateway/versions/<path>/`), so that pinned
versions, labels and the last good version outlive a restart. What is current is held in memory as well: it is
served on while the folder is away.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from llm_gateway.adapters.local.local_file import LocalFile, NotAFile, Stamp, is_folder, read_local_file
from llm_gateway.adapters.local.prompt_archive import (
    FolderArchive,
    SeenVersion,
    carry_over,
    write_whole,
)
from llm_gateway.adapters.local.prompt_tree import Tree, lies_in, look_at, reason_of
from llm_gateway.errors import PromptNotFound, StoreUnavailable
from llm_gateway.prompts.catalogue.assembly import Upload
from llm_gateway.prompts.files.path import check_path, is_partial, is_prompt_file

MOST_BYTES = 10_000_000
"""Largest file that is read: the most that LLM_GATEWAY_MAX_PROMPT_BYTES can be."""

_LOOK_BACK = 20
_SETTLED_S = 2.0  # coarser clocks of file systems count in steps of this size


@dataclass(frozen=True, slots=True)
class _Held:
    """What is at a path; its stamp is None if it must be read again to know whether it changed."""

    version: str
    data: bytes | None
    size_bytes: int
    modified: float
    stamp: Stamp | None

    def upload(self, max_bytes: int) -> Upload:
        small = self.data is not None and self.size_bytes <= max_bytes
        written = _moment(self.modified)
        data = self.data if small else None
        return Upload(self.version, self.version, self.size_bytes, written, data)


class FolderPromptFiles:
    """Reads and writes versions: PromptBodies and PromptUploads.

    A folder that is gone, cannot be read or has lost all its prompts at once is an outage: `current` fails
    and nothing counts as deleted. If the only prompt goes while the folder stands and is not bare, that is a
    deletion.

    Args:
        root: The top of the prompts; it may be, or lie below, a link that is replaced.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._archive = FolderArchive(self._root)
        self._held: dict[str, _Held] = {}
        self._tree: Tree | None = None

    @property
    def faults(self) -> Mapping[str, str]:
        """Files that cannot be read or are ignored in spite of their name, by path, with the reason."""
        return {} if self._tree is None else {**self._tree.unreadable, **self._tree.ignored}

    async def read(self, path: str, version: str) -> bytes:
        """The bytes of a version.

        Raises:
            PromptNotFound: There is no such version.
            StoreUnavailable: The folder is away, and with it the versions that are not current.
        """
        held = self._held.get(path)
        if held is not None and held.version == version and held.data is not None:
            return held.data
        data = await asyncio.to_thread(self._read, path, version)
        if data is None:
            raise PromptNotFound(
                f"There is no such version of '{path}'; leave 'version' out for the current one.",
                param="version",
            )
        return data

    async def upload(self, path: str, data: bytes) -> str:
        """Make `data` the newest version of the file at `path`; returns the version's id."""
        await asyncio.to_thread(write_whole, self._root / check_path(path), data)
        await self.newest(path, len(data))
        return _version(data)

    async def newest(self, path: str, max_bytes: int) -> Upload | None:
        """The file at `path` as it is now, or was last seen if it cannot be read; None if there is none.

        Raises:
            StoreUnavailable: The folder is away.
        """
        held = await asyncio.to_thread(self._newest, path)
        return None if held is None else held.upload(max_bytes)

    async def earlier(
        self, path: str, version: str | None, max_bytes: int, *, deleted_too: bool = False
    ) -> AsyncGenerator[Upload, None]:
        """What was at `path` before `version`, newest first; looks back over 20 versions at most."""
        seen = (await asyncio.to_thread(self._archive.seen, path))[::-1]
        start = next((n + 1 for n, s in enumerate(seen) if s.version == version), 0) if version else 0
        for earlier in seen[start : start + _LOOK_BACK]:
            if earlier.version is None:
                if not deleted_too:
                    return
                continue
            data = await asyncio.to_thread(self._archive.body, path, earlier.version)
            if data is not None:
                yield _Held(earlier.version, data, len(data), earlier.modified, None).upload(max_bytes)

    async def current(self) -> Mapping[str, str]:
        """The version of every file that is there; one that cannot be read keeps the version it had.

        Raises:
            StoreUnavailable: The folder is away, with the reason in the details.
        """
        return await asyncio.to_thread(self._current)

    def _current(self) -> dict[str, str]:
        tree = self._look()
        held = {path: found for path in tree.files if (found := self._look_at(path, tree)) is not None}
        held |= {path: was for path, was in self._held.items() if path not in held and tree.hides(path)}
        self._check_not_emptied(tree, held)
        if self._tree is not None and self._tree.real != tree.real:
            carry_over(self._tree.real, tree.real)
        self._held, self._tree = held, tree
        return {path: found.version for path, found in held.items()}

    def _look(self) -> Tree:
        try:
            return look_at(self._root)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not self._held:  # a folder that is yet to be made
                return Tree(str(self._root), (0, 0), True, {}, {}, {})
            raise _away(reason_of(error)) from error

    def _look_at(self, path: str, tree: Tree) -> _Held | None:
        """The file at a path; it is opened only if it may have changed."""
        known, seen = self._held.get(path), tree.files[path]
        if known is not None and known.stamp == seen.stamp:
            return known
        try:
            return self._taken(path, read_local_file(seen.real, MOST_BYTES))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, NotAFile):
            return None
        except OSError as error:
            tree.unreadable[path] = reason_of(error)
            return known

    def _check_not_emptied(self, tree: Tree, held: Mapping[str, _Held]) -> None:
        had = [path for path in self._held if not is_partial(path)]
        if not had or any(not is_partial(path) for path in held):
            return
        same = self._tree is not None and self._tree.identity == tree.identity
        if len(had) > 1 or tree.bare or not same:
            raise _away("it holds no prompt any more")

    def _newest(self, path: str) -> _Held | None:
        try:
            found = self._taken(path, self._opened(path))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, NotAFile) as error:
            if not (self._root / path).is_symlink() or isinstance(error, NotAFile | IsADirectoryError):
                self._delete(path, error)
                return None
            return self._held.get(path)  # a link that leads nowhere at the moment
        except OSError:
            return self._held.get(path)
        self._archive.keep(path, SeenVersion(found.version, found.modified), found.data)
        self._held[path] = found
        return found

    def _delete(self, path: str, error: OSError) -> None:
        if self._held and not is_folder(self._root):
            raise _away(reason_of(error)) from error
        self._held.pop(path, None)
        self._archive.keep_deletion(path)

    def _taken(self, path: str, file: LocalFile) -> _Held:
        """A file that was read; what was there before it stays readable."""
        known = self._held.get(path)
        version = _version(file.data) if file.data is not None else _version(repr(file.stamp).encode())
        if known is not None and known.version != version and known.data is not None:
            self._archive.secure(path, known.version, known.data)
        settled = file.modified < time.time() - _SETTLED_S
        return _Held(version, file.data, file.size_bytes, file.modified, file.stamp if settled else None)

    def _read(self, path: str, version: str) -> bytes | None:
        try:
            found = self._opened(path).data
        except OSError:
            found = None
        if found is not None and _version(found) == version:
            return found
        body = self._archive.body(path, version)
        if body is None and self._held and not is_folder(self._root):
            raise _away("it is not there")
        return body

    def _opened(self, path: str) -> LocalFile:
        """The file at a path, if it is one that the gateway reads."""
        top = os.path.realpath(self._root, strict=True)
        real = os.path.realpath(Path(top, path), strict=True)
        if not (is_prompt_file(path) and lies_in(real, top)):
            raise NotAFile(None, "it is no prompt file of this folder")
        return read_local_file(real, MOST_BYTES)


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _moment(seconds: float) -> datetime:
    """A time that a file has, or the nearest that there is: file systems take any number."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return (datetime.max if seconds > 0 else datetime.min).replace(tzinfo=UTC)


def _away(reason: str) -> StoreUnavailable:
    return StoreUnavailable(
        "The folder of the prompts cannot be used at the moment.", details={"reason": reason}
    )
