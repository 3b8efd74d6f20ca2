"""Lints template.yaml after SAM's translation, where circular dependencies first show."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from cfn_yaml import load_template

_IGNORED = (
    "W3005",  # a DependsOn that SAM's translation itself makes redundant
    "I",
)


def translated(**parameters: str) -> dict[str, Any]:
    """The template as CloudFormation gets it, its local code replaced by a bucket's.

    Args:
        parameters: Values of its parameters that are not the defaults.
    """
    template = load_template()
    for resource in template["Resources"].values():
        for name in ("CodeUri", "ContentUri"):
            if name in resource.get("Properties", {}):
                resource["Properties"][name] = "s3://bucket/key"
    template["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
    session = boto3.Session(region_name="us-east-1")
    result: dict[str, Any] = Translator({}, Parser(), boto_session=session).translate(template, parameters)
    return result


def main() -> int:
    """Lint; the exit code says whether all is well."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "translated.json"
        path.write_text(json.dumps(translated()))
        ignored = [part for code in _IGNORED for part in ("--ignore-checks", code)]
        linter = Path(sys.executable).parent / "cfn-lint"
        return subprocess.run(
            [linter, *ignored, "--regions", "us-east-1", "--", path], check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
