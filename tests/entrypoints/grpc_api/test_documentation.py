"""docs/api.md on gRPC is true: a client of its own runs the example, and the table is the table."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from google.protobuf.json_format import Parse

from llm_gateway.entrypoints.grpc_api.generated import llm_gateway_pb2 as pb
from llm_gateway.entrypoints.grpc_api.status import STATUS
from llm_gateway.errors import GatewayError
from tests.entrypoints.grpc_api.running_server import House, Plan, run

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
SECTION = PAGE[PAGE.index("\n## gRPC\n") : PAGE.index("\n## Errors\n")]
PROMPT = "---\nmodel: openai/gpt-4o-mini\n---\nDear {{ user.name }}: {{ ticket }}"


def generated_client(folder: Path) -> dict[str, str]:
    """Somebody else's client: nothing of the gateway but the contract, generated as the page says."""
    (command,) = re.findall(r"`python (-m grpc_tools\.protoc [^`]+)`", SECTION)
    arguments = command.replace("-I proto", f"-I {ROOT / 'proto'}").split()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True)
    for package in (folder / "llm_gateway", folder / "llm_gateway" / "v1"):
        (package / "__init__.py").touch()  # else the gateway's own package, installed here, would be found
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(folder), "KEY": "lgw_example"}


def test_the_example_is_answered(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", SECTION, re.S)
    client = tmp_path / "client"
    client.mkdir()
    environment = generated_client(client)
    (client / "example.py").write_text(example)

    async def scenario(at: House) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(client / "example.py"),
            env={**environment, "GATEWAY": f"127.0.0.1:{at.port}"},
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        told = output.decode()
        assert (process.returncode, told.startswith(expected)) == (0, True), told

    for prompt, expected in (("support/reply.prompt", "[test mode]"), ("other.md", "prompt_not_found")):
        run(Plan(tmp_path / expected, prompts={prompt: PROMPT}), scenario)


def test_the_line_for_grpcurl_holds_a_call() -> None:
    (body,) = re.findall(r"-d '(\{.*?\})' localhost", SECTION, re.S)
    asked = Parse(body, pb.CallPromptRequest())
    assert asked.prompt == "support/reply.prompt"
    assert asked.variables.fields["user"].struct_value["name"] == "Ada"


def test_the_table_of_statuses_is_that_of_the_code() -> None:
    told = {
        status: set(re.findall(r"`([a-z_]+)`", codes))
        for status, codes in re.findall(r"^\| `([A-Z_]+)` \| (.*) \|$", SECTION, re.M)
    }
    wanted: dict[str, set[str]] = defaultdict(set)
    for kind in _tree(GatewayError):
        code = STATUS[next(base for base in kind.__mro__ if base in STATUS)]
        wanted[code.name].add(kind.code)
    assert told == wanted


def _tree(root: type[GatewayError]) -> list[type[GatewayError]]:
    return [root, *(below for child in root.__subclasses__() for below in _tree(child))]
