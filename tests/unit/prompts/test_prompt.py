"""A prompt file as a whole: decoding, defaults, missing variables, the input schema."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.errors import InvalidVariables, MissingVariables
from llm_gateway.json_schema.values import Json
from llm_gateway.models.messages import Message
from llm_gateway.prompts.files.front_matter import PromptSyntaxError
from llm_gateway.prompts.prompt import Prompt, merged, parse_prompt
from tests.unit.prompts.parsed_prompts import SECRET, modest, parsed, rendered, told


def with_input(yaml: str, body: str = "hello") -> str:
    return f"---\ninput: {yaml}\n---\n{body}"


@pytest.mark.parametrize(
    "data",
    [
        "---\ndescription: ü\n---\nsystem:\na\n{{ x }}\nuser:\nb".encode(),
        "\ufeff---\ndescription: ü\n---\nsystem:\na\n{{ x }}\nuser:\nb\n".encode(),
        "---\r\ndescription: ü\r\n---\r\nsystem:\r\na\r\n{{ x }}\r\nuser:\r\nb\r\n".encode(),
        "---\rdescription: ü\r---\rsystem:\ra\r{{ x }}\ruser:\rb".encode(),
    ],
)
def test_a_byte_order_mark_and_the_kind_of_line_end_make_no_difference(data: bytes) -> None:
    prompt = parse_prompt("a.md", "v1", data)
    assert prompt.front.description == "ü"
    assert prompt.render({"x": "ü"}, 100) == (Message("system", "a\nü"), Message("user", "b"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"a\nb\n\xff", "line 3: the file is not UTF-8 text"),
        ("text".encode("utf-16"), "line 1: the file is not UTF-8 text"),
        (b"a\nb\0", "line 2: the file holds a NUL character"),
    ],
)
def test_bytes_that_are_no_text_are_refused_with_their_line(data: bytes, reason: str) -> None:
    with pytest.raises(PromptSyntaxError, match=reason):
        parse_prompt("a.md", "v1", data)


_SNIPPETS = [
    b"---\n",
    b"a: ",
    b"input: ",
    b"{schema: ",
    b"{",
    b"}",
    b"{{",
    b"}}",
    b"{%",
    b"%}",
    b"{#",
    b"-",
    b"if x ",
]
_SNIPPETS += [
    b"user:\n",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"[",
    b"|",
    b"'",
    b"1",
    b" set x ",
    b"endif",
    b"(*)",
]


@modest
@given(st.binary(max_size=40) | st.lists(st.sampled_from(_SNIPPETS), max_size=15).map(b"".join))
def test_any_bytes_are_either_a_prompt_or_a_syntax_error(data: bytes) -> None:
    try:
        prompt = parse_prompt("a.md", "v1", data)
    except PromptSyntaxError:
        return
    assert isinstance(prompt, Prompt)


def test_a_file_of_200_kilobytes_is_a_prompt_like_any_other() -> None:
    filler = "Text of a long prompt.\n" * 9_000
    data = f"---\ndescription: long\n---\nsystem:\n{filler}\nuser:\n{{{{ x }}}}".encode()
    prompt = parse_prompt("a.md", "v1", data)
    assert prompt.size_bytes > 200_000
    assert prompt.render({"x": filler}, 500_000) == (
        Message("system", filler.strip()),
        Message("user", filler.strip()),
    )


def test_every_missing_variable_is_named_and_no_value_is() -> None:
    with pytest.raises(MissingVariables) as refusal:
        rendered("{{ a }}{{ user.name }}{{ user.mail }}{{ b }}", {"a": SECRET, "user": {"mail": SECRET}})
    assert refusal.value.details == {"missing": ["user.name", "b"]}
    assert refusal.value.param == "variables.user.name"
    assert SECRET not in told(refusal.value)


@pytest.mark.parametrize("value", [None, "", 0, False, [], {}])
def test_an_empty_value_is_not_a_missing_one(value: Json) -> None:
    assert rendered("text {{ x }}", {"x": value})


@pytest.mark.parametrize("user", ["text", None, ["name"], {"Name": "x"}])
def test_a_field_is_missing_if_its_parent_does_not_have_it(user: Json) -> None:
    with pytest.raises(MissingVariables):
        rendered("{{ user.name }}", {"user": user})


def test_a_name_with_a_dot_in_it_can_be_given() -> None:
    assert rendered("{{ user['first.name'] }}", {"user": {"first.name": "Ada"}}) == [Message("user", "Ada")]


def test_a_default_stands_in_for_what_is_not_given() -> None:
    text = with_input(
        "{default: {tone: warm, user: {name: you, age: 7}}}", "{{ tone }} {{ user.name }} {{ user.age }}"
    )
    assert parsed(text).required_variables == ()
    assert rendered(text)[0].content == "warm you 7"
    assert rendered(text, {"tone": None, "user": {"name": "Ada"}})[0].content == "None Ada 7"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=6,
)
_OBJECTS = st.dictionaries(st.sampled_from("abc"), _JSON, max_size=3)


def _leaves(value: Json, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Json]:
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {key: leaf for name, below in value.items() for key, leaf in _leaves(below, (*path, name)).items()}


def _at(value: Json, path: tuple[str, ...]) -> Json:
    for step in path:
        assert isinstance(value, dict)
        value = value[step]
    return value


@modest
@given(_OBJECTS, _OBJECTS)
def test_what_is_given_wins_over_the_defaults_and_neither_changes(
    defaults: dict[str, Json], given_: dict[str, Json]
) -> None:
    before = deepcopy((defaults, given_))
    result = merged(defaults, given_)
    assert (defaults, given_) == before
    assert result.keys() == defaults.keys() | given_.keys()
    assert all(_at(result, path) == leaf for path, leaf in _leaves(given_).items() if leaf != {})
    assert all(result[name] == defaults[name] for name in defaults.keys() - given_.keys())
    assert merged(defaults, {}) == defaults
    assert merged({}, given_) == given_


def test_what_the_schema_demands_is_required_too() -> None:
    schema = "{schema: {a: string, b: string, 'c?': string, 'user(object)': {name: string}}, default: {b: x}}"
    assert parsed(with_input(schema, "{{ user.name }}")).required_variables == ("user.name", "a")


@pytest.mark.parametrize(
    ("schema", "variables", "problems"),
    [
        ("{x: string}", {"x": 5}, ["variables.x must be of type string"]),
        ("{'x?': integer}", {"x": SECRET}, ["variables.x must be of type null or integer"]),
        ("{'x(enum)': [a, b]}", {"x": SECRET}, ["variables.x breaks the rule 'enum'"]),
        ("{'x(array)': string}", {"x": ["a", 5]}, ["variables.x.1 must be of type string"]),
        ("{x: string}", {"x": "", "y": SECRET}, ["variables has a name that the schema does not know"]),
        ("{x: {a: any, b: any}}", {"x": {}}, ["variables.x lacks a, b"]),
        ("{type: object, required: [a.b]}", {}, ["variables lacks a.b"]),
        (
            "{x: string, y: number}",
            {"y": "", "x": 1},
            ["variables.x must be of type string", "variables.y must be of type number"],
        ),
    ],
)
def test_values_that_do_not_fit_the_schema_are_refused_by_field_and_rule(
    schema: str, variables: dict[str, Json], problems: list[str]
) -> None:
    with pytest.raises(InvalidVariables) as refusal:
        rendered(with_input(f"{{schema: {schema}}}"), variables)
    found = [problem.partition(" ")[::2] for problem in problems]
    assert refusal.value.details == {"problems": [{"param": name, "problem": rule} for name, rule in found]}
    assert refusal.value.param == found[0][0]
    assert "; ".join(problems) in refusal.value.message
    assert SECRET not in told(refusal.value)


@pytest.mark.parametrize(
    "schema",
    [
        "{type: object, properties: {a: {type: nope}}}",
        "{type: object, properties: {a: {pattern: '('}}}",
        "{properties: {a: 5}}",
    ],
)
def test_a_schema_that_is_none_is_a_syntax_error(schema: str) -> None:
    with pytest.raises(PromptSyntaxError, match="not a valid JSON Schema"):
        parsed(with_input(f"{{schema: {schema}}}"))


@pytest.mark.parametrize("reference", ["#/nowhere", "https://example.com/schema.json", "file:///etc/passwd"])
def test_a_schema_that_points_nowhere_or_outside_is_a_syntax_error(reference: str) -> None:
    with pytest.raises(PromptSyntaxError, match=r"line 2: 'input\.schema' refers to"):
        parsed(with_input(f"{{schema: {{$ref: '{reference}'}}}}"))
