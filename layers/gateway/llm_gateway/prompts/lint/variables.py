"""Findings about variables: the template, `input.schema` and `input.default` held against each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from llm_gateway.json_schema.schema import Violation
from llm_gateway.json_schema.values import Json
from llm_gateway.prompts.files.front_matter import FrontMatter
from llm_gateway.prompts.files.yaml_lines import KeyPath
from llm_gateway.prompts.lint.findings import KNOWN_NAMES, Finding, Subject
from llm_gateway.prompts.rendering.required_variables import Path, used_variables

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
    fields = _fields(front)
    for name in dict.fromkeys((*_properties(front.input_schema or {}), *front.defaults)):
        if name not in used:
            message = f"'{name}' is declared and the template does not use it"
            yield subject.at_key(_declaration(front, fields, name), "warning", "unused-variable", message)


def _fields(front: FrontMatter) -> Mapping[str, KeyPath]:
    """Keys of the fields of a Picoschema, by the names of the variables."""
    keys = [keys for keys in front.lines if keys[:2] == ("input", "schema") and len(keys) == 3]
    return {re.split(r"[?(]", path[2])[0].strip(): path for path in reversed(keys)}


def _declaration(front: FrontMatter, fields: Mapping[str, KeyPath], name: str) -> KeyPath:
    """Keys of the place where a variable is declared: JSON Schema, Picoschema or a default."""
    for keys in (("input", "schema", "properties", name), ("input", "default", name)):
        if keys in front.lines:
            return keys
    return fields.get(name, ("input",))


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
    schema, defaults = subject.prompt.input_schema, dict(subject.prompt.front.defaults)
    found = schema.violations(defaults) if schema else ()
    for violation in found:
        if _is_final(violation, defaults):
            unknown = violation.names if violation.keyword == "additionalProperties" else ()
            for keys in [(*violation.path, name) for name in unknown] or [violation.path]:
                place = ".".join(("input", "default", *keys))
                message = f"'{place}' breaks the rule '{violation.keyword}' of input.schema"
                yield subject.at_key(("input", "default", *keys), "error", "default-does-not-fit", message)


def _is_final(violation: Violation, defaults: Json) -> bool:
    """False if what a caller adds may still mend it: defaults are merged into the caller's mappings."""
    value = defaults
    for step in violation.path:
        if not isinstance(value, dict):
            return True
        value = value[step]
    return not isinstance(value, dict) or violation.keyword in _OF_WHOLE_MAPPINGS
