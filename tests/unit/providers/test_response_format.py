"""Which kind of answer is asked for, and that strict schemas promise no less than the author's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.json_schema.schema import JsonSchema
from llm_gateway.models.options import ModelOptions
from llm_gateway.prompts.files.picoschema import to_json_schema
from llm_gateway.providers.fake.example import NoExample, example_of
from llm_gateway.providers.openai.response_format import response_format, strict_form


def object_of(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (ModelOptions(), None),
        (ModelOptions(output_format="text"), None),
        (ModelOptions(output_format="json"), {"type": "json_object"}),
        (ModelOptions(output_format="json", output_schema={"type": "array"}), None),
    ],
)
def test_plain_text_and_plain_json(options: ModelOptions, expected: object) -> None:
    assert response_format(options) == expected


def test_a_schema_that_strict_mode_takes_is_enforced_and_any_other_is_a_hint() -> None:
    cases: list[tuple[dict[str, Any], bool]] = [
        (object_of(a=TEXT), True),
        ({"type": "object", "properties": {"a": TEXT}}, False),
        (object_of(a={"type": "string", "minLength": 3}), False),
    ]
    for schema, strict in cases:
        made = response_format(ModelOptions(output_format="json", output_schema=schema))
        named = {"name": "answer", "schema": schema, "strict": strict}
        assert made == {"type": "json_schema", "json_schema": named}


def test_an_optional_field_that_may_be_null_becomes_a_required_one() -> None:
    made = strict_form(to_json_schema({"a": "string", "b?": "integer, how many"}))
    assert made is not None
    assert made["required"] == ["a", "b"]
    assert strict_form(object_of([], a=TEXT)) is None


def test_choices_without_a_type_get_the_one_they_have() -> None:
    made = strict_form(to_json_schema({"a(enum)": ["x", "y"], "b?(enum)": [1]}))
    assert made is not None
    kinds = {name: part["type"] for name, part in made["properties"].items()}
    assert kinds == {"a": "string", "b": ["number", "null"]}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False},
        object_of(a={"type": "array", "items": {"type": "object"}}),
        object_of(a={"type": "array", "items": True}),
        object_of(a={"not": TEXT}),
        object_of(a={"anyOf": "x"}),
        object_of(a=True),
        {"type": "object", "properties": [], "additionalProperties": False},
        {"type": "object", "patternProperties": {}, "additionalProperties": False},
    ],
)
def test_what_strict_mode_does_not_take_has_no_strict_form(schema: dict[str, Any]) -> None:
    assert strict_form(schema) is None


names = st.sampled_from(["a", "b", "c", "d"])
scalars = st.sampled_from(
    [
        {"type": "string"},
        {"type": ["string", "null"]},
        {"type": "integer", "minimum": 3, "maximum": 9},
        {"type": "number", "exclusiveMinimum": 1.5},
        {"type": "boolean"},
        {"type": "null"},
        {"enum": ["x", None]},
        {"const": 5},
    ]
)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda properties, required: object_of([n for n in properties if n in required], **properties),
        st.dictionaries(names, inner, max_size=3),
        st.sets(names),
    )


schemas = st.recursive(
    scalars,
    lambda inner: st.one_of(
        objects(inner),
        st.builds(lambda items: {"type": "array", "items": items, "minItems": 2}, inner),
        st.builds(lambda first, second: {"anyOf": [first, second]}, inner, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(schema=schemas)
def test_an_example_fits_its_schema_and_one_of_the_strict_form_fits_the_authors(
    schema: dict[str, Any],
) -> None:
    author = JsonSchema(schema)
    assert author.violations(example_of(schema)) == []
    strict = strict_form(schema)
    if strict is not None:
        assert author.violations(example_of(strict)) == []


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        ({"type": "string", "minLength": 10, "maxLength": 10}, "example ex"),
        ({"type": "string", "maxLength": 2}, "ex"),
        ({"type": "integer", "multipleOf": 5, "minimum": 11}, 15),
        ({"type": "number", "exclusiveMaximum": -1}, -1.5),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"const": 7}}}, 7),
        ({"oneOf": [{"type": "boolean"}]}, True),
        ({"type": "string", "default": "x"}, "x"),
        ({}, "example"),
    ],
)
def test_examples_are_plain(schema: dict[str, Any], example: object) -> None:
    assert example_of(schema) == example
    assert JsonSchema(schema).violations(example_of(schema)) == []


def test_a_schema_that_holds_itself_has_an_example_with_an_end() -> None:
    tree = object_of([], children={"type": "array", "items": {"$ref": "#"}}, parent={"$ref": "#"})
    assert JsonSchema(tree).violations(example_of(tree)) == []


@pytest.mark.parametrize(
    "schema",
    [
        object_of(["a"], a={"$ref": "#"}),
        {"type": "array", "minItems": 10**9, "items": {"type": "string"}},
        {"type": "array", "minItems": 1_000, "items": {"const": "x" * 1_000}},
        {"type": "string", "minLength": 10**30},
        {"type": "integer", "minimum": 10**400},
        {"type": "number", "multipleOf": 5e-324, "minimum": 1},
    ],
)
def test_what_would_be_too_large_has_no_example(schema: dict[str, Any]) -> None:
    with pytest.raises(NoExample):
        example_of(schema)
