"""The YAML on top of a prompt file."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.models import ModelOptions
from llm_gateway.prompts.front_matter import (
    FrontMatter,
    PromptSyntaxError,
    parse_front_matter,
    split_front_matter,
)
from tests.unit.prompts.helpers import SECRET, modest


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
        temperature=0.0, top_p=0.5, max_tokens=64, stop=("END", "\n"), output_format="json"
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
