"""Deploys one section of samconfig.toml: checks first, then builds, deploys and reconciles the index."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import boto3

from deployment import building, sections, stack_values, targets
from deployment.refusals import RefusedError
from deployment.sections import Section
from deployment.stack_values import Stack
from deployment.targets import Target

_BY_SECTION = (
    "--parameter-overrides",
    "--stack-name",
    "--config-env",
    "--config-file",
    "--template-file",
    "-t",
)


def deploy(
    template: Mapping[str, Any], name: str, asked: Mapping[str, str], arguments: Sequence[str]
) -> None:
    """Deploy what `make deploy ENV=name` asks for.

    Args:
        template: The template.
        name: The section of samconfig.toml.
        asked: Runtime and Architecture from the command line of make, where given.
        arguments: Further arguments of `sam deploy`.

    Raises:
        RefusedError: Something is wrong with section, target or kept values, or a command failed.
    """
    section, target = prepared(template, name, asked, arguments)
    python = building.build(target)
    if python is None:
        print(without_bytecode(target))
    overrides = building.ROOT / ".build" / f"parameters-{name}.yaml"
    overrides.parent.mkdir(exist_ok=True)
    overrides.write_text(json.dumps(section.parameters, indent=1), encoding="utf-8")
    # On the command line they replace all that the section says; a file keeps values whole. JSON is YAML.
    _sam("deploy", "--config-env", name, "--parameter-overrides", f"file://{overrides}", *arguments)
    where = [word for key, value in section.session.items() for word in (f"--{key}", value)]
    _sam("remote", "invoke", "ReconcileFunction", "--stack-name", section.stack_name, *where)


def prepared(
    template: Mapping[str, Any], name: str, asked: Mapping[str, str], arguments: Sequence[str]
) -> tuple[Section, Target]:
    """The section with the target's parameters, and the target, once all checks before a build are passed."""
    declared = template["Parameters"]
    section = sections.read(name, declared)
    for word in arguments:
        if word.partition("=")[0] in _BY_SECTION:
            raise RefusedError(
                f"ARGS cannot hold {word}: write it into [{name}.deploy.parameters] of samconfig.toml."
            )
    given = {word.partition("=")[0] for word in arguments}
    lacking = [
        line for options, line in section.lacking.items() if not given & {*options.split(), "--guided"}
    ]
    if lacking:
        raise RefusedError(
            f"[{name}.deploy.parameters] of samconfig.toml lacks what SAM would ask for after the build; add "
            f"{' and '.join(lacking)}."
        )
    target = targets.chosen(template, name, section.parameters, asked)
    section = replace(section, parameters={**section.parameters, **target.parameters})
    stack = _stack(section)
    stack_values.check_kept(section, stack, declared)
    if stack.unread:
        print(f"The values that {section.stack_name} holds were not checked: {stack.unread}")
    for remark in stack_values.remarks(section, stack, declared):
        print(remark)
    return section, target


def without_bytecode(target: Target) -> str:
    """What to say where nothing could compile the functions."""
    return (
        f"WARNING: there is no Python {target.python} on this machine, so the functions have NO BYTECODE and "
        "their cold starts take about twice as long. Install it, for example by "
        f"`uv python install {target.python}`, and build again."
    )


def _stack(section: Section) -> Stack:
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.Session(
            region_name=section.session.get("region"), profile_name=section.session.get("profile")
        )
        return stack_values.read(session.client("cloudformation"), section.stack_name)
    except BotoCoreError as error:  # no region, or a profile that does not exist
        return Stack({}, str(error))


def _sam(*arguments: str) -> None:
    done = subprocess.run([str(building.SAM), *arguments], cwd=building.ROOT, env=os.environ, check=False)
    if done.returncode:
        raise RefusedError(f"sam {arguments[0]} failed; what it said stands above.")
