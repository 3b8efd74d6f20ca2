"""The deployments that samconfig.toml describes, one section each."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployment import parameters
from deployment.refusals import RefusedError

SAMCONFIG = Path(__file__).parent.parent.parent / "samconfig.toml"
_STACK = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,127}")
_CAPABILITIES = {"CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"}
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
        lacking: Lines that `sam deploy` needs and that it lacks, by the options that say the same.
    """

    name: str
    stack_name: str
    parameters: Mapping[str, str]
    session: Mapping[str, str] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)


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
    if "deploy" not in commands:
        raise RefusedError(_missing(name, path, declared))
    given = {**_parameters(commands, name, "global", path), **_parameters(commands, name, "deploy", path)}
    if not _STACK.fullmatch(str(given.get("stack_name", ""))):
        raise RefusedError(
            f"stack_name of [{name}.deploy.parameters] in {path.name} is missing, or is none of at most 128 "
            f'letters, digits and hyphens with a letter first; add stack_name = "llm-gateway-{name}".'
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
    return Section(name, str(given["stack_name"]), overrides, session, _lacking(given))


def _missing(name: str, path: Path, declared: Mapping[str, Mapping[str, Any]]) -> str:
    if parameters.problems({"Environment": name}, declared):
        return (
            f"{path.name} does not describe a deployment named {name!r}, which cannot be the name of one "
            "either: ENV names a section by at most 32 lower-case letters, digits and hyphens, letter first."
        )
    return (
        f"{path.name} does not describe a deployment named {name}; add this section and make its values "
        f"yours:\n\n{_LINES.format(name=name)}"
    )


def _lacking(given: Mapping[str, Any]) -> dict[str, str]:
    """What SAM would ask for only after the build: the lines to add, by the options that say the same."""
    lines = {}
    if not (given.get("resolve_s3") or given.get("s3_bucket")):
        lines["--resolve-s3 --s3-bucket"] = "resolve_s3 = true"
    if not _CAPABILITIES & set(re.findall(r"\w+", str(given.get("capabilities")))):
        lines["--capabilities"] = 'capabilities = "CAPABILITY_IAM"'
    return lines


def _read(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RefusedError(f"{path.name} cannot be read: {error.strerror}.") from None
    except ValueError as error:  # UnicodeDecodeError and TOMLDecodeError
        raise RefusedError(f"{path.name} is not TOML in UTF-8 without a byte order mark: {error}.") from None
    return {name: section for name, section in content.items() if isinstance(section, dict)}


def _parameters(commands: Mapping[str, Any], name: str, command: str, path: Path) -> dict[str, Any]:
    """The values of [name.command.parameters]."""
    section = commands.get(command, {})
    found = section.get("parameters", {}) if isinstance(section, dict) else None
    if not isinstance(found, dict):
        raise RefusedError(f"[{name}.{command}.parameters] in {path.name} must be a table of values.")
    return found


def _overrides(given: Any) -> dict[str, str]:
    """The values in every form that SAM takes, read by SAM's own reader."""
    from click import BadParameter
    from samcli.cli.types import CfnParameterOverridesType

    for text in given if isinstance(given, list) else [given]:
        if isinstance(text, str):
            _check_words(text)
    try:
        values: dict[str, str] = CfnParameterOverridesType().convert(given or "", None, None)
    except BadParameter as error:
        raise RefusedError(f"parameter_overrides cannot be read: {error.message}") from None
    return values


def _check_words(text: str) -> None:
    """Refuse what SAM's reader passes over without a word, as the three of `TestMode = true`."""
    try:
        words = shlex.split(text)
    except ValueError:
        raise RefusedError(f"parameter_overrides: a quotation mark is not closed in {text}.") from None
    for word in words:
        name, equals, value = word.partition("=")
        empty = equals and not value and re.search(rf"{re.escape(word)}(\"\"|'')", text)
        if not (word.startswith("file://") or (name and value) or empty):
            raise RefusedError(
                f"parameter_overrides cannot be read at {word!r}: write Name=Value without spaces, and a "
                'value with spaces, or none, in quotation marks, as in Name="".'
            )
