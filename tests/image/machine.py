"""Builds and runs a Dockerfile without a container engine: in mount namespaces of this machine.

Overlays stand for layers, chroot for the container's root, setpriv for USER, cap_drop and no-new-privileges;
this machine stands for the base image, and the Python that runs the tests for the base image's.
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
    if not (_PYTHON / "bin" / "python").exists() or Path("/usr") == _PYTHON:
        return "building the image without an engine takes a Python of its own folder"
    if any(shutil.which(tool) is None for tool in ("unshare", "nsenter", "setpriv", "chroot")):
        return "building the image without an engine takes unshare, nsenter, setpriv and chroot"
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

    def mounts(self) -> list[str]:
        """Shell commands that put the stage's file system together."""
        root, python = f"{self.folder}/root", f"{self.folder}/python"
        options = f"lowerdir=/,upperdir={root},workdir={root}-work"
        python_options = f"lowerdir={_PYTHON},upperdir={python},workdir={python}-work"
        return [
            "set -eu",
            f"mount -t overlay overlay -o {options} {self.mounted}",
            f"mount -t overlay overlay -o {python_options} {self.mounted}/usr/local",
            f"mount -t proc proc {self.mounted}/proc",
            f"mount --rbind /dev {self.mounted}/dev",
            f"mount -t tmpfs -o mode=1777,noexec,nosuid,nodev tmpfs {self.mounted}/tmp",  # noqa: S108
        ]


def build(stages: Sequence[Stage], context: Path, work: Path) -> Image:
    """Run every instruction of every stage."""
    layers = {stage.name: Layers(work / f"stage-{n}").made() for n, stage in enumerate(stages)}
    for stage in stages:
        here = layers[stage.name]
        script = here.mounts()
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
                    command = _shell(environment, f"cd {folder}; {flags(rest)[1]}")
                    script.append(f"chroot {here.mounted} {shlex.join(command)}")
        _run(script)
    return Image(stages[-1], layers[stages[-1].name])


def _copies(rest: str, top: Path, root: Path, folder: str) -> Iterator[str]:
    copied, target = sources(rest)
    to = f"{root}/{target.lstrip('/')}" if target.startswith("/") else f"{root}{folder}/{target}"
    for source in copied:
        if (top / source.lstrip("/")).is_dir():
            yield f"mkdir -p {to} && cp -a {top}/{source.lstrip('/')}/. {to}/"
        else:
            yield f"mkdir -p $(dirname {to}x) && cp -a {top}/{source.lstrip('/')} {to}"


@dataclass(frozen=True, slots=True)
class Image:
    """What can be run.

    Attributes:
        stage: The last stage, which says how.
        layers: What the build made of it.
    """

    stage: Stage
    layers: Layers

    @contextmanager
    def running(
        self, volumes: Mapping[str, tuple[Path, str]], environment: Mapping[str, str], log: Path
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Its command as compose.yaml runs it: only its volumes and /tmp can be written to.

        Args:
            volumes: Folder of this machine, and `ro` or `rw`, by mount point.
            environment: Variables over those of the image.
            log: Where its output goes.
        """
        script, top = self.layers.mounts(), self.layers.mounted
        for point, (folder, mode) in volumes.items():
            script += [f"mount --bind {folder} {top}{point}", f"mount -o remount,bind,{mode} {top}{point}"]
        script += [f"mount -o remount,bind,ro {top}/usr/local", f"mount -o remount,bind,ro {top}"]
        command = [*self.stage.command("ENTRYPOINT"), *self.stage.command("CMD")]
        script.append(f"exec chroot {top} {shlex.join(self._as_user(command, environment))}")
        with log.open("wb") as opened:
            process = subprocess.Popen(
                [*_NAMESPACE, "bash", "-c", "\n".join(script)], stdout=opened, stderr=opened
            )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=20)

    def health(self, process: subprocess.Popen[bytes], environment: Mapping[str, str]) -> int:
        """What its health check says, asked inside of a running one."""
        inside = ("nsenter", "--target", str(process.pid), "--mount", "--root")
        command = self._as_user(self.stage.command("HEALTHCHECK"), environment)
        return subprocess.run([*inside, *command], timeout=30).returncode

    def _as_user(self, command: Sequence[str], environment: Mapping[str, str]) -> Sequence[str]:
        exports = _base_environment(package_index=False)
        exports += [f"export {rest}" for name, rest in self.stage.instructions if name == "ENV"]
        exports += [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
        user, group = self.stage.last("USER").split(":")
        rights = "--clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs"
        run = f"setpriv --reuid {user} --regid {group} {rights} {shlex.join(command)}"
        return _shell(exports, f"cd {self.stage.last('WORKDIR')}; exec {run}")


def _base_environment(*, package_index: bool = True) -> list[str]:
    kept = {
        name: value for name, value in os.environ.items() if package_index and name.startswith(_PASSED_ON)
    }
    base = {
        "PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        # Where a Python outside its own prefix finds its library.
        "LD_LIBRARY_PATH": "/usr/local/lib",
    }
    return [f"export {name}={shlex.quote(value)}" for name, value in {**kept, **base}.items()]


def _shell(exports: Sequence[str], command: str) -> Sequence[str]:
    return ("env", "-i", "sh", "-c", "; ".join(["set -eu", *exports, command]))


def _run(script: Sequence[str]) -> None:
    done = subprocess.run([*_NAMESPACE, "bash", "-c", "\n".join(script)], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
