"""Schemas: what fits, what does not, and that neither a schema nor a value can do harm."""

from __future__ import annotations

import time
from typing import Any

import pytest

from llm_gateway.json_schema.schema import MAX_VIOLATIONS, InvalidSchema, JsonSchema, Violation


def test_a_value_that_fits_has_no_violation() -> None:
    assert JsonSchema({"type": "integer"}).violations(5) == []


def test_missing_names_are_told_together_and_everything_in_the_order_of_its_place() -> None:
    schema = JsonSchema(
        {
            "properties": {"b": {"type": "integer"}, "a": {"enum": [1]}},
            "required": ["x", "y"],
            "additionalProperties": False,
        }
    )
    assert schema.violations({"b": "s3cr3t", "a": 2, "z": 1}) == [
        Violation((), "required", "lacks x, y", ("x", "y")),
        Violation((), "additionalProperties", "has a name that the schema does not know", ("z",)),
        Violation(("a",), "enum", "breaks the rule 'enum'"),
        Violation(("b",), "type", "must be of type integer"),
    ]


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"type": "nope"}, ("type",)),
        ({"properties": {"a": {"pattern": "("}}}, ("properties", "a", "pattern")),
        ({"pattern": "(?=look)ahead"}, ("pattern",)),
        ({"pattern": r"(a)\1"}, ("pattern",)),
        ({"$ref": "#/nowhere"}, ("$ref",)),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, ("$ref",)),
        ({"$ref": "file:///etc/passwd"}, ("$ref",)),
        ({"$ref": "#"}, ()),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
            ("$defs", "a"),
        ),
    ],
)
def test_a_schema_that_is_none_is_refused_with_its_place_and_nothing_is_fetched(
    document: dict[str, Any], path: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidSchema) as caught:
        JsonSchema(document)
    assert caught.value.path in (path, ())


@pytest.mark.parametrize(
    ("document", "value"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 50_000 + "b"),
        ({"pattern": "(x*)*y"}, "x" * 50_000),
    ],
)
def test_no_pattern_takes_long(document: dict[str, Any], value: Any) -> None:
    began = time.process_time()
    JsonSchema(document).violations(value)
    assert time.process_time() - began < 2


def test_of_a_hundred_thousand_violations_some_are_told_by_names_of_bounded_length() -> None:
    schema = JsonSchema({"additionalProperties": {"type": "integer"}})
    found = schema.violations({f"{n}{'x' * 1_000}": "text" for n in range(100)})
    assert len(found) == MAX_VIOLATIONS
    assert max(len(violation.path[0]) for violation in found) == 100
