"""Which prompt files lie in a folder at one moment, without opening any of them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llm_gateway.adapters.local.local_file import Stamp, stamp_of
from llm_gateway.prompts.files.path import MAX_PATH_BYTES, is_prompt_file

_GONE = {errno.ENOENT, errno.ENOTDIR}


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A prompt file that was seen.

    Attributes:
        real: Where its bytes lie, all links followed.
        stamp: As LocalFile.stamp.
    """

    real: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder of prompts at one moment.

    Attributes:
        real: Where the folder lies, all links followed.
        identity: Device and inode of the folder.
        bare: True if nothing at all lies in it, hidden files included.
        files: The prompt files, by path.
        unreadable: Files and folders that cannot be looked at, by path, with the reason.
        ignored: Links and special files with the name of a prompt file, by path, with the reason.
    """

    real: str
    identity: tuple[int, int]
    bare: bool
    files: Mapping[str, TreeFile]
    unreadable: dict[str, str]
    ignored: Mapping[str, str]

    def hides(self, path: str) -> bool:
        """True if nothing is known of the file at `path`: it, or a folder above it, cannot be read."""
        return any(path == hidden or path.startswith(f"{hidden}/") for hidden in self.unreadable)


def look_at(root: Path) -> Tree:
    """Look at every file below a folder.

    Links are followed as long as they lead into the folder: a ConfigMap is made of such links. A link that
    leads out of it is ignored, so that an author of prompts opens no other file of the machine. A
    linked folder is entered once: links to folders inside it are not followed, so no loop has an end to find.

    Raises:
        OSError: The folder itself is not there or cannot be read.
    """
    real = os.path.realpath(root, strict=True)
    status = Path(real).stat()
    walk = _Walk(real)
    bare = walk.enter_top()
    return Tree(real, (status.st_dev, status.st_ino), bare, walk.files, walk.unreadable, walk.ignored)


def lies_in(real: str, top: str) -> bool:
    """True if a path, all links followed, is `top` or below it."""
    return real == top or real.startswith(top.rstrip("/") + "/")


@dataclass(slots=True)
class _Walk:
    top: str
    files: dict[str, TreeFile] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    waiting: list[tuple[str, str, bool]] = field(default_factory=list)

    def enter_top(self) -> bool:
        """Look at everything; True if there was nothing to look at."""
        with os.scandir(self.top) as entries:
            found = list(entries)
        self._look_at_all(found, "", linked=False)
        while self.waiting:
            self._enter(*self.waiting.pop())
        return not found

    def _enter(self, folder: str, path: str, linked: bool) -> None:
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
        except OSError as error:
            self._cannot_read(path, error)
        else:
            self._look_at_all(found, f"{path}/", linked=linked)

    def _look_at_all(self, entries: list[os.DirEntry[str]], above: str, *, linked: bool) -> None:
        for entry in entries:
            path = above + entry.name
            if entry.name.startswith(".") or len(path) > MAX_PATH_BYTES:
                continue
            try:
                self._look_at(entry, path, linked=linked)
            except OSError as error:
                self._cannot_read(path, error, dangling=entry.is_symlink())

    def _look_at(self, entry: os.DirEntry[str], path: str, *, linked: bool) -> None:
        link = entry.is_symlink()
        real = os.path.realpath(entry.path, strict=True) if link else entry.path
        if link and not lies_in(real, self.top):
            self._ignore(path, "it is a link that leads out of the folder")
            return
        status = Path(real).stat() if link else entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            loop = link and (linked or lies_in(str(Path(entry.path).parent), real))
            if not loop:
                self.waiting.append((real, path, linked or link))
        elif not stat.S_ISREG(status.st_mode):
            self._ignore(path, "it is no regular file")
        elif is_prompt_file(path):
            self.files[path] = TreeFile(real, stamp_of(status))

    def _ignore(self, path: str, reason: str) -> None:
        if is_prompt_file(path):
            self.ignored[path] = reason

    def _cannot_read(self, path: str, error: OSError, *, dangling: bool = False) -> None:
        """What has gone since the folder was listed is no fault; a link without its target is one."""
        if dangling or error.errno not in _GONE:
            self.unreadable[path] = reason_of(error)


def reason_of(error: OSError) -> str:
    """What the system says, without the file's place on this machine."""
    return error.strerror or type(error).__name__
