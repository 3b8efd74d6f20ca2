"""Reading files that others write: only regular ones, none that is too large, none that is half written."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_ATTEMPTS = 6
_PAUSE_S = 0.05
_TRUNCATED_S = 0.5  # an empty file that is younger may be one that an editor is about to fill
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_APPENDING = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file as it was at one moment.

    Attributes:
        data: Its bytes; None if it is larger than was asked for.
        size_bytes: Its size.
        modified: When it was written, seconds since 1970.
        stamp: What changes with every write: device, inode, size, times of content and of inode, ns.
    """

    data: bytes | None
    size_bytes: int
    modified: float
    stamp: Stamp


class NotAFile(OSError):
    """There is something at the path that is no regular file: a pipe, a socket, a device."""


def read_local_file(
    path: str | Path, most_bytes: int, pause: Callable[[float], None] = time.sleep
) -> LocalFile:
    """Read a regular file that nothing changes meanwhile.

    Type and size are looked at before it is opened, because opening a pipe waits for its writer. A file that
    changes while it is read, or was emptied a moment ago, is read again after a pause, up to six times.

    Args:
        path: The file; links are followed.
        most_bytes: Of a larger file only the size is told.
        pause: Waits so many seconds.

    Raises:
        NotAFile: It is no regular file.
        OSError: It is not there, cannot be read, or changes all the time.
    """
    for attempt in range(_ATTEMPTS):
        found, whole = _read(path, most_bytes)
        last = attempt == _ATTEMPTS - 1
        if whole and (last or found.data != b"" or not 0 <= time.time() - found.modified < _TRUNCATED_S):
            return found
        pause(_PAUSE_S)
    raise OSError(errno.EAGAIN, "it changes while it is read", str(path))


def read_whole(path: str | Path, most_bytes: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: It is no regular file, too large, not there, or cannot be read.
    """
    data = read_local_file(path, most_bytes).data
    if data is None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data


def append_line(path: str | Path, line: bytes) -> None:
    """Append a line to a regular file, which is made if it is not there; half a line before it is ended.

    Raises:
        OSError: It is no regular file, or cannot be written to.
    """
    with os.fdopen(os.open(path, _APPENDING, 0o666), "r+b", buffering=0) as opened:
        status = os.fstat(opened.fileno())
        _check_type(path, status)
        last = os.pread(opened.fileno(), 1, status.st_size - 1) if status.st_size else b"\n"
        opened.write(line + b"\n" if last == b"\n" else b"\n" + line + b"\n")


def is_folder(path: str | Path) -> bool:
    """True if there is a folder at `path`; False as well if the path cannot be looked at."""
    try:
        return stat.S_ISDIR(Path(path).stat().st_mode)
    except (OSError, ValueError):  # Path.is_dir() raises where a folder above may not be entered
        return False


def is_file(path: str | Path) -> bool:
    """True if there is a regular file at `path`; False as well if the path cannot be looked at."""
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except (OSError, ValueError):
        return False


def stamp_of(status: os.stat_result) -> Stamp:
    """What changes with every write of a file."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _read(path: str | Path, most_bytes: int) -> tuple[LocalFile, bool]:
    """One attempt, and whether the file stood still meanwhile."""
    _check_type(path, Path(path).stat())
    with os.fdopen(os.open(path, _FLAGS), "rb") as opened:
        before = os.fstat(opened.fileno())
        _check_type(path, before)
        small = before.st_size <= most_bytes
        data = opened.read(most_bytes + 1) if small else None
        after = os.fstat(opened.fileno())
    whole = stamp_of(before) == stamp_of(after) and (data is None or len(data) == after.st_size)
    return LocalFile(data, after.st_size, after.st_mtime, stamp_of(after)), whole


def _check_type(path: str | Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise NotAFile(errno.EINVAL, "it is no regular file", str(path))
