"""A value that fits a JSON Schema, for test mode: the same every time, as plain as the schema allows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from llm_gateway.json_schema.values import Json

_DEEPEST = 12
_DEEPEST_DEMANDED = 60
_MOST_CHARS = 200_000
_CHARS_PER_VALUE = 20  # so that an example has ten thousand values at most
_TEXT = "example "

Schema = Mapping[str, Json]


class NoExample(ValueError):
    """The schema asks for more than an answer can be, or for a number beyond all bounds."""


def example_of(schema: Schema) -> Json:
    """A value for `schema`.

    Patterns, formats and conditions are not looked at: a schema that has them may not take the value.

    Raises:
        NoExample: The value would be too large; a schema may hold itself, or ask for a billion items.
    """
    try:
        return _Example(schema).of(schema, 0)
    except OverflowError:
        raise NoExample from None


class _Example:
    """One example on its way, and the characters that it may still have."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._left = _MOST_CHARS

    def of(self, schema: Schema, depth: int) -> Json:
        schema = _resolved(schema, self._root)
        choices = schema.get("enum")
        for keyword in ("const", "default"):
            if keyword in schema:
                return self._given(schema[keyword])
        if isinstance(choices, list) and choices:
            return self._given(choices[0])
        self._spend(_CHARS_PER_VALUE if depth < _DEEPEST_DEMANDED else _MOST_CHARS)
        match _type(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case kind:
                return self._scalar(schema, kind)

    def _object(self, schema: Schema, depth: int) -> Json:
        properties, required = schema.get("properties"), schema.get("required")
        self._spend(len(properties) if isinstance(properties, Mapping) else 0)
        demanded = set(map(str, required)) if isinstance(required, list) else set()
        return {
            name: self.of(inner if isinstance(inner, Mapping) else {}, depth + 1)
            for name, inner in (properties if isinstance(properties, Mapping) else {}).items()
            if depth < _DEEPEST or name in demanded
        }

    def _array(self, schema: Schema, depth: int) -> Json:
        items, fewest = schema.get("items"), schema.get("minItems")
        if depth >= _DEEPEST or not isinstance(items, Mapping):
            return []
        return [self.of(items, depth + 1) for _ in range(max(1, fewest if isinstance(fewest, int) else 1))]

    def _scalar(self, schema: Schema, kind: str) -> Json:
        match kind:
            case "integer" | "number":
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return True
            case "null":
                return None
        size = _length(schema)
        self._spend(size)
        return (_TEXT * (size // len(_TEXT) + 1))[:size]

    def _given(self, value: Json) -> Json:
        self._spend(len(json.dumps(value)))
        return value

    def _spend(self, chars: int) -> None:
        """Take from what is left, before anything of that size is made."""
        self._left -= chars
        if self._left < 0:
            raise NoExample


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


def _length(schema: Schema) -> int:
    shortest, longest = schema.get("minLength"), schema.get("maxLength")
    size = max(len(_TEXT) - 1, shortest if isinstance(shortest, int) else 0)
    return min(size, longest) if isinstance(longest, int) else size


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
