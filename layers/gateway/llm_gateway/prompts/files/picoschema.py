"""Picoschema, Dotprompt's short way to write a schema, compiled to JSON Schema.

Source: the Picoschema reference of the Dotprompt format: `name?: type, description`,
`name(array, description): type`, `name(object): {...}`, `name(enum): [...]`, `(*): type`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llm_gateway.json_schema.values import Json
from llm_gateway.prompts.files.yaml_lines import shown

_SCALARS = {"string", "number", "integer", "boolean", "null"}
_JSON_SCHEMA_KEYS = {"type", "properties", "$ref", "$schema", "anyOf", "oneOf", "allOf", "enum", "const"}
_SCALAR_KEYWORDS = {
    *("title", "description", "default", "examples", "deprecated", "$comment", "$id", "$schema"),
    *("enum", "const", "format", "pattern", "minLength", "maxLength"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_FIELD = re.compile(r"^(?P<name>[^()?]+)(?P<optional>\?)?(?:\((?P<kind>[a-z]+)(?:,(?P<text>.*))?\))?$")


class SchemaError(ValueError):
    """A schema cannot be read.

    Attributes:
        path: Keys from the top of the schema to the one at fault.
    """

    def __init__(self, reason: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.path = path


def to_json_schema(value: object) -> dict[str, Json]:
    """JSON Schema as it stands, Picoschema compiled.

    Raises:
        SchemaError: It is neither.
    """
    if isinstance(value, str):
        return _scalar(value)
    if not isinstance(value, dict):
        raise SchemaError("must be a mapping (JSON Schema or Picoschema)")
    if _is_json_schema(value):
        return value
    return _object(value)


def _is_json_schema(value: Mapping[str, Any]) -> bool:
    """A schema names a JSON type or a keyword with its proper kind; a field may share the name."""
    kind = value.get("type")
    if isinstance(kind, list) or kind in ("object", "array"):
        return True
    if isinstance(kind, str) and kind in _SCALARS and _describes_scalar(value):
        return True
    markers = _JSON_SCHEMA_KEYS & value.keys()
    return bool(markers - {"type"}) and all(
        isinstance(value[name], dict | list) or name.startswith("$") for name in markers - {"type", "const"}
    )


def _describes_scalar(value: Mapping[str, Any]) -> bool:
    """`{type: string, maxLength: 5}`: keywords only, and one at least with what no field can have."""
    others = value.keys() - {"type"}
    return not others or (
        others <= _SCALAR_KEYWORDS and not all(_is_field_type(value[name]) for name in others)
    )


def _is_field_type(value: object) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, str) and value.partition(",")[0].strip() in _SCALARS | {"any"}
    )


def _object(fields: Mapping[str, Any]) -> dict[str, Json]:
    properties: dict[str, Json] = {}
    required: list[Json] = []
    extra: Json = False
    for key, value in fields.items():
        try:
            if key == "(*)":
                extra = _value(value)
                continue
            name, optional, schema = _field(key, value)
            if name in properties:
                raise SchemaError(f"has the field '{shown(name)}' twice")
        except SchemaError as error:
            raise SchemaError(str(error), (key, *error.path)) from error
        properties[name] = _nullable(schema) if optional else schema
        if not optional:
            required.append(name)
    schema_: dict[str, Json] = {"type": "object", "properties": properties, "additionalProperties": extra}
    return {**schema_, "required": required} if required else schema_


def _field(key: str, value: object) -> tuple[str, bool, dict[str, Json]]:
    match = _FIELD.match(key)
    if match is None:
        raise SchemaError("has a field name that cannot be read")
    name, optional, kind, text = (
        match["name"].strip(),
        bool(match["optional"]),
        match["kind"],
        (match["text"] or "").lstrip(),
    )
    schema: dict[str, Json]
    match kind:
        case None:
            schema = _value(value)
        case "array":
            schema = {"type": "array", "items": _value(value)}
        case "object":
            if not isinstance(value, dict):
                raise SchemaError(f"field '{shown(name)}' is an object and needs fields below it")
            schema = _object(value)
        case "enum":
            if not isinstance(value, list) or not value:
                raise SchemaError(f"field '{shown(name)}' is an enum and needs a list of values")
            schema = {"enum": value}
        case _:
            raise SchemaError(f"field '{shown(name)}' has an unknown kind '{shown(kind)}'")
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
    raise SchemaError("has a field that is neither a type name nor a mapping")


def _scalar(text: str) -> dict[str, Json]:
    kind, _, description = (part.strip() for part in text.partition(","))
    if kind != "any" and kind not in _SCALARS:
        raise SchemaError(f"has an unknown type; there are any, {', '.join(sorted(_SCALARS))}")
    schema: dict[str, Json] = {} if kind == "any" else {"type": kind}
    return {**schema, "description": description} if description else schema
