"""Half of a surrogate pair is text to Python and to no store and no wire: where it enters, it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.api.calls import CallRequest
from llm_gateway.api.prompts import ListQuery
from llm_gateway.bootstrap.settings import Settings
from llm_gateway.calls.structured_output import OutputContract
from llm_gateway.entrypoints.command_line.prompt_folder import read_variables
from llm_gateway.errors import ConfigurationError, GatewayError, InvalidVariables, MalformedJson, RequestError
from llm_gateway.models.catalogue import ModelCatalogue
from llm_gateway.models.completion import Completion, TokenUsage
from llm_gateway.models.overlay import overlaid
from llm_gateway.prompts.files.front_matter import PromptSyntaxError
from llm_gateway.prompts.prompt import parse_prompt
from llm_gateway.providers.openai.chat_completion import read_completion
from llm_gateway.validation import decode_json, has_half_character, validated, whole_characters, whole_escapes
from tests.unit.prompts.parsed_prompts import modest, rendered

HALF = "\ud800"
ANY_TEXT = st.text(st.characters(codec=None) | st.characters(categories=["Cs"]), max_size=20)


@pytest.mark.parametrize("field", sorted(CallRequest.model_fields))
def test_no_field_of_a_call_takes_half_a_character(field: str) -> None:
    for value in (
        HALF,
        f"a{HALF}",
        [HALF],
        {"a": HALF},
        {HALF: "a"},
        {"stop": [HALF]},
        {"schema": {HALF: 1}},
    ):
        with pytest.raises(RequestError) as caught:
            validated(CallRequest, {"prompt": "a.md", field: value})
        assert caught.value.status == 400
        assert str(caught.value.param).startswith(field)
        assert not has_half_character(str(caught.value.to_wire("r")))


@pytest.mark.parametrize("field", sorted(ListQuery.model_fields))
def test_no_field_of_a_list_takes_half_a_character(field: str) -> None:
    with pytest.raises(RequestError):
        validated(ListQuery, {field: HALF})


def test_the_refusal_says_what_is_wrong() -> None:
    with pytest.raises(RequestError, match="'calling_service' holds half a character") as caught:
        validated(CallRequest, {"prompt": "a.md", "calling_service": HALF})
    assert caught.value.code == "invalid_parameter"


def test_a_body_given_as_text_with_half_a_character_is_malformed() -> None:
    with pytest.raises(MalformedJson):
        decode_json(f'{{"a": "{HALF}"}}')


@pytest.mark.parametrize(
    "body",
    [
        r'{{ x["\ud800"] }}', r"{{ '\ud83d' ~ '\ude00' }}", r'{{ "\ud83d\ude00" }}', r'{{ {"\udc00": 1} }}',
        r"{% set a = '\ud800' %}{{ a }}", r"{% if x == '\udfff' %}a{% endif %}", r"{{ x.get('\ud800') }}",
        r"{{ x|join('\ud800') }}", r"{% macro m(a='\ud800') %}{% endmacro %}a",
    ],
)  # fmt: skip
def test_half_a_character_in_a_template_breaks_the_file_and_names_the_line(body: str) -> None:
    with pytest.raises(PromptSyntaxError, match="half a character") as caught:
        parse_prompt("a.md", "v1", f"\n{body}".encode())
    assert caught.value.line == 2
    with pytest.raises(PromptSyntaxError, match=r"_p\.md line 1"):
        parse_prompt("a.md", "v1", b'{% include "_p.md" %}', {"_p.md": body.encode()})


@pytest.mark.parametrize(
    ("body", "variables"),
    [
        ('{{ "%c"|format(55296) }}', {}),
        ('{{ "%c"|format(n) }}', {"n": 56320}),
        ('{{ "%c"|format(55357) ~ "%c"|format(56832) }}', {}),
        ("{{ x }}", {"x": HALF}),
        ("user:\na\nassistant:\n{{ x }}", {"x": HALF}),
        ("{% for k in x %}{{ k }}{% endfor %}", {"x": {HALF: 1}}),
    ],
)
def test_half_a_character_does_not_leave_the_renderer(body: str, variables: dict[str, Any]) -> None:
    with pytest.raises(InvalidVariables) as caught:
        rendered(body, variables)
    assert (caught.value.status, caught.value.param) == (400, "variables")


@modest
@given(ANY_TEXT)
def test_whole_characters_can_be_sent_and_whole_ones_stay(text: str) -> None:
    whole = whole_characters(text)
    assert not has_half_character(whole)
    assert (whole == text) is not has_half_character(text)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("a\ud83d\ude00b", "a\U0001f600b"),
        ("a\ud800b", "a\ufffdb"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
    ],
)
def test_halves_that_meet_are_joined_and_others_replaced(text: str, whole: str) -> None:
    assert whole_characters(text) == whole


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (r'"\ud83d\ude00"', r'"\ud83d\ude00"'),
        (r'"\ud800"', r'"\ufffd"'),
        (r'"\udC00\uD83d"', r'"\ufffd\ufffd"'),
        (r'"\\ud800"', r'"\\ud800"'),
        (r'"\\\ud800"', r'"\\\ufffd"'),
        (r'"\ud83d\ud83d\ude00"', r'"\ufffd\ud83d\ude00"'),
        (r'"\u00e9\n"', r'"\u00e9\n"'),
    ],
)
def test_escapes_of_halves_are_replaced_and_no_others(text: str, whole: str) -> None:
    assert whole_escapes(text) == whole


def test_a_vendors_answer_with_half_a_character_is_an_answer() -> None:
    answer = rb"""{"model": "m\udfff", "choices": [{"message": {"content": "a\ud800b"},
        "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}"""
    completion = read_completion(answer)
    assert (completion.text, completion.served_model) == ("a\ufffdb", "m\ufffd")
    assert completion.usage.output_tokens == 2


def test_json_in_a_vendors_answer_with_half_a_character_is_an_answer() -> None:
    completion = Completion(
        text='{"a\\udfff": "\\ud800"}', finish_reason="stop", usage=TokenUsage(), served_model="m"
    )
    assert OutputContract(None, repair=False).parsed(completion) == {"a\ufffd": "\ufffd"}


@pytest.mark.parametrize(
    "text", ["\udcff", '{"models": [{"name": "\udcff"}]}', '{"models": [{"name": "\\ud800"}]}']
)
def test_half_a_character_in_the_configured_models_is_a_sentence(text: str) -> None:
    with pytest.raises(ConfigurationError, match="LLM_GATEWAY_MODELS"):
        overlaid(ModelCatalogue.packaged(), text)


def test_bytes_of_the_environment_that_are_no_text_are_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match="LLM_GATEWAY_PROMPT_FOLDER must be UTF-8 text"):
        Settings.from_env({"LLM_GATEWAY_PROMPT_FOLDER": "/srv/\udcff"})


@pytest.mark.parametrize("pair", ["x=\udcff", "\udcff=x", 'x="\\ud800"', 'x={"a": ["\\udfff"]}'])
def test_bytes_of_an_argument_that_are_no_text_are_a_sentence(pair: str) -> None:
    with pytest.raises(GatewayError, match="half a character"):
        read_variables([pair], None)


@pytest.mark.parametrize("data", [b'{"x": "\xff"}', b'{"x": "\\ud800"}', b'{"\xed\xa0\x80": 1}'])
def test_a_file_of_variables_with_bytes_that_are_no_text_is_a_sentence(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "variables.json"
    file.write_bytes(data)
    with pytest.raises(InvalidVariables, match="half a character"):
        read_variables([], file)
