"""Finds the Python that compiles the functions' bytecode."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


def compiler(python: str) -> Path | None:
    """An interpreter of this version, None if this machine has none.

    Looked at in this order: the one that runs this tool, the PATH, what uv finds or has installed, and
    pyenv's versions, which are on the PATH only if they are activated.
    """
    for candidate in _candidates(python):
        if _version(candidate) == python:
            return candidate
    return None


def _candidates(python: str) -> Iterator[Path]:
    yield Path(sys.executable)
    on_path = shutil.which(f"python{python}")
    if on_path:
        yield Path(on_path)
    found = _output([os.environ.get("UV", "uv"), "python", "find", "--no-project", python])
    if found:
        yield Path(found)
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    folders = [folder for folder in versions.glob(f"{python}.*") if re.fullmatch(r"[\d.]+", folder.name)]
    yield from (folder / "bin" / "python" for folder in sorted(folders, reverse=True))


def _version(interpreter: Path) -> str:
    return _output([str(interpreter), "-I", "-S", "-c", _VERSION])


def _output(command: list[str]) -> str:
    """What a command prints; empty if it does not exist or fails, as the shim of an inactive version does."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
