"""The template beside the sandbox: what compose.yaml's one-shot does to a local AWS that runs already."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import httpx2
import pytest

from local_aws import emulator as local
from local_aws.emulator import ROOT

pytestmark = pytest.mark.aws


def test_a_second_deployment_takes_the_place_of_the_first() -> None:
    with local.running(f"beside-{os.getpid()}") as emulator:
        first, second = deployed(emulator.endpoint), deployed(emulator.endpoint)
        assert second["URL"].startswith(emulator.endpoint)
        prompts = httpx2.get(f"{second['URL']}/v1/prompts", headers=headers(second), timeout=30)
        assert "support/reply.prompt" in [prompt["path"] for prompt in prompts.json()["prompts"]]
        assert httpx2.get(f"{first['URL']}/v1/prompts", headers=headers(first), timeout=30).is_error


def deployed(endpoint: str) -> dict[str, str]:
    """The variables that a deployment tells to paste."""
    done = subprocess.run(
        [sys.executable, "-m", "local_aws", "deploy", endpoint],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ["PYTHONPATH"], "UV": os.environ["UV"]},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"export (URL|KEY)=(\S+)", done.stdout))


def headers(told: dict[str, str]) -> dict[str, str]:
    return {"authorization": f"Bearer {told['KEY']}"}
