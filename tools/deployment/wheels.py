"""Asks the package index whether every pinned package of the layer has a wheel for each supported target."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deployment.targets import Target

PINS = Path(__file__).parent.parent.parent / "layers" / "dependencies" / "requirements.txt"
_NO_WHEEL = re.compile(r"Because (\S+) has no")


def problems(targets: Iterable[Target], pins: Path = PINS) -> list[str]:
    """A sentence for each target that a package has no wheel for.

    The resolver stops at the first such package, so a target that lacks several is told of one at a time.
    Nothing is downloaded but the packages' metadata.
    """
    with ThreadPoolExecutor(max_workers=4) as pool:
        return [problem for problem in pool.map(lambda target: _problem(target, pins), targets) if problem]


def _problem(target: Target, pins: Path) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                *(os.environ.get("UV", "uv"), "pip", "install", "--dry-run", "--no-deps", "--require-hashes"),
                *("--only-binary", ":all:", "--target", folder, "-r", str(pins)),
                *("--python-version", target.python, "--python-platform", target.platform),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 0:
        return None
    said = " ".join(done.stderr.split())
    package = _NO_WHEEL.search(said)
    if package is None:
        return f"The wheels for {target} could not be looked up: {said}"
    return (
        f"{package[1]} has no wheel for {target} ({target.platform}): choose another version or package, or "
        "take the target out of the template's AllowedValues."
    )
