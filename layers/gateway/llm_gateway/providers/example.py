"""A value that fits a JSON Schema, for test mode: the same every time, as plain as the schema allows."""

from __future__ import annotations

import math
from collections.abc import Mapping

from llm_gateway.models import Json

_DEEPEST = 12
_TEXT = "example "

Schema = Mapping[str, Json]


def example_of(schema: Schema) -> Json:
    """A value for `schema`.

    Patterns, formats and conditions are not looked at: a schema that has them may not take the value.
    """
    return _example(schema, schema, 0)


def _example(schema: Schema, root: Schema, depth: int) -> Json:
    schema = _resolved(schema, root)
    choices = schema.get("enum")
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    if isinstance(choices, list) and choices:
        return choices[0]
    match _type(schema):
        case "object":
            return _object(schema, root, depth)
        case "array":
            return _array(schema, root, depth)
        case kind:
            return _scalar(schema, kind)


def _scalar(schema: Schema, kind: str) -> Json:
    match kind:
        case "integer" | "number":
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return True
        case "null":
            return None
    return _string(schema)


def _resolved(schema: Schema, root: Schema) -> Schema:
    """The schema without references and choices: the first of each."""
    for _ in range(_DEEPEST):
        reference = schema.get("$ref")
        found = _at(root, reference) if isinstance(reference, str) else _first(schema)
        if found is None:
            return schema
        schema = {
            **{k: v for k, v in schema.items() if k not in ("$ref", "anyOf", "oneOf", "allOf")},
            **found,
        }
    return {}


def _first(schema: Schema) -> Schema | None:
    for keyword in ("anyOf", "oneOf", "allOf"):
        parts = schema.get(keyword)
        if isinstance(parts, list) and parts and isinstance(parts[0], dict):
            return parts[0]
    return None


def _at(root: Json | Schema, reference: str) -> Schema:
    place: Json | Schema = root
    for step in reference.removeprefix("#").split("/")[1:]:
        place = place.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(place, Mapping) else None
    return place if isinstance(place, Mapping) else {}


def _type(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        return next((str(name) for name in kind if name != "null"), "null")
    if isinstance(kind, str):
        return kind
    return "object" if "properties" in schema else ""


def _object(schema: Schema, root: Schema, depth: int) -> Json:
    properties, required = schema.get("properties"), schema.get("required")
    demanded = required if isinstance(required, list) else []
    return {
        name: _example(inner if isinstance(inner, Mapping) else {}, root, depth + 1)
        for name, inner in (properties if isinstance(properties, Mapping) else {}).items()
        if depth < _DEEPEST or name in demanded
    }


def _array(schema: Schema, root: Schema, depth: int) -> Json:
    items, fewest = schema.get("items"), schema.get("minItems")
    if depth >= _DEEPEST or not isinstance(items, Mapping):
        return []
    return [_example(items, root, depth + 1)] * max(1, fewest if isinstance(fewest, int) else 1)


def _string(schema: Schema) -> str:
    shortest, longest = schema.get("minLength"), schema.get("maxLength")
    size = max(len(_TEXT) - 1, shortest if isinstance(shortest, int) else 0)
    if isinstance(longest, int):
        size = min(size, longest)
    return (_TEXT * (size // len(_TEXT) + 1))[:size]


def _number(schema: Schema, *, whole: bool) -> int | float:
    step = _figure(schema, "multipleOf") or (1 if whole else 0.5)
    low = _figure(schema, "minimum")
    above = _figure(schema, "exclusiveMinimum")
    high = _figure(schema, "maximum")
    below = _figure(schema, "exclusiveMaximum")
    value: float = step
    if above is not None:
        value = max(value, (math.floor(above / step) + 1) * step)
    if low is not None:
        value = max(value, math.ceil(low / step) * step)
    if high is not None and value > high:
        value = math.floor(high / step) * step
    if below is not None and value >= below:
        value = (math.ceil(below / step) - 1) * step
    return int(value) if whole else value


def _figure(schema: Schema, keyword: str) -> float | None:
    value = schema.get(keyword)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
