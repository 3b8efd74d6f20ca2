"""`llm-gateway serve` as a process of its own, on free ports of loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).parents[3]
COMMAND = str(Path(sys.executable).parent / "llm-gateway")
PATIENCE_S = 30.0
PROMPT = "---\nmodel: openai/gpt-4o-mini\n---\nGreet {{ name }}.\n"
OPEN = {
    "LLM_GATEWAY_ACCESS": "open",
    "LLM_GATEWAY_HTTP_PORT": "0",
    "LLM_GATEWAY_GRPC_PORT": "0",
}
TEST_MODE = {**OPEN, "LLM_GATEWAY_TEST_MODE": "true", "LLM_GATEWAY_TEST_LATENCY": "none"}
CALL: Mapping[str, Any] = {"prompt": "hello", "variables": {"name": "Ada"}, "calling_service": "shop"}


@dataclass
class Serving:
    """The running process.

    Attributes:
        process: It.
        announced: Its first line.
        log: File of its standard output.
    """

    process: subprocess.Popen[bytes]
    announced: dict[str, Any]
    log: Path

    @property
    def url(self) -> str:
        scheme = "https" if self.announced["tls"] else "http"
        return f"{scheme}://127.0.0.1:{self.announced['http_port']}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.announced['grpc_port']}"

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged, every line as JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def get(self, path: str, **query: str) -> httpx2.Response:
        return httpx2.get(f"{self.url}{path}", params=query, timeout=PATIENCE_S)

    def call(self, **changes: Any) -> httpx2.Response:
        return httpx2.post(f"{self.url}/v1/call", json={**CALL, **changes}, timeout=PATIENCE_S)

    def usage(self) -> dict[str, Any]:
        """What GET /v1/usage tells of all calls of these days."""
        now = time.time()
        start, end = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + d)) for d in (-86_400, 86_400))
        found: dict[str, Any] = self.get("/v1/usage", start=start, end=end).json()
        return found

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1000

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


def prompts(folder: Path) -> Path:
    """A folder with one prompt, `hello`."""
    folder.mkdir(exist_ok=True)
    (folder / "hello.prompt").write_text(PROMPT)
    return folder


def environment(folder: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """A clean one, with prompts and usage in a folder."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}/layers/gateway",
        "LLM_GATEWAY_PROMPT_FOLDER": str(folder / "prompts"),
        "LLM_GATEWAY_USAGE_FILE": str(folder / "usage.db"),
        **variables,
    }


@contextmanager
def serving(folder: Path, variables: Mapping[str, str], *arguments: str) -> Iterator[Serving]:
    """The process for the duration of a block, killed at its end if it still lives."""
    prompts(folder / "prompts")
    log = folder / f"serve-{time.monotonic_ns()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [COMMAND, "serve", *arguments],
            env=environment(folder, variables),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    try:
        yield Serving(process, _announced(process, log), log)
    finally:
        process.kill()
        process.wait()


def _announced(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up and process.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("{") and json.loads(line)["message"] == "serving":
                found: dict[str, Any] = json.loads(line)
                return found
        time.sleep(0.02)
    raise AssertionError(log.read_text())
