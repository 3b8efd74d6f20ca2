"""The parameter values that a deployed stack holds, which SAM keeps where a deployment says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployment import parameters
from deployment.refusals import RefusedError
from deployment.sections import Section


@dataclass(frozen=True, slots=True)
class Stack:
    """What is known of the deployed stack before a deployment.

    Attributes:
        values: Value by name of the parameter; empty if there is no stack yet, or if it cannot be read.
        unread: Why it cannot be read, None if it was.
    """

    values: Mapping[str, str]
    unread: str | None = None


def read(cloudformation: Any, stack_name: str) -> Stack:
    """The deployed stack's values, through a client of CloudFormation."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        [stack] = cloudformation.describe_stacks(StackName=stack_name)["Stacks"]
    except ClientError as error:
        if "does not exist" in str(error):
            return Stack({})
        return Stack({}, str(error))
    except BotoCoreError as error:
        return Stack({}, str(error))
    listed = stack.get("Parameters", [])
    return Stack({value["ParameterKey"]: value["ParameterValue"] for value in listed})


def check_kept(section: Section, stack: Stack, declared: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a deployment that would keep a value which the template no longer allows.

    Raises:
        RefusedError: Naming each value and what to set.
    """
    found = parameters.problems(_kept(section, stack, declared), declared)
    if found:
        raise RefusedError(
            f"The stack {section.stack_name} holds values that this version of the template refuses. Add "
            f"what each sentence says to parameter_overrides of [{section.name}.deploy.parameters]: "
            + " ".join(found)
        )


def remarks(section: Section, stack: Stack, declared: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each value that stays or changes without being named in the section."""
    kept = _kept(section, stack, declared)
    lines = [
        f"The stack keeps {name}={value}; the template's default is now {declared[name]['Default']!r}. "
        f"To change it, add {name} to parameter_overrides of [{section.name}.deploy.parameters]."
        for name, value in kept.items()
        if "Default" in declared[name] and value != str(declared[name]["Default"])
    ]
    lines += [
        f"{name} changes from {stack.values[name]} to {value}."
        for name, value in section.parameters.items()
        if name in stack.values and stack.values[name] != value
    ]
    return lines


def _kept(section: Section, stack: Stack, declared: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {
        name: value
        for name, value in stack.values.items()
        if name in declared and name not in section.parameters
    }
