"""Imports every handler from the built artefacts, where this machine can run what they were built for."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deployment.inspection import Artefacts
from deployment.targets import Target

_PROCESSORS = {"x86_64": "x86_64", "aarch64": "arm64"}
_IMPORT = (
    "import importlib, sys; sys.path[:0] = sys.argv[2:]; module, _, name = sys.argv[1].rpartition('.'); "
    "getattr(importlib.import_module(module), name)"
)
# What Lambda sets, and what the functions cannot do without.
_DEPLOYED = {
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "LLM_GATEWAY_TEST_MODE": "true",
    "LLM_GATEWAY_USAGE_EVENT_BUS": "calls",
}


def runs_here(target: Target) -> bool:
    """Whether this machine can run the target's binaries."""
    return sys.platform == "linux" and _PROCESSORS.get(platform.machine()) == target.architecture


def problems(found: Artefacts, template: Mapping[str, Any], python: Path) -> list[str]:
    """A sentence for each handler that ends in an error when it is imported as Lambda imports it.

    Args:
        found: What was built.
        template: The built template, whose variables the functions get; resources stand as their logical ids.
        python: An interpreter of the target's version.
    """
    layers = [str(folder / "python") for folder in found.layers.values()]

    def problem(name: str) -> str | None:
        done = subprocess.run(
            [
                str(python),
                "-I",
                "-B",
                "-S",
                "-c",
                _IMPORT,
                found.handlers[name],
                str(found.functions[name]),
                *layers,
            ],
            env={"PATH": os.environ["PATH"], **_variables(template, name), **_DEPLOYED},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return None
        return f"{name}: {found.handlers[name]} cannot be imported: {done.stderr.strip().splitlines()[-1]}"

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return [sentence for sentence in pool.map(problem, found.handlers) if sentence]


def _variables(template: Mapping[str, Any], function: str) -> dict[str, str]:
    declared = template["Parameters"]
    everywhere = template["Globals"]["Function"]["Environment"]["Variables"]
    own = template["Resources"][function]["Properties"].get("Environment", {}).get("Variables", {})
    return {name: _value(value, declared) for name, value in {**everywhere, **own}.items()}


def _value(value: Any, declared: Mapping[str, Mapping[str, Any]]) -> str:
    """A value without intrinsics: a parameter's default, or a word in a resource's place.

    Conditions count as false, as they are with the defaults.
    """
    if not isinstance(value, dict):
        return str(value)
    if "Fn::If" in value:
        return _value(value["Fn::If"][2], declared)
    name = value.get("Ref", "")
    return str(declared[name]["Default"]) if name in declared else "resource"
