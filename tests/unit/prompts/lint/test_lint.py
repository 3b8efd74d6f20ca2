"""What the linter finds."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.models.catalogue import ModelCatalogue
from llm_gateway.prompts.files.front_matter import PromptSyntaxError
from llm_gateway.prompts.files.path import is_partial
from llm_gateway.prompts.lint.findings import Finding
from llm_gateway.prompts.lint.lint import lint
from llm_gateway.prompts.prompt import parse_prompt
from tests.unit.prompts.parsed_prompts import SECRET, modest

SAMPLES = Path(__file__).parents[4] / "prompts"
MODELS = ModelCatalogue.packaged()


def findings(text: str | bytes) -> list[Finding]:
    data = text.encode() if isinstance(text, str) else text
    return list(lint("a.prompt", {"a.prompt": data}, MODELS))


def found(text: str | bytes) -> list[tuple[int | None, str, str]]:
    return [(finding.line, finding.severity, finding.code) for finding in findings(text)]


def with_front(*lines: str, body: str = "Hello") -> str:
    return "\n".join(["---", *lines, "---", body])


def test_the_sample_prompts_are_clean() -> None:
    paths = [path for path in SAMPLES.rglob("*.*") if ".llm-gateway" not in path.parts]
    files = {str(path.relative_to(SAMPLES)): path.read_bytes() for path in paths}
    assert len(files) >= 9
    assert [finding for path in files if not is_partial(path) for finding in lint(path, files, MODELS)] == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"a\nb\xff", 2),
        ("Hello {{", 1),
        (with_front("model: a/b", "model: a/b"), 3),
        (with_front("config:", "  temperature: 3"), 3),
        (with_front("description: x", body="Hello\n{% if x %}"), 5),
    ],
)
def test_a_file_that_does_not_parse_is_one_error_with_its_line(text: str | bytes, line: int) -> None:
    assert found(text) == [(line, "error", "broken-file")]


def test_a_finding_reads_like_a_compilers() -> None:
    (finding,) = findings(with_front("model: a/b", "model: a/b"))
    assert str(finding) == (
        "a.prompt:3: error: 'model' is there twice, first on line 2; keep one [broken-file]"
    )
    (finding,) = findings("")
    assert str(finding).startswith("a.prompt: warning: the prompt has no text")


@pytest.mark.parametrize(
    ("lines", "line", "told"),
    [
        (["modle: x"], 2, "'modle'; did you mean 'model'?"),
        (["config:", "  topP: 1", "  temprature: 1"], 4, "'config.temprature'; did you mean 'temperature'?"),
        (["input:", "  shema: {a: string}"], 3, "'input.shema'; did you mean 'schema'?"),
        (["gateway:", "  timeoutMs: 5000"], 2, "'gateway'; did you mean 'gateway.timeoutMs'?"),
        (["config: {max_tokens: 5}"], 2, "'config.max_tokens'; did you mean 'maxOutputTokens'?"),
        (["stop: x"], 2, "'stop'; put data of your own under 'metadata'"),
        (["gateway.mock:", "  delay: 1"], 3, "'gateway.mock.delay'; did you mean 'delayMs'?"),
    ],
)
def test_an_unknown_key_is_an_error_with_the_nearest_known_one(
    lines: list[str], line: int, told: str
) -> None:
    (finding,) = findings(with_front(*lines))
    assert (finding.line, finding.severity, finding.code) == (line, "error", "unknown-key")
    assert told in finding.message


@pytest.mark.parametrize(
    ("lines", "expected", "told"),
    [
        (["model: openai/gpt-4o-minni"], (2, "error", "unknown-model"), "nearest: gpt-4o-mini"),
        (["model: opnai/gpt-4o"], (2, "error", "unknown-provider"), "known are: openai"),
        (
            ["gateway.fallbacks:", "  - openai/gpt-4o", "  - openai/gpt4o"],
            (4, "error", "unknown-model"),
            "'gateway.fallbacks': openai has no such model",
        ),
        (
            ["model: openai/gpt-4o", "config:", "  max_output_tokens: 16385"],
            (4, "error", "too-many-output-tokens"),
            "16384",
        ),
        (
            [
                "model: openai/gpt-4.1",
                "config: {maxOutputTokens: 20000}",
                "gateway.fallbacks: [openai/gpt-4o]",
            ],
            (3, "error", "too-many-output-tokens"),
            "gpt-4o allows",
        ),
        (
            ["model: openai/gpt-5-mini", "config:", "  temperature: 0"],
            (4, "warning", "parameter-not-taken"),
            "'temperature'",
        ),
        (
            ["model: openai/gpt-5-mini", "config:", "  stopSequences: [x]"],
            (4, "warning", "parameter-not-taken"),
            "'stopSequences'",
        ),
        (["model: openai/gpt-4", "output:", "  format: json"], (4, "warning", "no-json-mode"), "gpt-4"),
    ],
)
def test_what_the_model_does_not_take_is_found(
    lines: list[str], expected: tuple[int, str, str], told: str
) -> None:
    (finding,) = findings(with_front(*lines, body="Answer with JSON."))
    assert (finding.line, finding.severity, finding.code) == expected
    assert told in finding.message


@pytest.mark.parametrize("model", ["openai/gpt-4o", "openai/gpt-4o-2024-08-06"])
def test_what_the_model_takes_is_fine(model: str) -> None:
    front = (f"model: {model}", "config: {temperature: 1, topP: 1, maxOutputTokens: 16384}")
    assert found(with_front(*front)) == []


_PICO = ["input:", "  schema:", "    user(object):", "      name: string", "    note?: string"]
_OPEN = ["input: {schema: {type: object, properties: {user: {type: object}, tags: {type: array}}}}"]


@pytest.mark.parametrize(
    ("lines", "body", "expected"),
    [
        (_PICO, "{{ user.name }} {{ note }}", []),
        (_PICO, "{{ user.name }}", [(6, "warning", "unused-variable")]),
        (_PICO, "{{ note }}", [(4, "warning", "unused-variable")]),
        (_PICO, "{{ user.name }}\n{{ note }} {{ more }}", [(9, "error", "undeclared-variable")]),
        (_PICO, "{{ user.name }} {{ note }} {{ more | default(1) }}", [(8, "error", "undeclared-variable")]),
        (_PICO, "{{ user.mail }} {{ user.mail }} {{ note }}", [(8, "error", "unknown-field")]),
        (_PICO, "{{ user.name.first }} {{ note }}", [(8, "error", "unknown-field")]),
        (_PICO, "{{ user.name.upper() }} {{ note }}", []),
        (_PICO, "{% for more in user.name %}{{ more }}{{ loop.index }}{% endfor %}{{ note }}", []),
        (_PICO, "{% set more = note %}{{ more }}{{ user['name'] }}", []),
        (_PICO, "{% macro m(more) %}{{ more }}{{ note }}{% endmacro %}{{ m(user.name) }}", []),
        (_OPEN, "{{ user.name }} {{ tags | join }}", []),
        (_OPEN, "{{ user.name }} {{ tags[0].name }}", []),
        (_OPEN, "{{ user.name }} {{ tags.name }}", [(4, "error", "unknown-field")]),
        (_OPEN, "{{ user.name }} {{ tags }} {{ more }}", [(4, "warning", "undeclared-variable")]),
        (["input: {schema: {'(*)': string}}"], "{{ any }}", []),
        (["input: {schema: {'(*)': string}}"], "{{ any.name }}", [(4, "error", "unknown-field")]),
        (["input: {schema: {a: any}}"], "{{ a.b.c }}", []),
        (["input: {default: {a: 1}}"], "Hello", [(2, "warning", "unused-variable")]),
        ([], "{{ anything.at.all }}", []),
    ],
)
def test_template_and_schema_are_held_against_each_other(
    lines: list[str], body: str, expected: list[tuple[int, str, str]]
) -> None:
    assert found(with_front(*lines, body=body)) == expected


@pytest.mark.parametrize(
    "keyword",
    ["$ref: '#/$defs/a', $defs: {a: {}}", "anyOf: [{}]", "allOf: [{}]", "patternProperties: {a: {}}"],
)
def test_what_a_schema_leaves_open_is_not_guessed(keyword: str) -> None:
    schema = f"{{type: object, additionalProperties: false, {keyword}}}"
    assert found(with_front(f"input: {{schema: {schema}}}", body="{{ a.b }}")) == []


@pytest.mark.parametrize(
    ("schema", "default", "expected"),
    [
        ("{a: string}", "{}", None),
        ("{a: string, b: string}", "{a: x}", None),
        ("{a: {b: string, c: string}}", "{a: {b: x}}", None),
        ("{a: {b: string}}", "{a: {b: 1}}", "'input.default.a.b' breaks the rule 'type'"),
        ("{'a(enum)': [x, y]}", "{a: z}", "'input.default.a' breaks the rule 'enum'"),
        ("{a: {b: string}}", "{a: {c: x}}", "'input.default.a.c' breaks the rule 'additionalProperties'"),
        ("{'a(array)': {b: string}}", "{a: [{}]}", "'input.default.a.0' breaks the rule 'required'"),
        ("{type: object, minProperties: 2, properties: {a: {}}}", "{a: 1}", None),
    ],
)
def test_defaults_must_fit_the_schema_as_far_as_they_go(
    schema: str, default: str, expected: str | None
) -> None:
    text = with_front(
        "input:", f"  schema: {schema}", f"  default: {default}", body="{{ a }}{{ b | default(1) }}"
    )
    told = [f.message for f in findings(text) if f.code in ("default-does-not-fit", "unusable-schema")]
    assert [message.startswith(expected or "never") for message in told] == (
        [] if expected is None else [True]
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("system:\nBe kind.\nuser:\n{{ x }}", []),
        ("System:\nBe kind.", [(1, "warning", "nearly-a-role-line")]),
        ("user:\nx\nASSISTANT:\ny", [(3, "warning", "nearly-a-role-line")]),
        ("user:\nx\nassistant :\ny", [(3, "warning", "nearly-a-role-line")]),
        ("user:\nx\n**assistant:**\ny", [(3, "warning", "nearly-a-role-line")]),
        ("user:\nx\n## user:\ny", [(3, "warning", "nearly-a-role-line")]),
        ("user:\nx\nuser\uff1a\ny", [(3, "warning", "nearly-a-role-line")]),
        ("system: Be kind.\nuser: {{ x }}", [(n, "warning", "nearly-a-role-line") for n in (1, 2)]),
        ("User: {{ x }}", [(1, "warning", "nearly-a-role-line")]),
        ("user:\nsystem: a word for machines\nUser: Ada", []),
        ("user:\n{% if x %}\nassistant:\n{{ x }}{% endif %}", [(3, "warning", "role-line-in-block")]),
        ("user:\nx\n{% raw %}\nsystem:\n{% endraw %}{# \nsystem:\n#}", []),
        ("\n\nHello\nsystem:\nx", [(3, "warning", "text-before-role-line")]),
        ("{{ x }}\nsystem:\nx", [(1, "warning", "text-before-role-line")]),
        ("{# note #}\n{% set a = 1 %}\n{% macro m() %}x{% endmacro %}\nsystem:\n{{ a }}{{ m() }}", []),
        ("{% for a in x %}\n\n{{ a }}{% endfor %}\nuser:\nx", [(3, "warning", "text-before-role-line")]),
        ("", [(None, "warning", "empty-prompt")]),
        ("system:\n \nuser:\n{# x #}{% set a = 1 %}", [(None, "warning", "empty-prompt")]),
    ],
)
def test_lines_that_open_no_message_where_one_might_think_so_are_found(
    body: str, expected: list[tuple[int | None, str, str]]
) -> None:
    assert found(body) == expected


@pytest.mark.parametrize(
    ("output", "body", "expected"),
    [
        ("{format: json}", "Answer in a table.", [(2, "warning", "json-not-mentioned")]),
        ("{schema: {a: string}}", "Answer with a.", []),
        (
            "{schema: {a: string}}\nmodel: openai/gpt-3.5-turbo",
            "Answer with a.",
            [(2, "warning", "json-not-mentioned")],
        ),
        ("{format: json}", "Answer in json.", []),
        ("{format: json}", "Answer in {{ 'JSON' }}.", []),
        ("{format: text, schema: {a: string}}", "Answer.", []),
    ],
)
def test_json_output_needs_the_word_in_a_message(
    output: str, body: str, expected: list[tuple[int, str, str]]
) -> None:
    assert found(with_front(f"output: {output}", body=body)) == expected


def test_what_is_wrong_in_a_partial_is_told_with_its_path_and_line() -> None:
    files = {
        "a.prompt": with_front(
            *_PICO, body='{{ user.name }}{{ note }}\n{% include "_b.md" %}\n{{ x }}'
        ).encode(),
        "_b.md": b"Hello\n{{ user.mail }}\n\nUser:\n",
        "_unused.md": b"{% if",
    }
    assert [(f.path, f.line, f.code) for f in lint("a.prompt", files, MODELS)] == [
        ("_b.md", 2, "unknown-field"),
        ("_b.md", 4, "nearly-a-role-line"),
        ("a.prompt", 10, "undeclared-variable"),
    ]


@pytest.mark.parametrize(
    ("partial", "place"),
    [
        ({}, ("a.prompt", 2)),
        ({"_b.md": b"a\n{% if x %}"}, ("_b.md", 2)),
        ({"_b.md": b"a\n\xff"}, ("_b.md", 2)),
        ({"_b.md": b'{% include "_c.md" %}', "_c.md": b'x\n{% include "_b.md" %}'}, ("_c.md", 2)),
    ],
)
def test_a_partial_that_cannot_be_used_is_the_only_finding(
    partial: dict[str, bytes], place: tuple[str, int]
) -> None:
    files = {"a.prompt": b'Hello\n{% include "_b.md" %}', **partial}
    assert [(f.path, f.line, f.code) for f in lint("a.prompt", files, MODELS)] == [(*place, "broken-file")]


def test_the_front_matter_of_a_partial_is_told_to_be_unread() -> None:
    files = {"a.md": b'{% include "_b.md" %}', "_b.md": b"---\ndescription: x\n---\nHello"}
    assert [(f.path, f.line, f.code) for f in lint("a.md", files, MODELS)] == [
        ("_b.md", 1, "front-matter-of-partial")
    ]


def test_more_partials_than_a_prompt_may_have_are_found() -> None:
    tags = "".join(f'{{% include "_{n}.md" %}}' for n in range(65))
    files = {"a.md": tags.encode(), **{f"_{n}.md": b"x" for n in range(65)}}
    (finding,) = lint("a.md", files, MODELS)
    assert (finding.code, "more than 64" in finding.message) == ("broken-file", True)


def test_findings_come_by_line_and_never_quote_what_the_file_says() -> None:
    text = with_front(
        f"description: {SECRET}",
        f"model: openai/{SECRET}",
        f"input: {{schema: {{a: string}}, default: {{a: [{SECRET}]}}}}",
        f"output: {{format: json, x: {SECRET}}}",
        body=f"{SECRET} {{{{ '{SECRET}' }}}}\nuser:\n{SECRET}",
    )
    lines = [finding.line for finding in findings(text)]
    assert len(lines) >= 4
    assert lines == sorted(lines, key=lambda line: line or 0)
    assert not [finding for finding in findings(text) if SECRET in str(finding)]


_PIECES = [
    *("---\n", "model: openai/gpt-4o\n", "config: {topP: 1}\n", "input: {schema: {a: string}}\n", "x: 1\n"),
    *("input: {schema: {$ref: '#'}, default: {a: 1}}\n", "system:\n", "User:\n", "{{ a.b }}", "{% if a %}"),
    *(
        "{% endif %}",
        "{% for a in b %}\n",
        "{% endfor %}",
        "{% raw %}",
        "{% endraw %}",
        "{# ",
        " #}",
        "Hello\n",
    ),
]


@modest
@given(st.lists(st.sampled_from(_PIECES), max_size=14).map("".join) | st.text(max_size=60))
def test_whatever_parses_can_be_linted_and_whatever_does_not_is_an_error(text: str) -> None:
    told = findings(text)
    parses = False
    with suppress(PromptSyntaxError):
        parse_prompt("a.prompt", "v1", text.encode())
        parses = True
    assert ("broken-file" in {finding.code for finding in told}) is not parses
    lines = text.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
    assert all(finding.line is None or 1 <= finding.line <= lines for finding in told)
