"""Starts and ends the emulator, in folders and on a port of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError

ROOT = Path(__file__).parent.parent.parent
BUILD = ROOT / ".build" / "local-aws"
PYTHON = ROOT / ".venv-local-aws" / "bin" / "python"
REGION = "us-east-1"
_READY_WITHIN_S = 30.0
_PASSED_ON = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator.

    Attributes:
        endpoint: Its address.
        pid: Its process, leader of a group that holds the functions' processes too.
        folder: What it keeps on disk.
        process: The same process if this one started it, so that it can be reaped.
    """

    endpoint: str
    pid: int
    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False, compare=False)

    @property
    def client_arguments(self) -> dict[str, str]:
        """Arguments of a boto3 session's `client` that lead here."""
        return {
            "endpoint_url": self.endpoint,
            "region_name": REGION,
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
        }


def start(name: str) -> Emulator:
    """Start an emulator whose permissions are enforced, and wait until it answers.

    Args:
        name: Names its folder; each running one needs its own.

    Raises:
        RuntimeError: It did not come up; its log's end is in the message.
    """
    folder = BUILD / name
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("tmp", "state"):
        (folder / part).mkdir(parents=True)
    port = free_port()
    with (folder / "emulator.log").open("wb") as log:
        process = subprocess.Popen(
            [str(PYTHON), "-m", "ministack"],
            env=_environment(port, folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=folder,
        )
    emulator = Emulator(endpoint=f"http://127.0.0.1:{port}", pid=process.pid, folder=folder, process=process)
    try:
        _wait_until_ready(emulator)
    except BaseException:
        stop(emulator)
        raise
    return emulator


def stop(emulator: Emulator) -> None:
    """End the emulator and every function process it started, and remove what it kept."""
    for sent, patience_s in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        if not _signal_group(emulator.pid, sent):
            break
        if _wait_for_end(emulator, patience_s):
            break
    shutil.rmtree(emulator.folder, ignore_errors=True)


@contextmanager
def running(name: str) -> Iterator[Emulator]:
    """An emulator for the duration of a block."""
    emulator = start(name)
    try:
        yield emulator
    finally:
        stop(emulator)


def _environment(port: int, folder: Path) -> Mapping[str, str]:
    """Nothing of the caller's own AWS settings: the functions would inherit them."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        **kept,
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": REGION,
        "AUTH": "true",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "TMPDIR": str(folder / "tmp"),
        "STATE_DIR": str(folder / "state"),
    }


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(emulator: Emulator) -> None:
    give_up = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < give_up and not _is_reaped(emulator):
        try:
            with urllib.request.urlopen(f"{emulator.endpoint}/_ministack/health", timeout=1):  # noqa: S310
                return
        except (URLError, OSError):
            time.sleep(0.05)
    log = (emulator.folder / "emulator.log").read_text(errors="replace")[-2000:]
    raise RuntimeError(f"The local AWS did not start:\n{log}")


def _signal_group(pid: int, sent: signal.Signals) -> bool:
    try:
        os.killpg(pid, sent)
    except ProcessLookupError:
        return False
    return True


def _wait_for_end(emulator: Emulator, patience_s: float) -> bool:
    give_up = time.monotonic() + patience_s
    while time.monotonic() < give_up:
        _is_reaped(emulator)  # a child of ours counts as alive until it is reaped
        if not _signal_group(emulator.pid, signal.SIGCONT):  # harmless, and fails once nobody is left
            return True
        time.sleep(0.05)
    return False


def _is_reaped(emulator: Emulator) -> bool:
    return emulator.process is not None and emulator.process.poll() is not None
