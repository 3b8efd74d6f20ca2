"""Holds parameter values against what the template declares, as CloudFormation will."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any


def problems(values: Mapping[str, str], declared: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each value that CloudFormation would refuse.

    Args:
        values: Value by name of the parameter.
        declared: The template's section Parameters.
    """
    return [sentence for name, value in values.items() for sentence in _problems(name, value, declared)]


def _problems(name: str, value: str, declared: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if name not in declared:
        yield f"{name} is not a parameter of template.yaml."
        return
    rule = declared[name]
    allowed = [str(item) for item in rule.get("AllowedValues", [])]
    if allowed and value not in allowed:
        yield f"{name}={value} is not possible; set {name} to one of: {', '.join(allowed)}."
    pattern = rule.get("AllowedPattern")
    if pattern and not re.fullmatch(pattern, value):
        advice = rule.get("ConstraintDescription", f"set {name} to a value that matches {pattern}")
        yield f"{name}={value} is not possible; {advice}."
    if rule["Type"] == "Number" and not _in_range(value, rule):
        yield f"{name}={value} is not possible; set {name} to a number{_range(rule)}."


def _in_range(value: str, rule: Mapping[str, Any]) -> bool:
    try:
        number = float(value)
    except ValueError:
        return False
    return float(rule.get("MinValue", "-inf")) <= number <= float(rule.get("MaxValue", "inf"))


def _range(rule: Mapping[str, Any]) -> str:
    if "MinValue" in rule and "MaxValue" in rule:
        return f" from {rule['MinValue']} to {rule['MaxValue']}"
    return ""
