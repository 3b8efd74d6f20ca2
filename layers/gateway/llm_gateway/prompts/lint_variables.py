"""Findings about variables: the template, `input.schema` and `input.default` held against each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from llm_gateway.models import Json
from llm_gateway.prompts.findings import KNOWN_NAMES, Finding, Subject
from llm_gateway.prompts.front_matter import FrontMatter
from llm_gateway.prompts.variables import Path, used_variables
from llm_gateway.prompts.yaml_mapping import KeyPath

_OPEN = {"$ref", "$dynamicRef", "anyOf", "oneOf", "allOf", "if", "patternProperties", "dependentSchemas"}
_OF_WHOLE_MAPPINGS = {
    "type",
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "maxProperties",
}


def variable_findings(subject: Subject) -> Iterator[Finding]:
    """What the template uses and nobody declares, the reverse, and defaults that do not fit."""
    used = used_variables(subject.tree, KNOWN_NAMES)
    front = subject.prompt.front
    yield from _unused(subject, {path[0] for path in used})
    if front.input_schema is not None:
        yield from _undeclared(subject, used, front.input_schema)
        yield from _unfit_defaults(subject)


def _unused(subject: Subject, used: set[str]) -> Iterator[Finding]:
    front = subject.prompt.front
    for name in dict.fromkeys((*_properties(front.input_schema or {}), *front.defaults)):
        if name not in used:
            message = f"'{name}' is declared and the template does not use it"
            yield subject.at_key(_declaration(front, name), "warning", "unused-variable", message)


def _declaration(front: FrontMatter, name: str) -> KeyPath:
    """Keys of the place where a variable is declared: JSON Schema, Picoschema or a default."""
    for keys in (("input", "schema", "properties", name), ("input", "default", name)):
        if keys in front.lines:
            return keys
    fields = (keys for keys in front.lines if keys[:2] == ("input", "schema") and len(keys) == 3)
    return next((keys for keys in fields if re.split(r"[?(]", keys[2])[0].strip() == name), ("input",))


def _undeclared(subject: Subject, used: Mapping[Path, int], schema: Mapping[str, Json]) -> Iterator[Finding]:
    told: set[str] = set()
    for path, line in used.items():
        depth, forbidden = _first_undeclared(schema, path)
        name = ".".join(path[:depth])
        if not depth or name in told:
            continue
        told.add(name)
        if depth > 1:
            message = (
                f"'{name}' is used, but input.schema gives '{'.'.join(path[: depth - 1])}' no such field"
            )
            yield subject.at_line(line, "error", "unknown-field", message)
        elif forbidden:
            message = f"'{name}' is used, but input.schema does not know it and allows no further names"
            yield subject.at_line(line, "error", "undeclared-variable", message)
        else:
            message = f"'{name}' is used, but input.schema does not declare it"
            yield subject.at_line(line, "warning", "undeclared-variable", message)


def _first_undeclared(schema: Mapping[str, Json], path: Path) -> tuple[int, bool]:
    """Steps up to the first that the schema does not declare, and whether it forbids it; 0 if there is none.

    Below the top only what is forbidden counts: an open object may have any field.
    """
    here: Json = dict(schema)
    for depth, step in enumerate(path, start=1):
        if not isinstance(here, dict) or _OPEN & here.keys():
            return 0, False
        if depth > 1 and not _may_be_object(here):
            return depth, True
        properties = _properties(here)
        further = here.get("additionalProperties", True)
        if step not in properties and further is False:
            return depth, True
        if step not in properties and further is True:
            return (1, False) if depth == 1 else (0, False)
        here = properties.get(step, further)
    return 0, False


def _may_be_object(schema: Mapping[str, Json]) -> bool:
    kind = schema.get("type", "object")
    return kind == "object" or (isinstance(kind, list) and "object" in kind)


def _properties(schema: Mapping[str, Json]) -> Mapping[str, Json]:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _unfit_defaults(subject: Subject) -> Iterator[Finding]:
    validator, defaults = subject.prompt.validator, dict(subject.prompt.front.defaults)
    if validator is None:
        return
    try:
        errors = list(validator.iter_errors(defaults))
    except Exception:  # an unresolvable $ref surfaces only while validating
        message = "'input.schema' cannot be applied: a '$ref' leads nowhere, or round in a circle"
        yield subject.at_key(("input", "schema"), "error", "unusable-schema", message)
        return
    for keys, rule in (place for error in errors if _is_final(error) for place in _places(error)):
        message = f"'{'.'.join(('input', 'default', *keys))}' breaks the rule '{rule}' of input.schema"
        yield subject.at_key(("input", "default", *keys), "error", "default-does-not-fit", message)


def _places(error: Any) -> Iterator[tuple[KeyPath, str]]:
    """Keys at fault and the rule they break: each name that is too much, or the value as a whole."""
    keys = tuple(str(step) for step in error.absolute_path)
    if error.validator == "additionalProperties" and "patternProperties" not in error.schema:
        known = error.schema.get("properties", {})
        yield from (((*keys, name), error.validator) for name in error.instance if name not in known)
    else:
        yield keys, error.validator


def _is_final(error: Any) -> bool:
    """False if what a caller adds may still mend it: defaults are merged into the caller's mappings."""
    merged = isinstance(error.instance, dict) and all(isinstance(step, str) for step in error.absolute_path)
    return not merged or error.validator in _OF_WHOLE_MAPPINGS
