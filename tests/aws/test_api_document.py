"""docs/openapi.json against the deployed API: what it promises is what comes, whatever is sent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llm_gateway.access import Scopes
from local_aws.emulator import ROOT
from local_aws.session import upload_and_wait
from local_aws.stack import Stack

pytestmark = pytest.mark.aws
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,ignored_auth,missing_required_header"
)


@pytest.fixture(scope="module")
def gateway(stack: Stack) -> Stack:
    """The stack with the prompt that the document gives as an example."""
    upload_and_wait(stack, "support/reply.prompt", b"Reply to {{ ticket | default('nothing') }}.")
    return stack


def document(folder: Path) -> str:
    """The document for a generator that knows no classes of Unicode: what is printable is ASCII's."""
    text = (ROOT / "docs" / "openapi.json").read_text(encoding="utf-8")
    assert "p{C}" in text
    for end in "+*":
        text = text.replace(json.dumps(f"^[^\\p{{C}}\\p{{Zl}}\\p{{Zp}}]{end}$"), json.dumps(f"^[ -~]{end}$"))
    (folder / "openapi.json").write_text(text, encoding="utf-8")
    return str(folder / "openapi.json")


def test_the_deployed_api_keeps_its_documents_word_whatever_it_is_sent(
    gateway: Stack, tmp_path: Path
) -> None:
    key = gateway.create_key("documented", Scopes(all_usage=True))
    bounds = ["--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--seed", "1", "--no-shrink"]
    done = subprocess.run(
        [
            *(
                str(Path(sys.executable).with_name("schemathesis")),
                "run",
                document(tmp_path),
            ),
            *("--url", gateway.api_url, "--header", f"Authorization:Bearer {key}", "--checks", CHECKS),
            *("--continue-on-failure", "--request-timeout", "20", *bounds),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-1_000:]
