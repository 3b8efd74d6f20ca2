"""Prompt paths: the ids callers use and the file names authors choose."""

from __future__ import annotations

import unicodedata

from llm_gateway.access.reach import PROMPT_EXTENSIONS
from llm_gateway.errors import InvalidPath

EXTENSIONS = PROMPT_EXTENSIONS
MAX_PATH_BYTES = 512


def check_path(text: str, param: str = "prompt") -> str:
    """The path itself, if it is plain: relative, no empty, `.` or `..` part, nothing unprintable.

    Raises:
        InvalidPath: Saying which rule is broken; the path itself is not repeated.
    """
    if problem := _problem(text):
        raise InvalidPath(
            f"'{param}' {problem}; give a relative path like support/reply.prompt.", param=param
        )
    return text


def check_directory(text: str) -> str:
    """A directory without its trailing slash; empty for the top.

    Raises:
        InvalidPath: As `check_path`.
    """
    trimmed = text.removesuffix("/")
    return check_path(trimmed, "directory") if trimmed else ""


def is_prompt_file(path: str) -> bool:
    """True for a file that is a prompt or a partial; every other file is ignored, in a bucket and on disk."""
    return ignored_because(path) is None


def ignored_because(path: str) -> str | None:
    """Why the gateway ignores the file at `path`, as the end of a sentence; None if it is a prompt file.

    This is the one rule for buckets, folders, the linter and uploads: a prompt file has a known extension,
    a plain path, and no part of its path is hidden.
    """
    if problem := _problem(path):
        return f"its path {problem}"
    if is_hidden(path):
        return "a name in its path begins with a dot"
    return None if path.endswith(EXTENSIONS) else f"its name ends in none of {', '.join(EXTENSIONS)}"


def is_hidden(path: str) -> bool:
    """True if the file's name, or a folder's above it, begins with a dot."""
    return path.startswith(".") or "/." in path


def is_partial(path: str) -> bool:
    """True for a file that others include: it, or a folder above it, begins with an underscore."""
    return any(part.startswith("_") for part in path.split("/"))


def has_extension(path: str) -> bool:
    """True if the path names one file rather than a stem that several files may share."""
    return path.endswith(EXTENSIONS)


def _problem(text: str) -> str | None:
    if not text:
        return "is empty"
    if any(unicodedata.category(character).startswith("C") for character in text):
        return "holds a control or unassigned character"
    if len(text.encode()) > MAX_PATH_BYTES:
        return f"is longer than {MAX_PATH_BYTES} bytes"
    if "\\" in text:
        return "holds a backslash"
    if text.startswith("/"):
        return "is absolute"
    if any(part in ("", ".", "..") for part in text.split("/")):
        return "holds an empty, '.' or '..' part"
    return None
