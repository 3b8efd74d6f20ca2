"""Schemas within bounds: what is refused before it is compiled, and how much work a value is."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.api.calls import CallRequest, Output
from llm_gateway.calls.structured_output import output_contract
from llm_gateway.errors import InvalidParameter
from llm_gateway.json_schema.pattern_size import states_of
from llm_gateway.json_schema.schema import MAX_VIOLATIONS, MAX_WORK, InvalidSchema, JsonSchema
from llm_gateway.json_schema.value_bounds import MAX_DEPTH, MAX_VALUES, TooManyValues, check_text, extent_of
from llm_gateway.prompts.files.front_matter import PromptSyntaxError
from llm_gateway.prompts.prompt import parse_prompt
from llm_gateway.validation import validated

TREE: dict[str, Any] = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "left": {"$ref": "#"}, "right": {"$ref": "#"}},
    "required": ["value"],
    "additionalProperties": False,
}


def doubled(times: int, keyword: str = "allOf", leaf: Any = None) -> dict[str, Any]:
    """Definitions of which each refers twice to the next one."""
    defs = {f"d{n}": {keyword: 2 * [{"$ref": f"#/$defs/d{n + 1}"}]} for n in range(times)}
    return {"$ref": "#/$defs/d0", "$defs": {**defs, f"d{times}": {} if leaf is None else leaf}}


def chained(times: int, keyword: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(times):
        schema = {keyword: {"a": schema}} if keyword.endswith("Properties") else {keyword: schema}
    return schema


TOO_MUCH: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "references that double by allOf": (doubled(22), "20,000 rules", ()),
    "references that double by anyOf": (doubled(22, "anyOf"), "20,000 rules", ()),
    "references that double by oneOf": (doubled(22, "oneOf"), "20,000 rules", ()),
    "conditions that double": (
        {
            "$ref": "#/$defs/d0",
            "$defs": {
                **{
                    f"d{n}": {part: {"$ref": f"#/$defs/d{n + 1}"} for part in ("if", "then", "else")}
                    for n in range(22)
                },
                "d22": {},
            },
        },
        "20,000 rules",
        (),
    ),
    "parts that double": (
        {
            "$ref": "#/$defs/d0",
            "$defs": {
                **{
                    f"d{n}": {
                        "patternProperties": {p: {"$ref": f"#/$defs/d{n + 1}"} for p in ("a", "b")},
                        "additionalProperties": {"$ref": f"#/$defs/d{n + 1}"},
                    }
                    for n in range(22)
                },
                "d22": {},
            },
        },
        "20,000 rules",
        (),
    ),
    "neighbours looked at again": (
        {
            "$ref": "#/$defs/d0",
            "$defs": {
                **{
                    f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}], "unevaluatedProperties": False}
                    for n in range(30)
                },
                "d30": {},
            },
        },
        "20,000 rules",
        (),
    ),
    "5,000 patterns": (
        {"allOf": [{"pattern": f"^{n}$"} for n in range(5_000)]}, "10,000 values", ()
    ),
    "101 patterns": (
        {"patternProperties": {f"^{n}$": True for n in range(101)}}, "100 patterns",
        ("patternProperties", "^100$"),
    ),
    "a pattern that repeats": ({"pattern": "a{1,100000}"}, "written out", ("pattern",)),
    "a pattern that repeats repetitions": (
        {"properties": {"a": {"pattern": "((a{1,100}){1,100}){1,100}"}}}, "written out",
        ("properties", "a", "pattern"),
    ),
    "a long pattern": ({"pattern": "a" * 1_001}, "1,000 characters", ("pattern",)),
    "20,000 required names": ({"required": [f"n{n}" for n in range(20_000)]}, "10,000 values", ()),
    "1,001 required names": ({"required": [f"n{n}" for n in range(1_001)]}, "1,000 entries", ("required",)),
    "5,001 choices": ({"items": {"enum": [*range(5_001)]}}, "5,000 entries", ("items", "enum")),
    "long choices": ({"enum": ["x" * 1_000 + str(n) for n in range(400)]}, "131,072 characters", ()),
    "a deep schema": (chained(70, "not"), "64 levels", ()),
    "a dynamic reference": ({"items": {"$dynamicRef": "#a"}}, "not supported", ("items", "$dynamicRef")),
    "a recursive reference": ({"$recursiveRef": "#"}, "not supported", ("$recursiveRef",)),
    "itself": ({"allOf": [{"$ref": "#"}]}, "without going into the value", ()),
    "another document": ({"items": {"$ref": "other.json"}}, "another document", ("items", "$ref")),
    "101 classes of letters": (
        {"items": {"pattern": r"[\w-]{100}\p{L}"}}, "too many classes", ("items", "pattern")
    ),
    "2,001 characters of any kind": (
        {"allOf": [{"pattern": ".{1000}"}, {"pattern": r"[^a]{400}\S{600}."}]},
        "too many classes", ("allOf", "0", "pattern"),
    ),
    "an index beyond all lists": (
        {"allOf": [{}], "items": {"$ref": "#/allOf/" + "9" * 5_000}}, "not in it", ("items", "$ref")
    ),
    "a name for two schemas": (
        {"$ref": "#a", "$defs": {"b": {"$anchor": "a"}, "c": {"$anchor": "a"}}},
        "another schema has", ("$defs", "b", "$anchor"),
    ),
    "a name for what is in a text": (
        {"$ref": "#a", "contentSchema": {"$anchor": "a"}, "$defs": {"b": {"$anchor": "a"}}},
        "another schema has", ("contentSchema", "$anchor"),
    ),
    "an identity inside": ({"items": {"$id": "http://a/b"}}, r"'\$id' inside", ("items", "$id")),
    "an unknown dialect": ({"$schema": "http://a/b"}, "unknown dialect", ("$schema",)),
    "an old dialect": (
        {"$schema": "http://json-schema.org/draft-04/schema#"}, "unknown dialect", ("$schema",)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_MUCH)
def test_a_schema_that_asks_for_too_much_is_refused_with_the_bound_and_the_place(name: str) -> None:
    document, reason, path = TOO_MUCH[name]
    with pytest.raises(InvalidSchema, match=reason) as caught:
        JsonSchema(document)
    assert caught.value.path == path


def test_a_callers_schema_is_refused_by_the_name_of_its_field() -> None:
    prompt = parse_prompt("a.md", "v1", b"Hi")
    with pytest.raises(InvalidParameter, match="20,000 rules") as caught:
        output_contract(Output.model_validate({"schema": doubled(22)}), prompt)
    assert (caught.value.status, caught.value.param) == (400, "output.schema")


@pytest.mark.parametrize("section", ["input", "output"])
def test_an_authors_schema_breaks_the_file_on_its_line(section: str) -> None:
    schema = "schema:\n    type: object\n    properties:\n      a: {pattern: 'a{1,99999}'}"
    text = f"---\n{section}:\n  {schema}\n---\nHi"
    with pytest.raises(PromptSyntaxError, match=f"'{section}.schema' has patterns") as caught:
        parse_prompt("a.prompt", "v1", text.encode())
    assert caught.value.line == 6


def test_picoschema_is_bounded_as_well() -> None:
    fields = "".join(f"    f{n}: string\n" for n in range(2_600))
    with pytest.raises(PromptSyntaxError, match="front matter has more"):
        parse_prompt("a.prompt", "v1", f"---\noutput:\n  schema:\n{fields}---\nHi".encode())


def tree(depth: int) -> dict[str, Any]:
    below = {side: tree(depth - 1) for side in ("left", "right")} if depth else {}
    return {"value": depth, **below}


def test_a_tree_is_a_legitimate_recursion() -> None:
    schema = JsonSchema(TREE)
    assert schema.violations(tree(8)) == []
    bad = tree(3)
    bad["left"]["right"]["value"] = "x"
    assert [violation.path for violation in schema.violations(bad)] == [("left", "right", "value")]


@pytest.mark.parametrize(
    "document",
    [
        {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]},
        {"$schema": "https://json-schema.org/draft/2019-09/schema", "items": [{"type": "string"}]},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "prefixItems": [{"type": "string"}]},
        {"prefixItems": [{"$ref": "#text"}], "$defs": {"a": {"$anchor": "text", "type": "string"}}},
        {"prefixItems": [{"$ref": "#/$defs/a~1b"}], "$defs": {"a/b": {"type": "string"}}},
        {
            "$id": "https://shop.example/schema",
            "prefixItems": [{"$ref": "#/kept"}],
            "kept": {"type": "string"},
        },
        {"items": {"$ref": "#/x/a"}, "x": {"a": {"$ref": "#/x/b"}, "b": {"type": "string"}}},
    ],
)
def test_known_dialects_anchors_and_pointers_work(document: dict[str, Any]) -> None:
    schema = JsonSchema(document)
    assert schema.violations(["a"]) == []
    assert [violation.path for violation in schema.violations([1])] == [("0",)]


def test_a_recursion_that_doubles_with_each_level_is_checked_as_deep_as_that_is_bearable() -> None:
    schema = JsonSchema({"properties": {"a": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}}, "maxProperties": 1})
    value: dict[str, Any] = {}
    for _ in range(5):
        value = {"a": value}
    assert schema.violations(value) == []
    for _ in range(30):
        value = {"a": value}
    assert schema.bounds.work(extent_of(value)) > MAX_WORK
    assert [violation.keyword for violation in schema.violations(value)] == ["size"]


@pytest.mark.parametrize(
    "document",
    [
        {"type": "array", "items": {"type": "integer"}},
        {"anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "integer"}}]},
        {"oneOf": [{"type": "array", "items": {"enum": [f"choice {n}" for n in range(500)]}}]},
        {"contains": {"type": "integer"}},
        {"items": {"required": [f"n{n}" for n in range(100)], "type": ["string", "object"], "maxLength": 0}},
    ],
)
@pytest.mark.parametrize("items", [90_000, 500_000])
def test_of_half_a_million_violations_few_are_made(document: dict[str, Any], items: int) -> None:
    schema = JsonSchema(document)
    value: Any = ["x"] * items
    tracemalloc.start()
    try:
        found = schema.violations(value)
        assert 1 <= len(found) <= MAX_VIOLATIONS
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()
    assert schema.bounds.violations(extent_of(value, items + 1))[0] > 5_000


def test_a_long_text_is_not_held_against_a_pattern_of_many_states() -> None:
    schema = JsonSchema({"pattern": "a[ab]{900}[cd]"})
    assert [violation.keyword for violation in schema.violations("ab" * 50)] == ["pattern"]
    assert [violation.keyword for violation in schema.violations("ab" * 500_000)] == ["size"]


@pytest.mark.parametrize(
    ("pattern", "states"),
    [
        ("^abc$", 5),
        (r"\d{4}-\d{2}", 7),
        ("(ab){3}", 6),
        ("((a{2}){3}){4}", 24),
        ("[a-z]{1,10}", 10),
        (r"\{5}", 3),
        ("a{2,}", 2),
        ("[{5}]", 1),
    ],
)
def test_a_repetition_counts_as_often_as_it_repeats(pattern: str, states: int) -> None:
    assert states_of(pattern) == states


@settings(deadline=None)
@given(st.text(alphabet="ab{}()[],0123\\?:<>|", max_size=40))
def test_any_pattern_has_some_size(pattern: str) -> None:
    assert states_of(pattern) >= 0


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


def counted(value: Any) -> int:
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(counted(item) for item in below)


@given(_VALUES)
def test_every_value_is_counted(value: Any) -> None:
    assert sum(extent_of(value).values) == counted(value)


def test_a_value_may_be_as_large_and_deep_as_its_bounds_and_no_more() -> None:
    nested: Any = 0
    for _ in range(MAX_DEPTH):
        nested = [nested]
    assert len(extent_of(nested).values) == MAX_DEPTH + 1
    with pytest.raises(TooManyValues, match="levels deep"):
        extent_of([nested])
    assert sum(extent_of([0] * (MAX_VALUES - 1)).values) == MAX_VALUES
    with pytest.raises(TooManyValues, match="100,000 values"):
        extent_of([0] * MAX_VALUES)


def test_commas_within_texts_are_no_values() -> None:
    check_text(b'{"csv": "' + b'a,b\\",[{' * 100_000 + b'"}')
    with pytest.raises(TooManyValues):
        check_text(b'{"csv": ["' + b'a","' * 100_001 + b'"]}')


def test_a_text_without_an_end_is_looked_through_once() -> None:
    """Whatever quotation marks are in it: looked for from each of them again, it would take half an hour."""
    check_text(b'{"csv": "' + b'\\",' * 250_000)
    check_text(b'{"csv": "' + b'\\",' * 250_000 + b"\\")


@pytest.mark.parametrize("field", ["variables", "output.schema"])
def test_values_that_were_decoded_elsewhere_are_counted_at_the_door(field: str) -> None:
    """Lambda decodes invokes and events itself, so that no text of them is ever seen here."""
    many: Any = {"x": [0] * MAX_VALUES}
    request = {
        "prompt": "a",
        **({"variables": many} if field == "variables" else {"output": {"schema": many}}),
    }
    with pytest.raises(InvalidParameter, match=f"'{field}' holds more than 100,000 values") as caught:
        validated(CallRequest, request)
    assert caught.value.param == field
