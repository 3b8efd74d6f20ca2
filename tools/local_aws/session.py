"""What `make demo`, `make up` and `make down` do around the story: start, deploy, remember, stop."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

from cfn_yaml import load_template
from llm_gateway.access.caller import Scopes
from llm_gateway.prompts.files.path import ignored_because, is_partial, is_prompt_file
from local_aws import artefacts, emulator
from local_aws.emulator import BUILD, ROOT, Emulator
from local_aws.stack import Stack, deploy, put_openai_key

PROMPTS = ROOT / "prompts"
_REMEMBERED = BUILD / "up.json"
_PATIENCE_S = 90.0


def deploy_with_prompts(running: Emulator, tell: Callable[[str], None], **parameters: str) -> Stack:
    """The stack with the sample prompts in it, all indexed; with a real model if a key is at hand."""
    key = os.environ.get("OPENAI_API_KEY", "")
    base_url = os.environ.get("OPENAI_BASE_URL", "")
    mode = "false" if key else "true"
    stack = deploy(running, tell, TestMode=mode, OpenAIBaseUrl=base_url, **parameters)
    if key:
        put_openai_key(stack, key)
    tell("uploading prompts")
    paths = {path.relative_to(PROMPTS).as_posix(): path for path in PROMPTS.rglob("*") if path.is_file()}
    files = {name: path for name, path in paths.items() if is_prompt_file(name)}  # `make serve` left others
    for path in sorted(files, key=lambda path: (not is_partial(path), path)):
        # One after the other: each upload at the same time would start an environment of its own.
        if is_partial(path):
            stack.upload(path, files[path].read_bytes())
        else:
            upload_and_wait(stack, path, files[path].read_bytes())
    return stack


def upload_and_wait(stack: Stack, path: str, body: bytes) -> Mapping[str, Any]:
    """Upload a prompt and wait until its event has reached the index; returns its metadata."""
    metadata: dict[str, Any] = {}

    def indexed() -> bool:
        metadata.update(stack.request("GET", f"/v1/prompts/{quote(path)}").json())
        return metadata.get("etag") == hashlib.md5(body, usedforsecurity=False).hexdigest()

    stack.upload(path, body)
    wait_until(indexed, f"{path} is indexed")
    return metadata


def wait_until(condition: Callable[[], bool], what: str, within_s: float = _PATIENCE_S) -> float:
    """Wait for something to come true; returns the seconds it took.

    Raises:
        TimeoutError: It did not.
    """
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > within_s:
            raise TimeoutError(f"Waited {within_s:.0f} s in vain until {what}.")
        time.sleep(0.02)
    return time.monotonic() - started


def progress(step: str) -> None:
    """One line on standard error for each step that takes a while."""
    print(f"→ {step}", file=sys.stderr, flush=True)


def up() -> int:
    """Start the gateway and leave it running."""
    if _REMEMBERED.exists():
        print("Something is up already: `make down` ends it.")
        return 1
    progress("starting the local AWS")
    running = emulator.start("up")
    try:
        stack = deploy_with_prompts(running, progress)
    except BaseException:
        emulator.stop(running)
        raise
    process = {"endpoint": running.endpoint, "pid": running.pid, "folder": str(running.folder)}
    _REMEMBERED.write_text(
        json.dumps({"emulator": process, "outputs": dict(stack.outputs), "keys": stack.keys})
    )
    _greet(stack, end="make down")
    return 0


def build() -> int:
    """Build what a deployment uploads."""
    artefacts.build(load_template(), progress)
    return 0


def deploy_to(endpoint: str) -> int:
    """Deploy to a local AWS that somebody else started, in place of whatever is there."""
    httpx2.post(f"{endpoint}/_ministack/reset", timeout=_PATIENCE_S).raise_for_status()
    running = Emulator(endpoint=endpoint, pid=0, folder=BUILD)
    _greet(deploy_with_prompts(running, progress), end="docker compose --profile aws down")
    return 0


def down() -> int:
    """End what `up` started."""
    stack = _remembered()
    if stack is None:
        print("Nothing is up.")
        return 0
    emulator.stop(stack.emulator)
    _REMEMBERED.unlink()
    print("The local AWS is down.")
    return 0


def push(path: str) -> int:
    """Upload one prompt file to what `up` started and tell what became of it."""
    stack, file = _remembered(), Path(path)
    if stack is None:
        print("Nothing is up: `make up` first.")
        return 1
    if not file.is_file():
        print(f"There is no file {path}: make push FILE=hello.prompt")
        return 1
    folder = PROMPTS if file.resolve().is_relative_to(PROMPTS) else file.parent
    key = file.resolve().relative_to(folder.resolve()).as_posix()
    if reason := ignored_because(key):
        print(f"{key} would be ignored: {reason}.")
        return 1
    metadata = upload_and_wait(stack, key, file.read_bytes())
    print(f"{key} is {metadata['state']}: {metadata['error'] or 'version ' + metadata['version']}")
    print(f"It needs: {', '.join(metadata['required_variables']) or 'nothing'}")
    return 0 if metadata["state"] == "ok" else 1


def _remembered() -> Stack | None:
    if not _REMEMBERED.exists():
        return None
    facts = json.loads(_REMEMBERED.read_text())
    process = {**facts["emulator"], "folder": Path(facts["emulator"]["folder"])}
    return Stack(emulator=Emulator(**process), outputs=facts["outputs"], keys=facts["keys"])


def _greet(stack: Stack, end: str) -> None:
    key = stack.create_key("billing", Scopes(all_usage=True))
    endpoint = stack.emulator.endpoint
    print(_HELLO.format(end=end, url=stack.api_url, key=key, endpoint=endpoint, **stack.outputs))


_HELLO = """
The gateway is up until `{end}`. Paste away:

  export URL={url}
  export KEY={key}

  curl -s $URL/health
  curl -s $URL/v1/models -H "Authorization: Bearer $KEY"
  curl -s $URL/v1/prompts -H "Authorization: Bearer $KEY"
  curl -s $URL/v1/prompts/support/reply.prompt -H "Authorization: Bearer $KEY"
  curl -s $URL/v1/call -H "Authorization: Bearer $KEY" -H "content-type: application/json" \\
    -d @events/call_prompt_direct.json
  curl -s "$URL/v1/usage?start=$(date -u +%FT00:00:00Z)&end=$(date -u +%FT23:59:59Z)" \\
    -H "Authorization: Bearer $KEY"

With the aws command line prompts are files in a bucket:

  export AWS_ENDPOINT_URL={endpoint} AWS_DEFAULT_REGION=us-east-1
  export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
  aws s3 cp my.prompt s3://{PromptBucketName}/my.prompt

The author's command line works on it as well:

  export LLM_GATEWAY_PROMPT_BUCKET={PromptBucketName} LLM_GATEWAY_PROMPT_TABLE={PromptTableName}
  export LLM_GATEWAY_USAGE_TABLE={UsageTableName}
  .venv/bin/llm-gateway history support/reply.prompt
  export LLM_GATEWAY_KEY_TABLE={KeyTableName} LLM_GATEWAY_KEY_PEPPER_ARN={KeyPepperArn}
  .venv/bin/llm-gateway usage
  .venv/bin/llm-gateway keys create billing --prompt support/

Other functions call directly:

  aws lambda invoke --function-name {CallPromptFunctionName} --cli-binary-format raw-in-base64-out \\
    --payload file://events/call_prompt_direct.json /dev/stdout

Calls that nobody waits for go into a queue, and their answers into another:

  aws sqs send-message --queue-url {CallQueueUrl} --message-body file://events/call_prompt_async_invoke.json
  aws sqs receive-message --queue-url {CallAnswersUrl}
"""
