"""docs/openapi.json against an API that runs: schemathesis asks, and compares promise and answer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
WITH_KEYS = "ignored_auth,missing_required_header"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)


def hold_to_its_document(url: str, key: str, folder: Path, *, examples: int, checks: str = CHECKS) -> None:
    """Send every operation honest and dishonest requests, always the same ones."""
    bounds = ["--phases", "examples,coverage,fuzzing", "--max-examples", str(examples), "--seed", "1"]
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", _document(folder), *bounds]
    given = ["--url", url, "--header", f"Authorization:Bearer {key}", "--checks", checks]
    more = ["--continue-on-failure", "--request-timeout", "20", "--no-shrink"]
    done = subprocess.run(
        [*command, *given, *more], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-1_000:]


def _document(folder: Path) -> str:
    """The document for a generator that knows no classes of Unicode: what is printable is ASCII's."""
    text = (ROOT / "docs" / "openapi.json").read_text(encoding="utf-8")
    assert "p{C}" in text
    for end in "+*":
        text = text.replace(json.dumps(f"^[^\\p{{C}}\\p{{Zl}}\\p{{Zp}}]{end}$"), json.dumps(f"^[ -~]{end}$"))
    (folder / "openapi.json").write_text(text, encoding="utf-8")
    return str(folder / "openapi.json")
