"""Runs `sam build` for one target and writes the target into the built template."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from cfn_yaml import load_template
from deployment.interpreters import compiler
from deployment.refusals import RefusedError
from deployment.targets import Target

ROOT = Path(__file__).parent.parent.parent
BUILT = ROOT / ".aws-sam" / "build"
SAM = Path(sys.executable).parent / "sam"
_DERIVED = ("TARGET_PYTHON", "TARGET_PLATFORM")
# By these, what the command line of one make says reaches every make below it.
_OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES")


def build(target: Target, *, quiet: bool = False) -> Path | None:
    """Build functions and layers into `.aws-sam/build`.

    Args:
        target: What to build for.
        quiet: Show what SAM says only if it fails.

    Returns:
        The Python that compiled the bytecode, None if this machine has none of the target's version.

    Raises:
        RefusedError: A derived variable was given, or SAM failed.
    """
    for name in _DERIVED:
        if os.environ.get(name):
            raise RefusedError(
                f"{name} is derived and cannot be given: set RUNTIME=python3.13 and ARCHITECTURE=arm64 for "
                "make, or Runtime and Architecture in parameter_overrides of samconfig.toml."
            )
    python = compiler(target.python)
    shutil.rmtree(BUILT, ignore_errors=True)
    overrides = [f"{name}={value}" for name, value in target.parameters.items()]
    done = subprocess.run(
        [str(SAM), "build", "--build-dir", str(BUILT), "--parameter-overrides", *overrides],
        cwd=ROOT,
        env=_environment(target, python),
        capture_output=quiet,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RefusedError(f"sam build failed for {target}.\n{done.stdout or ''}{done.stderr or ''}".strip())
    _write_target(target, BUILT / "template.yaml")
    return python


def _environment(target: Target, python: Path | None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_MAKE}
    return {
        **inherited,
        "TARGET_PYTHON": target.python,
        "TARGET_PLATFORM": target.platform,
        "COMPILER": str(python or ""),
    }


def _write_target(target: Target, path: Path) -> None:
    """Let the built template take only what was built, so that no stack runs it as anything else.

    SAM keeps the values of a deployed stack; CloudFormation then refuses a kept `x86_64` for layers of arm64.
    """
    template = load_template(path)
    for name, value in target.parameters.items():
        declared = template["Parameters"][name]
        declared |= {
            "Default": value,
            "AllowedValues": [value],
            "ConstraintDescription": f"must be {value}, which this was built for; `make deploy` sets it",
        }
    path.write_text(json.dumps(template, indent=1), encoding="utf-8")  # JSON is YAML
