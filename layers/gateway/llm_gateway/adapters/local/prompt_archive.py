"""Versions of prompt files that were seen, beside the prompts on disk where that can be written to."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from llm_gateway.adapters.local.local_file import append_line, is_folder, read_whole

STATE = ".llm-gateway"
"""Folder below the prompts that holds versions, history and labels."""
_MOST_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class SeenVersion:
    """A version that was at a path, or with None its deletion.

    Attributes:
        version: The version.
        modified: When it was written, seconds since 1970.
    """

    version: str | None
    modified: float


class FolderArchive:
    """The versions that were seen; what the disk does not take is held in memory.

    Args:
        root: The top of the prompts; it may be a link that leads elsewhere tomorrow.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / STATE / "versions"
        self._seen: dict[str, list[SeenVersion]] = {}
        self._bodies: dict[tuple[str, str], bytes] = {}

    def seen(self, path: str) -> list[SeenVersion]:
        """What was at `path`, oldest first."""
        if path not in self._seen:
            self._seen[path] = list(self._noted(path))
        return self._seen[path]

    def keep(self, path: str, seen: SeenVersion, data: bytes | None) -> None:
        """Note that this is at `path` now; None are the bytes of a file that is too large to keep."""
        known = self.seen(path)
        if seen.version is None or (known and known[-1].version == seen.version):
            return
        known.append(seen)
        try:
            if data is not None:
                write_whole(self._folder / path / seen.version, data)
            self._note(path, seen)
        except OSError:
            if data is not None:
                self._bodies[path, seen.version] = data

    def secure(self, path: str, version: str, data: bytes) -> None:
        """Hold a version in memory that the disk has no more, as after the folder was replaced by another."""
        if self.body(path, version) is None:
            self._bodies[path, version] = data

    def keep_deletion(self, path: str) -> None:
        """Note that nothing is at `path` now."""
        known = self.seen(path)
        if not known or known[-1].version is None:
            return
        known.append(SeenVersion(None, datetime.now(UTC).timestamp()))
        try:
            self._note(path, known[-1])
        except OSError:
            return  # a folder that is read-only has its history in memory

    def body(self, path: str, version: str) -> bytes | None:
        """The bytes of a version that was seen."""
        if not version.isalnum():
            return None
        try:
            return read_whole(self._folder / path / version, _MOST_BYTES)
        except OSError:
            return self._bodies.get((path, version))

    def _noted(self, path: str) -> Iterator[SeenVersion]:
        try:
            lines = read_whole(self._folder / path / "seen.jsonl", _MOST_BYTES).splitlines()
        except OSError:
            return
        for line in lines:
            with suppress(ValueError):  # a process died while it wrote the line
                yield _SEEN.validate_json(line)

    def _note(self, path: str, seen: SeenVersion) -> None:
        append_line(self._folder / path / "seen.jsonl", _SEEN.dump_json(seen))


def carry_over(before: str, now: str) -> None:
    """Copy versions, history and labels to the folder that took another's place, unless it has its own."""
    source, target = Path(before, STATE), Path(now, STATE)
    if not is_folder(source) or is_folder(target):
        return
    copy = target.with_name(f"{STATE}.new")
    try:
        shutil.copytree(source, copy)
        copy.rename(target)
    except (OSError, shutil.Error):  # the old one has gone, or the new one is read-only
        shutil.rmtree(copy, ignore_errors=True)


def write_whole(file: Path, data: bytes) -> None:
    """Replace a file so that a reader at the same time finds either the old bytes or the new ones."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(data)
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


_SEEN = TypeAdapter(SeenVersion)
