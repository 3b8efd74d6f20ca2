"""Prompt files in a folder on disk; a version is a digest of its content.

Versions are kept beside the prompts once they are seen (`.llm-gateway/versions/<path>/`), so that pinned
versions, labels and the last good version outlive a restart; where the folder cannot be written to they
are kept in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tempfile
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from llm_gateway.errors import PromptNotFound
from llm_gateway.prompts.assembly import Upload
from llm_gateway.prompts.path import check_path, is_prompt_file

STATE = ".llm-gateway"
_LOOK_BACK = 20


@dataclass(frozen=True, slots=True)
class _Seen:
    """A version that was at a path, or with None its deletion."""

    version: str | None
    modified: float


class FolderPromptFiles:
    """Reads and writes versions; see PromptBodies and PromptUploads.

    Args:
        root: The top of the prompts.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._archive = _Archive(self._root / STATE / "versions")

    async def read(self, path: str, version: str) -> bytes:
        """See PromptBodies.read."""
        data = await asyncio.to_thread(self._read, path, version)
        if data is None:
            raise PromptNotFound(
                f"There is no such version of '{path}'; leave 'version' out for the current one.",
                param="version",
            )
        return data

    async def upload(self, path: str, data: bytes) -> str:
        """Make `data` the newest version of the file at `path`; returns the version's id."""
        await asyncio.to_thread(_write, self._root / check_path(path), data)
        await self.newest(path, len(data))
        return _version(data)

    async def newest(self, path: str, max_bytes: int) -> Upload | None:
        """See PromptUploads.newest."""
        return await asyncio.to_thread(self._newest, path, max_bytes)

    async def earlier(
        self, path: str, version: str | None, max_bytes: int, *, deleted_too: bool = False
    ) -> AsyncGenerator[Upload, None]:
        """See PromptUploads.earlier; looks back over 20 versions at most."""
        seen = (await asyncio.to_thread(self._archive.seen, path))[::-1]
        start = next((n + 1 for n, s in enumerate(seen) if s.version == version), 0) if version else 0
        for earlier in seen[start : start + _LOOK_BACK]:
            if earlier.version is None:
                if not deleted_too:
                    return
                continue
            data = await asyncio.to_thread(self._archive.body, path, earlier.version)
            if data is not None:
                yield _upload(earlier.version, data, earlier.modified, max_bytes)

    async def current(self) -> Mapping[str, str]:
        """See PromptUploads.current."""
        return await asyncio.to_thread(self._current)

    def _current(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for folder, below, names in os.walk(self._root):
            below[:] = [name for name in below if not name.startswith(".")]
            for name in names:
                path = (Path(folder) / name).relative_to(self._root).as_posix()
                data = self._data(path)
                if is_prompt_file(path) and not name.startswith(".") and data is not None:
                    found[path] = _version(data[0])
        return found

    def _newest(self, path: str, max_bytes: int) -> Upload | None:
        found = self._data(path)
        if found is None:
            self._archive.keep_deletion(path)
            return None
        data, modified = found
        upload = _upload(_version(data), data, modified, max_bytes)
        self._archive.keep(path, _Seen(upload.version, modified), data)
        return upload

    def _read(self, path: str, version: str) -> bytes | None:
        found = self._data(path)
        if found is not None and _version(found[0]) == version:
            return found[0]
        return self._archive.body(path, version)

    def _data(self, path: str) -> tuple[bytes, float] | None:
        """A file's bytes and time; None if there is none, or none that lies in the folder."""
        file = self._root / path
        try:
            if not file.resolve().is_relative_to(self._root):
                return None
            return file.read_bytes(), file.stat().st_mtime
        except OSError:
            return None  # gone between look and read, a folder, or not ours to read


class _Archive:
    """The versions that were seen, on disk if it can be written to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, list[_Seen]] = {}
        self._bodies: dict[tuple[str, str], bytes] = {}

    def seen(self, path: str) -> list[_Seen]:
        """What was at `path`, oldest first."""
        if path not in self._seen:
            try:
                lines = (self._folder / path / "seen.jsonl").read_text(encoding="utf-8").splitlines()
            except OSError:
                lines = []
            self._seen[path] = [seen for line in lines for seen in _read_seen(line)]
        return self._seen[path]

    def keep(self, path: str, seen: _Seen, data: bytes) -> None:
        """Note that this is at `path` now."""
        known = self.seen(path)
        if known and known[-1].version == seen.version:
            return
        known.append(seen)
        assert seen.version is not None  # noqa: S101 (a deletion has no bytes to keep)
        try:
            _write(self._folder / path / seen.version, data)
            self._note(path, seen)
        except OSError:
            self._bodies[path, seen.version] = data

    def keep_deletion(self, path: str) -> None:
        """Note that nothing is at `path` now."""
        known = self.seen(path)
        if not known or known[-1].version is None:
            return
        known.append(_Seen(None, datetime.now(UTC).timestamp()))
        try:
            self._note(path, known[-1])
        except OSError:
            return  # a folder that is read-only has its history in memory

    def body(self, path: str, version: str) -> bytes | None:
        """The bytes of a version that was seen."""
        if not version.isalnum():
            return None
        try:
            return (self._folder / path / version).read_bytes()
        except OSError:
            return self._bodies.get((path, version))

    def _note(self, path: str, seen: _Seen) -> None:
        line = json.dumps({"version": seen.version, "modified": seen.modified})
        with (self._folder / path / "seen.jsonl").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def _read_seen(line: str) -> Iterator[_Seen]:
    """What a line of the archive says; half a line, which a full disk leaves, must not hide the others."""
    with suppress(ValueError, TypeError):
        yield _Seen(**json.loads(line))


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _upload(version: str, data: bytes, modified: float, max_bytes: int) -> Upload:
    return Upload(
        version=version,
        etag=version,
        size_bytes=len(data),
        last_modified=datetime.fromtimestamp(modified, UTC),
        data=data if len(data) <= max_bytes else None,
    )


def _write(file: Path, data: bytes) -> None:
    """All or nothing, for whoever reads at the same time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
