"""The deployments that samconfig.toml describes, one section each."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployment import parameters
from deployment.refusals import RefusedError

SAMCONFIG = Path(__file__).parent.parent.parent / "samconfig.toml"
_LINES = """\
[{name}.deploy.parameters]
stack_name = "llm-gateway-{name}"
resolve_s3 = true
capabilities = "CAPABILITY_IAM"
confirm_changeset = true
fail_on_empty_changeset = false
parameter_overrides = "Environment={name} LogRetentionDays=90"
"""


@dataclass(frozen=True, slots=True)
class Section:
    """One deployment.

    Attributes:
        name: Name of its section.
        stack_name: Name of its stack.
        parameters: Values that it gives to the template's parameters.
        session: Its `region` and `profile`, where it names them.
    """

    name: str
    stack_name: str
    parameters: Mapping[str, str]
    session: Mapping[str, str] = field(default_factory=dict)


def names(path: Path = SAMCONFIG) -> list[str]:
    """Every deployment that the file describes."""
    return [name for name, commands in _read(path).items() if "deploy" in commands]


def read(name: str, declared: Mapping[str, Mapping[str, Any]], path: Path = SAMCONFIG) -> Section:
    """The deployment of this name.

    Args:
        name: What `make deploy ENV=…` names.
        declared: The template's section Parameters.
        path: The file.

    Raises:
        RefusedError: It has no section or no stack, names no Environment, or gives a value that the template
            refuses.
    """
    commands = _read(path).get(name, {})
    given = {**_parameters(commands, "global"), **_parameters(commands, "deploy")}
    if "deploy" not in commands or "stack_name" not in given:
        raise RefusedError(
            f"{path.name} does not describe a deployment named {name}; add this section and make its values "
            f"yours:\n\n{_LINES.format(name=name)}"
        )
    overrides = _overrides(given.get("parameter_overrides"))
    found = parameters.problems(overrides, declared)
    if "Environment" not in overrides:
        found.append(
            f"Environment is missing; add Environment={name}, or the name that the stack was deployed with, "
            "because another name gives the API another URL."
        )
    if found:
        raise RefusedError(
            f"parameter_overrides of [{name}.deploy.parameters] in {path.name}: " + " ".join(found)
        )
    session = {key: str(value) for key, value in given.items() if key in ("region", "profile")}
    return Section(name, str(given["stack_name"]), overrides, session)


def _read(path: Path) -> dict[str, Any]:
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: section for name, section in content.items() if isinstance(section, dict)}


def _parameters(commands: Mapping[str, Any], command: str) -> dict[str, Any]:
    return dict(commands.get(command, {}).get("parameters", {}))


def _overrides(given: Any) -> dict[str, str]:
    """The values in every form that SAM takes, read by SAM's own reader."""
    from click import BadParameter
    from samcli.cli.types import CfnParameterOverridesType

    try:
        values: dict[str, str] = CfnParameterOverridesType().convert(given or "", None, None)
    except BadParameter as error:
        raise RefusedError(f"parameter_overrides cannot be read: {error.message}") from None
    return values
