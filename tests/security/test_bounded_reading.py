"""A prompt file costs little to read, whatever is in it: what would cost more is refused with its line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment
from typing_extensions import override

from llm_gateway.models.catalogue import ModelCatalogue
from llm_gateway.prompts.files.bounds import MAX_CHARS, MAX_LINES, MAX_TOKENS, Size, measured
from llm_gateway.prompts.files.front_matter import PromptSyntaxError
from llm_gateway.prompts.files.includes import compose, read_source
from llm_gateway.prompts.files.picoschema import SchemaError, to_json_schema
from llm_gateway.prompts.files.yaml_lines import MAX_FRONT_BYTES, MAX_VALUES, load_mapping
from llm_gateway.prompts.lint.lint import lint
from llm_gateway.prompts.prompt import parse_prompt
from llm_gateway.prompts.rendering.sandbox import environment
from tests.unit.prompts.parsed_prompts import modest

MODELS = ModelCatalogue.packaged()
_TOKENS = f"more than {MAX_TOKENS} tokens"
_BRACKETS = "more than 32 brackets"
_DEEP = "more than 80 levels deep"
_NUMBER = "longer than 100 characters"


def front(*lines: str, body: str = "Hello") -> str:
    return "\n".join(["---", *lines, "---", body])


REFUSED: dict[str, tuple[str, int, str]] = {
    "a number in base 60": (front("a: 1" + ":59" * 200_000), 2, "longer than 65536 bytes"),
    "a short number in base 60": (front("b: 2", "a: 1" + ":59" * 100), 3, _NUMBER),
    "a float in base 60": (front("a: 1" + ":59" * 100 + ".5"), 2, _NUMBER),
    "a hexadecimal number": (front("a: 0x" + "f" * 101), 2, _NUMBER),
    "a decimal number": (front("a: " + "9" * 101), 2, _NUMBER),
    "a fraction": (front("a: 1." + "9" * 101), 2, _NUMBER),
    "a moment": (front("a: 2001-12-14t21:59:43." + "1" * 101), 2, _NUMBER),
    "a long comment": (front("a: 1", "#" * MAX_FRONT_BYTES), 3, "longer than 65536 bytes"),
    "wide characters": (front('a: "' + "\U0001f600" * 17_000 + '"'), 2, "longer than 65536 bytes"),
    "a list of numbers": (front("a: [" + "1," * 6_000 + "]"), 2, "more than 5000 names and values"),
    "names": (front(*(f"k{n}: 1" for n in range(3_000))), 2_501, "more than 5000 names and values"),
    "fields": (
        front("input:", "  schema:", *(f"   f{n}: any" for n in range(3_000))), 2_501, "more than 5000"
    ),
    "flow in flow": (front("a: " + "[" * 1_000), 2, "nested too deeply"),
    "lists in one line": (front("a:", "  " + "- " * 1_000), 3, "nested too deeply"),
    "expressions": ("{{ x }}\n" * 100_000, MAX_TOKENS // 4 + 1, _TOKENS),
    "conditions": ("{% if x %}a{% endif %}" * 45_000, 1, _TOKENS),
    "comments": ("{##}" * 150_000, 1, _TOKENS),
    "a sum": ("{{ 1" + "+1" * 250_000 + " }}", 1, _TOKENS),
    "a text of texts": ("{{ x" + "~x" * 250_000 + " }}", 1, _TOKENS),
    "a list": ("{{ [" + "1," * 250_000 + "] }}", 1, _TOKENS),
    "texts side by side": ("{{ " + "'a' " * 150_000 + " }}", 1, _TOKENS),
    "a short sum": ("\n{{ 1" + "+1" * 900 + " }}", 2, _DEEP),
    "signs": ("\n{{ " + "-" * 500 + "1 }}", 2, _DEEP),
    "steps of a path": ("\n{{ x" + ".a" * 500 + " }}", 2, _DEEP),
    "filters": ("\n{{ x" + "|e" * 500 + " }}", 2, _DEEP),
    "conditions in one another": ("\n" + "{% if x %}" * 90 + "{% endif %}" * 90, 2, _DEEP),
    "conditions in one another that no parser follows": ("\n" + "{% if x %}" * 900, 2, "nested too deeply"),
    "negations": ("\n{{ " + "not " * 5_000 + "x }}", 2, "nested too deeply"),
    "loops in one another": ("\n" + "{% for a in x %}" * 20 + "{% endfor %}" * 20, 2, "more than 16 loops"),
    "branches": ("{% if x %}" + "\n{% elif x %}" * 300 + "{% endif %}", 202, "more than 200 'elif'"),
    "parentheses": ("\n{{ " + "(" * 500_000, 2, _BRACKETS),
    "lists in one another": ("\n{{ " + "[" * 40 + "]" * 40 + " }}", 2, _BRACKETS),
    "open mappings": ("\n" + "{" * 500_000, 2, _BRACKETS),
    "digits": ("\n{{ " + "9" * 600_000 + " }}", 2, "more than 10000 digits"),
    "hexadecimal digits": ("\n{{ 0x" + "f" * 600_000 + " }}", 2, "more than 10000 digits"),
    "digits with signs between": ("\n{{ 1" + "_1" * 300_000 + " }}", 2, "more than 10000 digits"),
    "a number": ("\n{{ " + "9" * 101 + " }}", 2, _NUMBER),
    "a name": ("\n{{ " + "x" * 201 + " }}", 2, "longer than 200 characters"),
    "variables": ("".join(f"{{{{ x{n} }}}}\n" for n in range(1_100)), 1_001, "more than 1000 variables"),
    "long names of variables": (
        "".join(f"{{{{ x{n:0199} }}}}\n" for n in range(200)), 164, "longer than 32768 bytes"
    ),
    "lines": ("\n" * 200_000, MAX_LINES + 1, "more than 100000 lines"),
    "characters": ("x\n" + "x" * MAX_CHARS, 2, "more than 2000000 characters"),
    "role lines": ("user:\nHi\n" * 1_100, 2_001, "more than 1000 role lines"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_beyond_a_bound_is_broken_and_the_line_is_named(name: str) -> None:
    text, line, reason = REFUSED[name]
    with pytest.raises(PromptSyntaxError) as caught:
        parse_prompt("a.prompt", "v1", text.encode())
    assert (caught.value.line, reason in caught.value.reason) == (line, True), caught.value.reason
    (finding,) = lint("a.prompt", {"a.prompt": text.encode()}, MODELS)
    assert (finding.line, finding.code) == (line, "broken-file")


class Counting(Environment):
    """Jinja2 as it is, counting the tokens that are asked for."""

    read = 0

    @override
    def lex(
        self, source: str, name: str | None = None, filename: str | None = None
    ) -> Iterator[tuple[int, str, str]]:
        for token in super().lex(source, name, filename):
            self.read += 1
            yield token


@pytest.mark.parametrize("text", ["{{ x }}" * 100_000, "{{ " + "(" * 500_000, "{##}" * 250_000])
def test_reading_ends_with_the_first_token_too_many(text: str) -> None:
    counting = Counting()
    with pytest.raises(PromptSyntaxError):
        measured(counting, text, PromptSyntaxError)
    assert counting.read <= 2 * MAX_TOKENS


@pytest.mark.parametrize(
    ("body", "each", "reason"),
    [
        ("", "", _TOKENS),
        ("x" * 300, "", "more than"),
        ("", "x\n" * 200, "more than"),
        ("{{ x }}", "", _TOKENS),
    ],
)
def test_partials_that_multiply_are_refused_where_they_pass_the_bound(
    body: str, each: str, reason: str
) -> None:
    links = {f"_{n}.md": each + f'{{% include "_{n + 1}.md" %}}' * 2 for n in range(14)}
    sources = {path: read_source(path, text.encode()) for path, text in {**links, "_14.md": body}.items()}
    with pytest.raises(PromptSyntaxError) as caught:
        compose(read_source("a.md", b'\n{% include "_0.md" %}'), sources)
    assert "too large with its partials" in caught.value.reason
    assert reason in caught.value.reason
    assert caught.value.line is not None


def test_a_partial_may_be_included_often_and_is_counted_each_time() -> None:
    files = {"_p.md": b"{{ x }}"}
    assert parse_prompt("a.md", "v", b'{% include "_p.md" %}' * 1_000, files).required_variables == ("x",)
    with pytest.raises(PromptSyntaxError, match=_TOKENS):
        parse_prompt("a.md", "v", b'{% include "_p.md" %}' * 10_000, files)


def test_partials_are_not_read_further_than_the_bound() -> None:
    files = {f"_{n}.md": b"{{ x }}" * 6_000 for n in range(60)}
    text = "\n".join(f'{{% include "{path}" %}}' for path in files)
    with pytest.raises(PromptSyntaxError, match="line 2: the prompt is too large with its partials"):
        parse_prompt("a.md", "v", text.encode(), files)


WITHIN: dict[str, str] = {
    "expressions": "{{ x }}" * (MAX_TOKENS // 3),
    "conditions in one another": "{% if x %}" * 70 + "a" + "{% endif %}" * 70,
    "loops in one another": "{% for a in x %}" * 16 + "a" + "{% endfor %}" * 16,
    "brackets": "{{ " + "[" * 32 + "]" * 32 + " }}",
    "parentheses": "{{ " + "(" * 32 + "1" + ")" * 32 + " }}",
    "filters": "{{ x" + "|e" * 70 + " }}",
    "branches": "{% if x %}" + "{% elif x %}" * 200 + "{% endif %}",
    "a long text": "x" * (MAX_CHARS - 1),
    "long numbers in a text": ("7" * 9_999 + " ") * 50,
    "names": front(*(f"k{n}: 1" for n in range(MAX_VALUES // 2 - 1))),
    "a description": front("description: " + "x" * 65_000),
}


@pytest.mark.parametrize("name", WITHIN)
def test_a_file_within_the_bounds_is_a_prompt(name: str) -> None:
    assert parse_prompt("a.prompt", "v1", WITHIN[name].encode()).path == "a.prompt"


@modest
@given(
    st.lists(
        st.sampled_from(["{{ x }}", "a", "\n", "{% if x %}", "{% endif %}", "{# a #}", "{{"]), max_size=30
    )
)
def test_a_template_is_measured_as_its_lexer_reads_it(parts: list[str]) -> None:
    text = "".join(parts)
    size = measured(environment(), text, PromptSyntaxError)
    assert (size.chars, size.lines) == (len(text), text.count("\n"))
    assert size + Size(1, 2, 3) == Size(size.chars + 1, size.lines + 2, size.tokens + 3)


@pytest.mark.parametrize(
    "key", ["b(array," + " " * 50_000 + "x", "b" + "(" * 50_000 + "x", "b" * 50_000 + "("]
)
def test_a_field_that_cannot_be_read_is_refused_without_trying_every_way(key: str) -> None:
    """Time would tell: a pattern that tries every way takes minutes here."""
    with pytest.raises(SchemaError):
        to_json_schema({key: "string"})


@pytest.mark.parametrize(
    "text", ['a: "\\ud800"', '"\\ud800": 1', 'a: {"b\\udc00": 1}', 'description: "x\\udfffy"']
)
def test_front_matter_with_half_a_character_is_broken(text: str) -> None:
    with pytest.raises(PromptSyntaxError, match="line 2"):
        load_mapping(text)
