"""The image works as compose.yaml runs it: a user without rights, and nothing to write to but its volume."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local_aws.emulator import ROOT, free_port
from tests.image import machine
from tests.image.dockerfile import read, send_context
from tests.image.machine import Image

WHY_NOT = machine.reason_why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
PATIENCE_S = 60.0
USER = 10001
EDITED = "---\nmodel: openai/gpt-4o-mini\n---\nTell {{ name }} that this was edited.\n"


@dataclass(frozen=True)
class Container:
    """A running one.

    Attributes:
        image: What runs.
        process: Its first process.
        prompts: The folder that is mounted at /prompts.
        data: The folder that is mounted at /data.
        log: What it has said.
        ports: Of HTTP and gRPC.
    """

    image: Image
    process: subprocess.Popen[bytes]
    prompts: Path
    data: Path
    log: Path
    ports: tuple[int, int]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def example(self, name: str) -> str:
        done = subprocess.run(
            [sys.executable, ROOT / "examples" / name],
            env={"URL": self.url, "TARGET": f"127.0.0.1:{self.ports[1]}"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """What `docker build .` makes of what git knows of."""
    work = tmp_path_factory.mktemp("image")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    send_context(ROOT, [path for path in files if (ROOT / path).is_file()], work / "context")
    yield machine.build(read(ROOT / "Dockerfile"), work / "context", work)
    shutil.rmtree(work)


@pytest.fixture(scope="module")
def container(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    folder = tmp_path_factory.mktemp("container")
    prompts, data, log = folder / "prompts", folder / "data", folder / "log"
    shutil.copytree(ROOT / "prompts", prompts)
    data.mkdir()
    os.chown(data, USER, USER)  # as a new volume takes over the owner of the image's folder
    ports = (free_port(), free_port())
    volumes = {"/prompts": (prompts, "ro"), "/data": (data, "rw")}
    settings = {"TEST_MODE": "true", "TEST_LATENCY": "none", "ACCESS": "open"}
    environment = listening(ports) | {f"LLM_GATEWAY_{name}": value for name, value in settings.items()}
    with image.running(volumes, environment, log) as process:
        running = Container(image, process, prompts, data, log, ports)
        eventually(lambda: is_healthy(running, ports), running)
        yield running


def test_its_health_check_fails_where_nothing_answers(container: Container) -> None:
    assert is_healthy(container, container.ports)
    assert not is_healthy(container, (free_port(), free_port()))


def test_it_runs_as_a_user_without_any_rights_on_a_file_system_that_it_cannot_write_to(
    container: Container,
) -> None:
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{container.process.pid}/status").read_text().splitlines()
    )
    assert set(status["Uid"].split()) == {str(USER)}
    assert {int(status[kind], 16) for kind in ("CapPrm", "CapEff", "CapBnd", "CapInh")} == {0}
    assert status["NoNewPrivs"] == "1"
    mounts = Path(f"/proc/{container.process.pid}/mountinfo").read_text().splitlines()
    writable = {line.split()[4] for line in mounts if line.split()[5].startswith("rw")}
    beyond = {
        point for point in writable if point.startswith("/") and not point.startswith(("/dev", "/proc"))
    }
    assert {"/data", "/tmp"} <= beyond  # noqa: S108
    assert not {"/", "/prompts", "/usr/local"} & beyond


def test_it_answers_over_http_and_grpc_with_the_examples_and_keeps_usage_on_its_volume(
    container: Container,
) -> None:
    for client in ("http_client.py", "grpc_client.py"):
        told = container.example(client)
        assert "prompts: support/classify.prompt" in told
        assert "answer: [test mode]" in told
    usage = container.data / "usage.db"
    assert usage.is_file()
    assert usage.stat().st_uid == USER


def test_a_prompt_that_is_edited_outside_is_served(container: Container) -> None:
    (container.prompts / "edited.prompt").write_text(EDITED)

    def served() -> bool:
        answer = httpx2.get(f"{container.url}/v1/prompts/edited.prompt", timeout=PATIENCE_S)
        return answer.status_code == 200 and answer.json()["required_variables"] == ["name"]

    eventually(served, container)
    assert not (container.prompts / ".llm-gateway").exists()


def test_its_log_is_json_from_the_first_line_to_the_last(container: Container) -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in container.log.read_text().splitlines()]
    assert lines


def test_it_holds_bytecode_the_product_and_nothing_of_the_tests(image: Image) -> None:
    packages = next(
        (image.layers.folder / "root" / "opt" / "llm-gateway" / "lib").glob("python3.*/site-packages")
    )
    assert list((packages / "llm_gateway" / "__pycache__").glob("gateway.*.pyc"))
    assert (packages / "llm_gateway" / "models" / "catalogue.toml").is_file()
    assert not (packages / "pytest").exists()
    assert not (packages / "pip").exists()


def listening(ports: tuple[int, int]) -> dict[str, str]:
    """On loopback and free ports; inside a container of its own it would be the image's."""
    return {
        "LLM_GATEWAY_HOST": "127.0.0.1",
        "LLM_GATEWAY_HTTP_PORT": str(ports[0]),
        "LLM_GATEWAY_GRPC_PORT": str(ports[1]),
    }


def is_healthy(container: Container, ports: tuple[int, int]) -> bool:
    return container.image.health(container.process, listening(ports)) == 0


def eventually(look: Callable[[], bool], container: Container) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < give_up, container.log.read_text()[-3000:]
        assert container.process.poll() is None, container.log.read_text()[-3000:]
        time.sleep(0.1)
