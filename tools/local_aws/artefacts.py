"""Builds functions and layers for this machine with the makefiles that `sam build` uses too."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import platform
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local_aws.emulator import BUILD, PYTHON, ROOT

_SOURCES = {"AWS::Serverless::Function": "CodeUri", "AWS::Serverless::LayerVersion": "ContentUri"}
_EPOCH = (1980, 1, 1, 0, 0, 0)


def interpreter_version() -> str:
    """Version of the Python that runs the functions locally: the emulator's own."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([PYTHON, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def architecture() -> str:
    """This machine's processor as Lambda names it."""
    return "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"


def source_property(resource: dict[str, Any]) -> str | None:
    """Name of the property that holds a resource's code, None if it has no code."""
    return _SOURCES.get(resource["Type"])


def build(template: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Path]:
    """Folder of the built artefact by logical id; what has not changed is not built again."""
    version = interpreter_version()
    with _alone():
        return {
            name: _build_one(name, ROOT / _source_folder(resource, template), version, tell)
            for name, resource in template["Resources"].items()
            if source_property(resource)
        }


@contextmanager
def _alone() -> Iterator[None]:
    """Let no other process build at the same time."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "artefacts.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def zipped(folder: Path) -> bytes:
    """The folder as a zip that depends on nothing but its content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in _files(folder):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()


def _source_folder(resource: dict[str, Any], template: dict[str, Any]) -> str:
    kind = source_property(resource)
    properties = {**template["Globals"]["Function"], **resource["Properties"]}
    return str(properties[kind])


def _build_one(name: str, source: Path, version: str, tell: Callable[[str], None]) -> Path:
    target = BUILD / "artefacts" / name
    digest = _digest(source, version)
    stamp = target.with_suffix(".digest")
    if target.exists() and stamp.exists() and stamp.read_text() == digest:
        return target
    tell(f"building {name}")
    shutil.rmtree(target, ignore_errors=True)
    stamp.unlink(missing_ok=True)
    target.mkdir(parents=True)
    environment = {
        **os.environ,
        "ARTIFACTS_DIR": str(target),
        "TARGET_PYTHON": version,
        "TARGET_PLATFORM": "",
        "COMPILER": str(PYTHON),
    }
    done = subprocess.run(
        ["make", "--no-print-directory", "-C", source, f"build-{name}"],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{name} could not be built:\n{done.stdout}{done.stderr}")
    stamp.write_text(digest)
    return target


def _digest(source: Path, version: str) -> str:
    digest = hashlib.sha256(f"{version} {PYTHON}".encode())
    for path in _files(source):
        if "__pycache__" in path.parts:  # comes and goes with whoever imports
            continue
        digest.update(path.relative_to(source).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
