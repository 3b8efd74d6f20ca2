"""What kind of answer to ask for, in the terms of Chat Completions.

Source: OpenAI's guide to structured outputs: which keywords strict mode takes, and that every object
lists all its fields as required and allows no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_gateway.json_schema.values import Json
from llm_gateway.models.options import ModelOptions

_SUBSCHEMAS = {"properties", "$defs", "definitions"}
_STRICT_KEYWORDS = {
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref",
    "$defs", "definitions", "description", "title", "pattern", "format", "multipleOf", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems",
}  # fmt: skip


def response_format(options: ModelOptions) -> dict[str, Any] | None:
    """The request's `response_format`, None for plain text.

    A schema that strict mode takes is enforced while the model writes; any other is a hint to it. Schemas
    of something else than an object cannot be told to the vendor at all.
    """
    if options.output_format != "json":
        return None
    schema = options.output_schema
    if schema is None:
        return {"type": "json_object"}
    if schema.get("type") != "object":
        return None
    strict = strict_form(schema)
    named = {"name": "answer", "schema": schema if strict is None else strict, "strict": strict is not None}
    return {"type": "json_schema", "json_schema": named}


def strict_form(schema: Mapping[str, Json]) -> dict[str, Any] | None:
    """A schema for strict mode whose every value fits `schema` as well, None if there is none.

    Strict mode has no optional fields. One that may be null instead becomes a required one; Picoschema's
    optional fields are of that kind.
    """
    typed = _typed(schema)
    if typed is None or schema.keys() - _STRICT_KEYWORDS:
        return None
    made: dict[str, Any] = {}
    for keyword, value in typed.items():
        if keyword in _SUBSCHEMAS:
            inner: Any = _strict_forms(value)
        elif keyword == "items":
            inner = strict_form(value) if isinstance(value, dict) else None
        elif keyword == "anyOf":
            inner = _strict_list(value)
        else:
            inner = value
        if inner is None:
            return None
        made[keyword] = inner
    return _closed(made) if _is_object(schema) else made


def _typed(schema: Mapping[str, Json]) -> Mapping[str, Json] | None:
    """The schema with the type that its choices have; strict mode wants every part to say its type."""
    if schema.keys() & {"type", "anyOf", "$ref"}:
        return schema
    choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if not isinstance(choices, list):
        return None
    types: list[Json] = [*dict.fromkeys(_type_name(choice) for choice in choices)]
    return {"type": types[0] if len(types) == 1 else types, **schema}


def _type_name(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _closed(schema: dict[str, Any]) -> dict[str, Any] | None:
    properties = schema.get("properties", {})
    if schema.get("additionalProperties") is not False:
        return None
    optional = properties.keys() - set(schema.get("required", []))
    if any(not _may_be_null(properties[name]) for name in optional):
        return None
    return {**schema, "properties": properties, "required": list(properties)}


def _is_object(schema: Mapping[str, Json]) -> bool:
    kind = schema.get("type")
    return "properties" in schema or kind == "object" or (isinstance(kind, list) and "object" in kind)


def _may_be_null(schema: Mapping[str, Json]) -> bool:
    kind, choices = schema.get("type"), schema.get("enum")
    if isinstance(choices, list):
        return None in choices
    return kind == "null" or (isinstance(kind, list) and "null" in kind)


def _strict_forms(value: object) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    made = {name: strict_form(inner) if isinstance(inner, dict) else None for name, inner in value.items()}
    return None if None in made.values() else made


def _strict_list(value: object) -> list[Any] | None:
    if not isinstance(value, list):
        return None
    made = [strict_form(inner) if isinstance(inner, dict) else None for inner in value]
    return None if None in made else made
