"""Picoschema, Dotprompt's short way to write a schema, compiled to JSON Schema.

Source: the Picoschema reference of the Dotprompt format: `name?: type, description`,
`name(array, description): type`, `name(object): {...}`, `name(enum): [...]`, `(*): type`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llm_gateway.models import Json

_SCALARS = {"string", "number", "integer", "boolean", "null"}
_JSON_SCHEMA_KEYS = {"type", "properties", "$ref", "$schema", "anyOf", "oneOf", "allOf", "enum", "const"}
_FIELD = re.compile(r"^(?P<name>[^()?]+)(?P<optional>\?)?(?:\((?P<kind>[a-z]+)(?:,\s*(?P<text>.*))?\))?$")


def to_json_schema(value: object) -> dict[str, Json]:
    """JSON Schema as it stands, Picoschema compiled.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, str):
        return _scalar(value)
    if not isinstance(value, dict):
        raise ValueError("must be a mapping (JSON Schema or Picoschema)")
    if _is_json_schema(value):
        return value
    return _object(value)


def _is_json_schema(value: Mapping[str, Any]) -> bool:
    """A schema names a JSON type or a keyword with its proper kind; a field may share the name."""
    kind = value.get("type")
    if isinstance(kind, list) or kind in ("object", "array"):
        return True
    if isinstance(kind, str) and kind in _SCALARS and len(value) == 1:
        return True
    markers = _JSON_SCHEMA_KEYS & value.keys()
    return bool(markers - {"type"}) and all(
        isinstance(value[name], dict | list) or name.startswith("$") for name in markers - {"type", "const"}
    )


def _object(fields: Mapping[str, Any]) -> dict[str, Json]:
    properties: dict[str, Json] = {}
    required: list[Json] = []
    extra: Json = False
    for key, value in fields.items():
        if key == "(*)":
            extra = _value(value)
            continue
        name, optional, schema = _field(key, value)
        if name in properties:
            raise ValueError(f"has the field '{name}' twice")
        properties[name] = _nullable(schema) if optional else schema
        if not optional:
            required.append(name)
    schema_: dict[str, Json] = {"type": "object", "properties": properties, "additionalProperties": extra}
    return {**schema_, "required": required} if required else schema_


def _field(key: str, value: object) -> tuple[str, bool, dict[str, Json]]:
    match = _FIELD.match(key)
    if match is None:
        raise ValueError("has a field name that cannot be read")
    name, optional, kind, text = match["name"].strip(), bool(match["optional"]), match["kind"], match["text"]
    schema: dict[str, Json]
    match kind:
        case None:
            schema = _value(value)
        case "array":
            schema = {"type": "array", "items": _value(value)}
        case "object":
            if not isinstance(value, dict):
                raise ValueError(f"field '{name}' is an object and needs fields below it")
            schema = _object(value)
        case "enum":
            if not isinstance(value, list) or not value:
                raise ValueError(f"field '{name}' is an enum and needs a list of values")
            schema = {"enum": value}
        case _:
            raise ValueError(f"field '{name}' has an unknown kind '{kind}'")
    return name, optional, {**schema, "description": text} if text else schema


def _nullable(schema: dict[str, Json]) -> dict[str, Json]:
    """An optional field may be null as well as absent."""
    kind, values = schema.get("type"), schema.get("enum")
    if isinstance(kind, str) and kind != "null":
        return {**schema, "type": [kind, "null"]}
    if isinstance(values, list) and None not in values:
        return {**schema, "enum": [*values, None]}
    return schema


def _value(value: object) -> dict[str, Json]:
    if isinstance(value, str):
        return _scalar(value)
    if isinstance(value, dict):
        return _object(value)
    raise ValueError("has a field that is neither a type name nor a mapping")


def _scalar(text: str) -> dict[str, Json]:
    kind, _, description = (part.strip() for part in text.partition(","))
    if kind != "any" and kind not in _SCALARS:
        raise ValueError("has an unknown type")
    schema: dict[str, Json] = {} if kind == "any" else {"type": kind}
    return {**schema, "description": description} if description else schema
