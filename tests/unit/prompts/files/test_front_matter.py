"""The YAML on top of a prompt file."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.models.options import ModelOptions
from llm_gateway.prompts.files.front_matter import (
    FrontMatter,
    Mock,
    PromptSyntaxError,
    parse_front_matter,
    split_front_matter,
)
from llm_gateway.prompts.prompt import Prompt, parse_prompt
from tests.unit.prompts.parsed_prompts import SECRET, modest, parsed


@pytest.mark.parametrize(
    ("text", "front", "body", "offset"),
    [
        ("---\na: 1\n---\nbody", "a: 1", "body", 3),
        ("---  \na: 1\n--- \nbody\n---\nmore", "a: 1", "body\n---\nmore", 3),
        ("---\n---\nbody", "", "body", 2),
        ("---\na: 1\n---", "a: 1", "", 3),
        ("body", None, "body", 0),
        ("---\nnever closed", None, "---\nnever closed", 0),
        ("\n---\na: 1\n---\n", None, "\n---\na: 1\n---\n", 0),
    ],
)
def test_front_matter_stands_between_two_lines_of_three_dashes(
    text: str, front: str | None, body: str, offset: int
) -> None:
    assert split_front_matter(text) == (front, body, offset)


@pytest.mark.parametrize("text", ["", "\n\n", "# a comment", "config:", "input:\noutput:"])
def test_front_matter_that_says_nothing_is_the_default(text: str) -> None:
    assert parse_front_matter(text) == FrontMatter()


def test_everything_a_prompt_says_about_itself_is_read() -> None:
    front = parse_front_matter(
        """
        name: reply
        description: Drafts a reply.
        model: openai/gpt-4o-mini
        gateway.timeoutMs: 7500
        config: {temperature: 0, maxOutputTokens: 64, topP: 0.5, stopSequences: [END, "\\n"]}
        input: {default: {tone: warm}, schema: {tone: string}}
        output: {schema: {answer: string}}
        metadata: {team: [support]}
        """
    )
    assert front.description == "Drafts a reply."
    assert front.model == "openai/gpt-4o-mini"
    assert front.timeout_s == 7.5
    assert front.options == ModelOptions(
        temperature=0.0,
        top_p=0.5,
        max_tokens=64,
        stop=("END", "\n"),
        output_format="json",
        output_schema=front.output_schema,
    )
    assert front.defaults == {"tone": "warm"}
    assert front.input_schema is not None
    assert front.output_schema is not None
    assert front.warnings == ()


def test_snake_case_is_another_spelling_of_the_options() -> None:
    text = "config: {max_output_tokens: 64, top_p: 1, stop_sequences: [x]}"
    assert parse_front_matter(text).options == ModelOptions(max_tokens=64, top_p=1.0, stop=("x",))


@pytest.mark.parametrize(
    ("output", "output_format"),
    [("{schema: {a: string}}", "json"), ("{format: text, schema: {a: string}}", "text"), ("{}", None)],
)
def test_a_schema_asks_for_json_unless_the_format_says_otherwise(
    output: str, output_format: str | None
) -> None:
    assert parse_front_matter(f"output: {output}").options.output_format == output_format


def test_keys_that_nobody_reads_are_warnings_with_their_full_names() -> None:
    front = parse_front_matter("modle: x\nconfig: {topK: 3}\ninput: {shema: 1}\noutput: {style: 2}")
    assert front.warnings == tuple(
        f"unknown key '{key}' is ignored" for key in ("modle", "config.topK", "input.shema", "output.style")
    )


def test_a_long_list_of_unknown_keys_is_cut_short_and_a_long_name_as_well() -> None:
    front = parse_front_matter("\n".join(f"{'k' * 500}{n}: x" for n in range(120)))
    assert len(front.unknown) == 120
    assert front.warnings[-1] == "and 100 more"
    assert sum(map(len, front.warnings)) < 3_000


def test_fallbacks_are_read_in_their_order() -> None:
    front = parse_front_matter("gateway.fallbacks: [openai/gpt-4o, other/a/b]")
    assert front.fallbacks == ("openai/gpt-4o", "other/a/b")
    assert front.warnings == ()


@pytest.mark.parametrize(
    ("text", "mock"),
    [
        ("{}", Mock(answer=None, delay_s=None, errors=())),
        ("{answer: Hello, delayMs: 250}", Mock(answer="Hello", delay_s=0.25)),
        ("{answer: {name: Zoë, tags: [a, 1]}}", Mock(answer='{"name": "Zoë", "tags": ["a", 1]}')),
        ("{answer: []}", Mock(answer="[]")),
        (
            "{errors: [provider_rate_limited, content_filtered]}",
            Mock(errors=("provider_rate_limited", "content_filtered")),
        ),
    ],
)
def test_a_mock_says_what_test_mode_answers(text: str, mock: Mock) -> None:
    assert parse_front_matter(f"gateway.mock: {text}").mock == mock


def test_a_prompt_without_a_mock_has_none() -> None:
    assert parse_front_matter("gateway.mock:").mock is None
    assert parse_front_matter("description: x").mock is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("config:\n  temperature: 3", "line 3: 'temperature' must be a number from 0 to 2"),
        ("config:\n  topP: 1\n  top_p: 3", "line 4: 'config' has both 'top_p' and 'topP'; keep one"),
        ("config:\n\n  top_p: 3", "line 4: 'topP' must be a number from 0 to 1"),
        ("description: a\nmodel: x", "line 3: 'model' must look like provider/name"),
        ("output:\n  format: xml", "line 3: 'output.format' must be json or text"),
        ("input:\n  default:\n    a: [1,\n      2026-01-01]", "line 5: 'a' must be plain JSON"),
        ("input:\n  default:\n    a: !!int x", "line 4: 'a' has a value that YAML cannot read"),
        ("input:\n  yes: 1", "line 3: the names under 'input' must be text"),
        ("metadata:\n  <<: {a: 1}", "line 3: the names under 'metadata' must be text"),
        ("input:\n  schema:\n    a:\n      b(array): text", "line 5: 'input.schema' has an unknown type"),
        (
            "output:\n  schema:\n    a: string\n    a?: string",
            "line 5: 'output.schema' has the field 'a' twice",
        ),
        ("input:\n  schema:\n    type: string", "line 4: 'input.schema' must describe an object"),
        ("gateway.fallbacks:\n  - a/b\n  - c", "line 4: 'gateway.fallbacks' must be a list of 1 to 4 models"),
        ("gateway.mock:\n  delayMs: 120001", "line 3: 'delayMs' must be a number from 0 to 120000"),
        (
            "gateway.mock:\n  errors:\n    - boom",
            "line 4: 'errors' must be a list of 1 to 8 of: answer_not_json",
        ),
        ("gateway.mock: {errors: provider_timeout}", "line 2: 'errors' must be a list of 1 to 8 of"),
        ("gateway.mock: {answer: 5}", "line 2: 'answer' must be text, a mapping or a list"),
        ("a: 1\nb: \x01", "line 3: YAML does not allow a character in the front matter"),
    ],
)
def test_an_error_names_the_line_of_the_key_at_fault(text: str, told: str) -> None:
    with pytest.raises(PromptSyntaxError) as refusal:
        parse_front_matter(text)
    assert str(refusal.value).startswith(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: a/b\nname: x\nmodel: c/d", "line 4: 'model' is there twice, first on line 2; keep one"),
        ("config:\n  topP: 1\n  'topP': 1", "line 4: 'topP' is there twice, first on line 3; keep one"),
        ("input: {default: {a: [{b: 1, b: 1}]}}", "line 2: 'b' is there twice, first on line 2; keep one"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(text: str, told: str) -> None:
    with pytest.raises(PromptSyntaxError) as refusal:
        parse_front_matter(text)
    assert str(refusal.value) == told


@pytest.mark.parametrize("section", ["input", "output"])
def test_a_schema_must_be_valid_under_input_and_output(section: str) -> None:
    text = (
        f"---\n{section}:\n  schema:\n    type: object\n    properties:\n      a: {{type: txt}}\n---\nHello"
    )
    with pytest.raises(PromptSyntaxError) as refusal:
        parsed(text)
    assert str(refusal.value) == f"line 6: '{section}.schema' is not a valid JSON Schema"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: ]", "line 2: the front matter is not valid YAML"),
        ("a: 1\nb: 2\n c: 3", "line 4: the front matter is not valid YAML"),
        ("- a", "must be a mapping"),
        ("just text", "must be a mapping"),
        ("input: {yes: 1}", "names under 'input' must be text"),
        ("date: 2026-01-01", "'date' must be plain JSON"),
        ("input: {default: {x: [.nan]}}", "'x' must be plain JSON"),
        ("a: !!set {x}", "'a' must be plain JSON"),
        ("description: 5", "'description' must be text"),
        ("model: gpt-4o", "provider/name"),
        ("model: {api: chat}", "provider/name"),
        ("config: 5", "'config' must be a mapping"),
        ("config: {temperature: 2.1}", "'temperature' must be a number from 0 to 2"),
        ("config: {temperature: true}", "'temperature' must be a number"),
        ("config: {topP: -0.1}", "'topP' must be a number from 0 to 1"),
        ("config: {maxOutputTokens: 0}", "whole number from 1 up"),
        ("config: {maxOutputTokens: true}", "whole number from 1 up"),
        ("config: {stopSequences: []}", "1 to 4 non-empty texts"),
        ("config: {stopSequences: [a, b, c, d, e]}", "1 to 4 non-empty texts"),
        ("config: {stopSequences: ['']}", "1 to 4 non-empty texts"),
        ("config: {topP: 1, top_p: 1}", "has both 'top_p' and 'topP'"),
        ("gateway.timeoutMs: 4999", "from 5000 to 120000"),
        ("input: {default: [a]}", "'default' must be a mapping"),
        ("input: {schema: 5}", "'input.schema' must be a mapping"),
        ("output: {schema: {a: text}}", "'output.schema' has an unknown type"),
        ("output: {format: xml}", "'output.format' must be json or text"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(PromptSyntaxError) as refusal:
        parse_front_matter(text)
    assert reason in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        *(
            f"a: !!{tag}"
            for tag in ("int ''", "float ''", "bool x", "timestamp x", "binary x", "omap x", "nope x")
        ),
        "a: !!python/object/apply:os.system [ls]",
        "a: " + "9" * 5_000,
        "a: " + ":".join(["1"] * 400) + ".0",
        "a: " + "[" * 40 + "]" * 40,
        "a: " + "- " * 40,
        "a: &a [*a]",
        "a: &a [x, x]\nb: [*a, *a]",
        "a: &a {x: 1}\nb: {<<: *a}",
    ],
)
def test_yaml_that_trips_its_reader_runs_code_or_grows_without_end_is_refused(text: str) -> None:
    with pytest.raises(PromptSyntaxError):
        parse_front_matter(text)


@pytest.mark.parametrize(
    "text",
    [
        f"a: {SECRET}: b",
        f"a: !!int {SECRET}",
        f"a: !{SECRET} x",
        f"description: [{SECRET}]",
        f"model: {SECRET}",
        f"config: {{temperature: {SECRET}}}",
        f"config: {{stopSequences: {SECRET}}}",
        f"input: {{schema: {{x: {SECRET}}}}}",
        f"input: {{schema: {{'({SECRET}': string}}}}",
        f"output: {{format: {SECRET}}}",
        f"{SECRET}",
    ],
)
def test_a_reason_never_quotes_a_value_of_the_file(text: str) -> None:
    with pytest.raises(PromptSyntaxError) as refusal:
        parse_front_matter(text)
    assert SECRET not in str(refusal.value)


_WORDS = [
    "config",
    "input",
    "output",
    "schema",
    "default",
    "type",
    "temperature",
    "!!int",
    "&a",
    "*a",
    "<<",
    "~",
]
_MARKS = [": ", ", ", "[", "]", "{", "}", "\n", "\n  ", "- ", "? ", "'", '"', "#", "|", "1", ".nan", "\t"]


@modest
@given(st.text(max_size=60) | st.lists(st.sampled_from(_WORDS + _MARKS), max_size=20).map("".join))
def test_any_text_is_either_front_matter_or_a_syntax_error(text: str) -> None:
    with suppress(PromptSyntaxError):
        assert isinstance(parse_front_matter(text), FrontMatter)


_YAML = st.lists(st.sampled_from(_WORDS + _MARKS), max_size=20).map("".join)
_NASTY = [
    "---",
    "---\n---\n",
    "\ufeff---\r\n{front}\r\n---\r\nsystem:\r\n{body}",
    "---\r{front}\r---\r{body}",
    "---\n{front}\n---\n{body}",
    "---\n\t{front}\n---\n{body}",
    '---\na: "\\ud800\\x00"\ninput: {{default: {{b: "\\udfff"}}}}\n{front}\n---\n{body}',
    "---\n{front}\n--- \n{body}\0",
]


@modest
@given(st.sampled_from(_NASTY), st.text(max_size=40) | _YAML, st.text(max_size=40))
def test_any_file_is_either_a_prompt_or_a_syntax_error(shape: str, front: str, body: str) -> None:
    data = shape.format(front=front, body=body).encode(errors="surrogatepass")
    with suppress(PromptSyntaxError):
        assert isinstance(parse_prompt("a.prompt", "v1", data), Prompt)


@modest
@given(st.binary(max_size=80))
def test_any_bytes_are_either_a_prompt_or_a_syntax_error(data: bytes) -> None:
    for file in (data, b"---\n" + data + b"\n---\n{{ x }}"):
        with suppress(PromptSyntaxError):
            assert isinstance(parse_prompt("a.prompt", "v1", file), Prompt)


@pytest.mark.parametrize(
    "front",
    [
        "config: {maxOutputTokens: " + "9" * 4_000 + "}",
        "config: {maxOutputTokens: 0x" + "f" * 100_000 + "}",
        "input: {schema: {type: object, maxProperties: 1" + "0" * 4_000 + "}}",
        "description: " + "x" * 200_000,
        "\n".join(f"k{n}: x" for n in range(15_000)),
        "metadata: [" + "a, " * 60_000 + "]",
        "metadata: " + "{a: " * 31 + "}" * 31,
        "metadata: " + "{a: " * 50_000,
        "- " * 100_000,
        "? " * 100_000,
        "input: {schema: {$ref: '#'}}",
        "input: {schema: {$ref: 'http://localhost/schema'}}",
        "output: {schema: {type: object, properties: {a: {pattern: '('}}}}",
        "config: !!python/object/new:dict {temperature: 1}",
        "? [a, b]\n: c",
        "? {a: b}\n: c",
        "%YAML 9.9\n",
        "a: 1\n...\nb: 2",
        "a: |\n\tb",
        "a:\n\t- b",
        "config: {temperature: 0b11111111111111111111111, top_p: 1:30}",
    ],
)
def test_large_and_odd_front_matter_is_either_a_prompt_or_a_syntax_error(front: str) -> None:
    with suppress(PromptSyntaxError):
        assert isinstance(parsed(f"---\n{front}\n---\nHello"), Prompt)
