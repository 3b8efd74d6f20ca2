"""The built call_prompt under the official Runtime Interface Emulator: what `sam local invoke` runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from local_aws.artefacts import architecture
from local_aws.emulator import BUILD, ROOT, free_port
from local_aws.session import upload_and_wait, wait_until
from local_aws.stack import Stack

pytestmark = pytest.mark.aws

SAM = ROOT / ".venv-sam"
EVENTS = ROOT / "events"
INVOCATIONS = "2015-03-31/functions/function/invocations"


def test_the_built_function_answers_its_events_under_the_runtime_interface_emulator(stack: Stack) -> None:
    source = ROOT / "prompts" / "support" / "reply.prompt"
    upload_and_wait(stack, "support/reply.prompt", source.read_bytes())
    with runtime("call_prompt", "CallPromptFunction", stack) as url:
        direct = invoke(url, "call_prompt_direct")
        assert direct["prompt"]["path"] == "support/reply.prompt"
        over_http = invoke(url, "call_prompt_http")
        assert over_http["statusCode"] == 200
        assert json.loads(over_http["body"])["test_mode"] is True


def invoke(url: str, event: str) -> dict[str, Any]:
    answer = httpx2.post(url, content=(EVENTS / f"{event}.json").read_bytes(), timeout=60)
    body: dict[str, Any] = answer.json()
    return body


@contextmanager
def runtime(function: str, logical_id: str, stack: Stack) -> Iterator[str]:
    """The emulator with the function's artefact and layers in it; yields where to invoke."""
    front, back = free_port(), free_port()
    [binary] = SAM.glob(f"lib/python*/site-packages/samcli/local/rapid/aws-lambda-rie-{architecture()}")
    addresses = [
        "--runtime-interface-emulator-address",
        f"127.0.0.1:{front}",
        "--runtime-api-address",
        f"127.0.0.1:{back}",
    ]
    command = [str(binary), *addresses, str(SAM / "bin" / "python"), "-m", "awslambdaric", "app.handler"]
    process = subprocess.Popen(
        command,
        env=environment(logical_id, function, stack),
        cwd=artefact(logical_id),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: listens(front), "the runtime interface emulator listens")
        yield f"http://127.0.0.1:{front}/{INVOCATIONS}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment(logical_id: str, function: str, stack: Stack) -> dict[str, str]:
    """The variables that the deployed function has, and what leads the SDKs to the local AWS."""
    path = [artefact(logical_id), *(artefact(x) / "python" for x in ("DependenciesLayer", "GatewayLayer"))]
    return {
        **stack.settings_of(stack.outputs["CallPromptFunctionName"]),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": ":".join(map(str, path)),
        "AWS_ENDPOINT_URL": stack.emulator.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": function,
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "125",
    }


def artefact(logical_id: str) -> Path:
    return BUILD / "artefacts" / logical_id


def listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        time.sleep(0.05)
        return False
