"""compose.yaml, the Dockerfiles and the code agree. That it is valid at all is for `make audit`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_gateway.bootstrap.settings import ENV_PREFIX, Settings
from local_aws.emulator import ROOT
from tests.image.dockerfile import Stage, is_sent, read, sources

SANDBOX: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = SANDBOX["services"]
DOCKERFILES = [ROOT / "Dockerfile", ROOT / "tools" / "local_aws" / "Dockerfile"]
IGNORE = [
    line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_rights_and_a_file_system_that_it_cannot_write_to(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert all("docker.sock" not in volume for volume in service.get("volumes", []))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_listens_on_this_machine_alone(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


def test_the_sandbox_costs_nothing_and_open_access_is_not_the_images_default() -> None:
    assert SERVICES["gateway"]["environment"]["LLM_GATEWAY_TEST_MODE"] == "true"
    assert "profiles" not in SERVICES["gateway"]
    assert "ACCESS" not in read(ROOT / "Dockerfile")[-1].last("ENV")


def test_every_variable_of_image_and_sandbox_is_a_setting() -> None:
    named = re.findall(rf"{ENV_PREFIX}(\w+)", (ROOT / "Dockerfile").read_text() + str(SERVICES["gateway"]))
    assert {name.lower() for name in named} <= set(Settings.__dataclass_fields__)
    assert len(named) >= 5


def test_ports_and_volumes_are_those_of_the_image() -> None:
    image = read(ROOT / "Dockerfile")[-1]
    inside = {port.rsplit(":", 1)[1] for port in SERVICES["gateway"]["ports"]}
    assert inside == set(image.last("EXPOSE").split())
    assert f"LLM_GATEWAY_PROMPT_FOLDER={SERVICES['gateway']['volumes'][0].split(':')[1]}" in image.last("ENV")
    assert SERVICES["gateway"]["volumes"][1] == f"usage:{image.last('VOLUME')}"


def test_calls_under_way_have_time_to_end() -> None:
    assert int(SERVICES["gateway"]["stop_grace_period"].removesuffix("s")) > Settings().shutdown_grace_s


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_every_image_ends_as_a_user_by_number(path: Path) -> None:
    for stage in final_stages(path):
        assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", stage.last("USER"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_a_build_sees_what_it_copies(path: Path) -> None:
    copied = [
        source
        for stage in read(path)
        for instruction, rest in stage.instructions
        if instruction == "COPY" and "--from=" not in rest
        for source in sources(rest)[0]
    ]
    assert len(copied) >= 4
    assert all((ROOT / source).exists() and is_sent(source, IGNORE) for source in copied)


@pytest.mark.parametrize(
    "path",
    [".git/config", ".env", ".venv/bin/python", "tests/conftest.py", "README.md", ".build/up.json",
     "prompts/.llm-gateway/labels.json", "layers/gateway/llm_gateway/__pycache__/errors.cpython-313.pyc"],
)  # fmt: skip
def test_a_build_does_not_see_what_is_none_of_its_business(path: str) -> None:
    assert not is_sent(path, IGNORE)


def final_stages(path: Path) -> list[Stage]:
    """Those that compose.yaml or a plain build runs: all that name a user, and the last."""
    stages = read(path)
    return [stage for stage in stages if stage is stages[-1] or dict(stage.instructions).get("USER")]
