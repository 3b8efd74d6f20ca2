"""Picoschema and what it compiles to."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.json_schema.schema import JsonSchema
from llm_gateway.prompts.files.picoschema import to_json_schema
from tests.unit.prompts.parsed_prompts import modest


@pytest.mark.parametrize(
    ("key", "value", "schema"),
    [
        ("a", "string", {"type": "string"}),
        ("a", "integer, how many, at most", {"type": "integer", "description": "how many, at most"}),
        ("a", "any", {}),
        ("a(array)", "number", {"type": "array", "items": {"type": "number"}}),
        ("a(array, of (all) tags)", "any", {"type": "array", "items": {}, "description": "of (all) tags"}),
        ("a(enum)", ["x", 1], {"enum": ["x", 1]}),
    ],
)
def test_a_field_compiles_to_its_schema(key: str, value: object, schema: dict[str, object]) -> None:
    assert to_json_schema({key: value}) == {
        "type": "object",
        "properties": {"a": schema},
        "additionalProperties": False,
        "required": ["a"],
    }


@pytest.mark.parametrize(
    ("key", "value", "schema"),
    [
        ("a?", "string", {"type": ["string", "null"]}),
        ("a?", "null", {"type": "null"}),
        ("a?(array, tags)", "any", {"type": ["array", "null"], "items": {}, "description": "tags"}),
        ("a?(enum)", ["x"], {"enum": ["x", None]}),
    ],
)
def test_an_optional_field_may_be_absent_or_null(key: str, value: object, schema: dict[str, object]) -> None:
    assert to_json_schema({key: value}) == {
        "type": "object",
        "properties": {"a": schema},
        "additionalProperties": False,
    }


@pytest.mark.parametrize("key", ["a", "a(object)"])
def test_fields_nest_and_a_wildcard_gives_further_names_their_type(key: str) -> None:
    fields = {"b": {"type": "string"}}
    inner = {
        "type": "object",
        "properties": fields,
        "additionalProperties": {"type": "number"},
        "required": ["b"],
    }
    assert to_json_schema({key: {"b": "string", "(*)": "number"}})["properties"] == {"a": inner}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        {"type": "array", "items": {"type": "string"}},
        {"type": "string"},
        {"type": ["string", "null"]},
        {"properties": {"a": {"type": "string"}}},
        {"anyOf": [{"type": "string"}]},
        {"enum": ["a", "b"]},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
        {"type": "string", "maxLength": 5},
        {"type": "string", "description": "the answer, in one line"},
        {"type": "integer", "minimum": 0, "title": "number"},
        {"type": "boolean", "default": True},
    ],
)
def test_json_schema_is_taken_as_it_stands(schema: dict[str, object]) -> None:
    assert to_json_schema(schema) == schema


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"type": "string", "name": "string"}, {"type", "name"}),
        ({"type": {"a": "string"}}, {"type"}),
        ({"type": "string", "title": "string", "format": "any, of these"}, {"type", "title", "format"}),
        ({"enum": "string", "const": "integer"}, {"enum", "const"}),
    ],
)
def test_a_field_may_be_named_like_a_keyword(fields: dict[str, object], names: set[str]) -> None:
    properties = to_json_schema(fields)["properties"]
    assert isinstance(properties, dict)
    assert set(properties) == names


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (5, "must be a mapping"),
        ("text", "unknown type"),
        ({"a": "text"}, "unknown type"),
        ({"a": 5}, "neither a type name nor a mapping"),
        ({"a(list)": "string"}, "unknown kind 'list'"),
        ({"a(object)": "string"}, "needs fields below it"),
        ({"a(enum)": []}, "needs a list of values"),
        ({"a(array": "string"}, "cannot be read"),
        ({"a": "string", "a?": "string"}, "field 'a' twice"),
        ({"type": "string", "name": "string", "maxLength": 5}, "neither a type name nor a mapping"),
    ],
)
def test_what_is_neither_says_why(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        to_json_schema(value)


_NAMES = st.text("abc", min_size=1, max_size=3)
_KINDS = st.sampled_from(["", "?", "(array, x)", "?(array)", "(object)"])
_TYPES = st.sampled_from(["string", "number", "integer", "boolean", "null", "any", "string, with words"])
Fields = dict[str, Any]


def _fields(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Fields]:
    kinds = st.dictionaries(_NAMES, st.tuples(_KINDS, values), max_size=3)
    return kinds.map(lambda drawn: {name + kind: value for name, (kind, value) in drawn.items()})


@modest
@given(st.recursive(_fields(_TYPES), lambda below: _fields(_TYPES | below), max_leaves=5))
def test_whatever_compiles_is_valid_json_schema(fields: Fields) -> None:
    with suppress(ValueError):
        schema = to_json_schema(fields)
        JsonSchema(schema)
        assert schema["type"] == "object"
