"""What examples/ shows of a deployed stack works."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from llm_gateway.access.caller import Scopes
from local_aws.emulator import ROOT
from local_aws.session import upload_and_wait, wait_until
from local_aws.stack import Stack

pytestmark = pytest.mark.aws


def test_a_program_on_aws_invokes_the_function(stack: Stack) -> None:
    source = ROOT / "prompts" / "support" / "reply.prompt"
    upload_and_wait(stack, "support/reply.prompt", source.read_bytes())
    answered = example(stack)
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.startswith("answer: [test mode]")
    assert re.search(r"tokens: [1-9]\d* USD: 0\.\d+$", answered.stdout)


def test_it_is_told_what_is_wrong_where_the_prompt_is_not_there(stack: Stack) -> None:
    stack.s3.delete_object(Bucket=stack.outputs["PromptBucketName"], Key="support/reply.prompt")
    wait_until(lambda: example(stack).returncode == 1, "the prompt is gone")
    assert '"code": "prompt_not_found"' in example(stack).stderr


def test_the_http_client_calls_the_api_with_a_key(stack: Stack) -> None:
    source = ROOT / "prompts" / "support" / "reply.prompt"
    upload_and_wait(stack, "support/reply.prompt", source.read_bytes())
    environment = {"URL": stack.api_url, "KEY": stack.create_key("shop", Scopes())}
    command = [sys.executable, str(ROOT / "examples" / "http_client.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "answer: [test mode]" in done.stdout


def example(stack: Stack) -> subprocess.CompletedProcess[str]:
    environment = {**stack.command_environment, "FUNCTION": stack.outputs["CallPromptFunctionName"]}
    command = [sys.executable, str(ROOT / "examples" / "invoke_lambda.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
