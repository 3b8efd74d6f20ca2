"""Builds and runs a Dockerfile without a container engine: in mount namespaces of this machine's own file system.

Linux's own means: overlays in the place of layers, chroot, and setpriv in the place of USER, cap_drop and
no-new-privileges. This machine stands in for the base image, and the Python that runs the tests for the base image's.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.image.dockerfile import Stage, flags, sources

_NAMESPACE = ("unshare", "--mount", "--propagation", "private")
_PYTHON = Path(sys.base_prefix)
# What the machine needs to reach its package index.
_PASSED_ON = ("PIP_", "SSL_CERT_")


def reason_why_not() -> str | None:
    """Why an image cannot be built here, None if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "building the image without an engine takes Linux and root"
    if not (_PYTHON / "bin" / "python").exists() or _PYTHON == Path("/usr"):
        return "building the image without an engine takes a Python of its own folder"
    if any(shutil.which(tool) is None for tool in ("unshare", "setpriv", "chroot")):
        return "building the image without an engine takes unshare, setpriv and chroot"
    probe = subprocess.run([*_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    return "mounts are not allowed here" if probe.returncode else None


@dataclass(frozen=True, slots=True)
class Layers:
    """What a stage has changed: of the file system, and of Python's folder, which is mounted into it."""

    folder: Path

    def made(self) -> Layers:
        for part in ("root", "python", "root-work", "python-work", "mounted"):
            (self.folder / part).mkdir(parents=True)
        return self

    @property
    def mounted(self) -> Path:
        return self.folder / "mounted"

    def mounts(self, *, writable: bool) -> list[str]:
        """Shell commands that put the stage's file system together."""
        root, python = f"{self.folder}/root", f"{self.folder}/python"
        if writable:
            options = [
                f"lowerdir=/,upperdir={root},workdir={root}-work",
                f"lowerdir={_PYTHON},upperdir={python},workdir={python}-work",
            ]
        else:
            options = [f"lowerdir={root}:/", f"lowerdir={python}:{_PYTHON}"]
        return [
            f"mount -t overlay overlay -o {options[0]} {self.mounted}",
            f"mount -t overlay overlay -o {options[1]} {self.mounted}/usr/local",
            f"mount -t proc proc {self.mounted}/proc",
            f"mount --rbind /dev {self.mounted}/dev",
        ]


def build(stages: Sequence[Stage], context: Path, work: Path) -> Layers:
    """Run every instruction of every stage; returns the last one's layers."""
    layers = {stage.name: Layers(work / f"stage-{n}").made() for n, stage in enumerate(stages)}
    for stage in stages:
        here = layers[stage.name]
        script = ["set -eu", *here.mounts(writable=True), f"mount -t tmpfs tmpfs {here.mounted}/tmp"]
        folder, environment = "/", _base_environment()
        for instruction, rest in stage.instructions:
            match instruction:
                case "WORKDIR":
                    folder = rest
                    script.append(f"mkdir -p {here.mounted}{folder}")
                case "ENV":
                    environment.append(f"export {rest}")
                case "COPY":
                    origin = flags(rest)[0].get("from")
                    top = layers[origin].folder / "root" if origin else context
                    script += _copies(rest, top, here.mounted, folder)
                case "RUN":
                    script.append(_inside(here, environment, f"cd {folder}; {flags(rest)[1]}"))
        _run(script)
    return layers[stages[-1].name]


def _copies(rest: str, top: Path, root: Path, folder: str) -> Iterator[str]:
    copied, target = sources(rest)
    to = f"{root}/{target.lstrip('/')}" if target.startswith("/") else f"{root}{folder}/{target}"
    for source in copied:
        if (top / source.lstrip("/")).is_dir():
            yield f"mkdir -p {to} && cp -a {top}/{source.lstrip('/')}/. {to}/"
        else:
            yield f"mkdir -p $(dirname {to}x) && cp -a {top}/{source.lstrip('/')} {to}"


@contextmanager
def running(
    stage: Stage,
    layers: Layers,
    arguments: Sequence[str],
    volumes: Mapping[str, tuple[Path, str]],
    environment: Mapping[str, str],
    log: Path,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the image as compose.yaml runs it: nothing can be written to but its volumes and /tmp.

    Args:
        stage: The image's last stage.
        layers: What the build made of it.
        arguments: The command.
        volumes: Folder of this machine, and `ro` or `rw`, by mount point.
        environment: Variables over those of the image.
        log: Where its output goes.
    """
    script = ["set -eu", *layers.mounts(writable=False)]
    script.append(f"mount -t tmpfs -o mode=1777,noexec,nosuid,nodev tmpfs {layers.mounted}/tmp")
    for point, (folder, mode) in volumes.items():
        script += [
            f"mount --bind {folder} {layers.mounted}{point}",
            f"mount -o remount,bind,{mode} {layers.mounted}{point}",
        ]
    exports = _base_environment(package_index=False)
    exports += [f"export {rest}" for name, rest in stage.instructions if name == "ENV"]
    exports += [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    user, group = stage.last("USER").split(":")
    as_user = (
        f"setpriv --reuid {user} --regid {group} --clear-groups --bounding-set=-all --inh-caps=-all"
        " --no-new-privs"
    )
    command = f"cd {stage.last('WORKDIR')}; exec {as_user} {shlex.join(arguments)}"
    script.append(f"exec {_inside(layers, exports, command)}")
    with log.open("wb") as opened:
        process = subprocess.Popen(
            [*_NAMESPACE, "bash", "-c", "\n".join(script)], stdout=opened, stderr=opened
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)


def _base_environment(*, package_index: bool = True) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if package_index and name.startswith(_PASSED_ON)}
    base = {
        "PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        # Where a Python outside its own prefix finds its library.
        "LD_LIBRARY_PATH": "/usr/local/lib",
    }
    return [f"export {name}={shlex.quote(value)}" for name, value in {**kept, **base}.items()]


def _inside(layers: Layers, environment: Sequence[str], command: str) -> str:
    inner = "; ".join(["set -eu", *environment, command])
    return f"chroot {layers.mounted} env -i sh -c {shlex.quote(inner)}"


def _run(script: Sequence[str]) -> None:
    done = subprocess.run([*_NAMESPACE, "bash", "-c", "\n".join(script)], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
