"""What a template says and no table has is said to its author at upload, with its name and line."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import pytest

from llm_gateway.models.catalogue import ModelCatalogue
from llm_gateway.prompts.files.front_matter import PromptSyntaxError
from llm_gateway.prompts.lint.lint import lint
from llm_gateway.prompts.rendering.conditions import TESTS
from llm_gateway.prompts.rendering.filters import FILTERS
from llm_gateway.prompts.rendering.methods import OF_LISTS, OF_LOOPS, OF_MAPPINGS, OF_NUMBERS, OF_TEXTS
from tests.unit.prompts.parsed_prompts import parsed, rendered


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{{ xs.append(1) }}", "there is no method 'append': a template cannot change a value"),
        ("{% set y = d.update({'a': 1}) %}", "there is no method 'update'"),
        ("{{ a | choice }}", "there is no filter 'choice'"),
        ("{{ a | uper }}", "there is no filter 'uper'; did you mean 'upper'?"),
        ("{% if a %}{{ a | nope }}{% endif %}", "there is no filter 'nope'"),
        ("{{ a | map('nope') | list }}", "there is no filter 'nope'"),
        ("{{ a if a is nope }}", "there is no test 'nope'"),
        ("{{ a | selectattr('b', 'nope') | list }}", "there is no test 'nope'"),
        ("{{ now() }}", "there is no function 'now'"),
        ("{{ rang(3) }}", "there is no function 'rang'; did you mean 'range'?"),
        ("{{ caller() }}", "there is no function 'caller'"),
        ("{{ loop([]) }}", "there is no function 'loop'"),
        ("{% block a %}{{ super() }}{% endblock %}", "there is no function 'super'"),
        ("{{ self.b() }}", "there is no block 'b'"),
        ("{{ t.strftime('%Y') }}", "there is no method 'strftime'"),
        ("{{ t.encode() }}", "there is no method 'encode'"),
        ("{{ 'a'.items() }}", "there is no method 'items'"),
        ("{{ [1].keys() }}", "there is no method 'keys'"),
        ("{% for a in b %}{{ loop.parent }}{% endfor %}", "there is no field 'loop.parent'"),
        ("{{ order['f']() }}", "a field of a variable cannot be called"),
        ("{{ m()() }}{% macro m() %}{% endmacro %}", "only macros, functions and methods can be called"),
        ("{{ t.upper(1) }}", "the method 'upper' does not take these arguments"),
        ("{{ t | join(1, 2, 3) }}", "the filter 'join' does not take these arguments"),
        ("{{ a is divisibleby }}", "the test 'divisibleby' does not take these arguments"),
        ("{{ range() }}", "the function 'range' does not take these arguments"),
        ("{% autoescape true %}{% endautoescape %}", "'autoescape' is not available"),
        ("{% block a required %}{% endblock %}", "'required' is not available"),
        ("{{ 1e999 }}", "a number is too large"),
        ("{{ dict(a=1, a=2) }}", "the argument 'a' is named twice"),
        ("{{ b | default(boolean=1, boolean=2) }}", "the argument 'boolean' is named twice"),
        ("{% macro m(a, a) %}{% endmacro %}", "the argument 'a' is named twice"),
        ("{% macro m() %}{% endmacro %}{% call(a, a) m() %}{% endcall %}", "the argument 'a' is named twice"),
        ("{% do xs.append(1) %}", "there is no tag 'do' here"),
        ("{% endif %}", "there is no tag 'endif' here"),
    ],
)
def test_what_is_in_no_table_breaks_the_file_at_upload(body: str, message: str) -> None:
    with pytest.raises(PromptSyntaxError) as broken:
        parsed(f"first line\n{body}")
    assert broken.value.line == 2
    assert broken.value.reason.startswith(message)


def test_words_are_suggested_for_the_first_unknown_one_alone() -> None:
    """Each is compared with all that there are, which a file may have thousands of."""
    known = "".join(f"{{% set customer_name_{n} = 1 %}}" for n in range(1_500))
    calls: list[int] = []

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name in ("nearest", "get_close_matches"):
            calls.append(1)

    sys.setprofile(count)
    try:
        with pytest.raises(PromptSyntaxError, match="did you mean 'customer_name_"):
            parsed(known + "".join(f"{{{{ customer_nome_{n}() }}}}" for n in range(1_500)))
    finally:
        sys.setprofile(None)
    assert len(calls) == 1


def test_lint_names_the_word_and_its_line() -> None:
    (finding,) = lint(
        "a.prompt", {"a.prompt": b"---\nname: a\n---\ntext\n{{ xs.append(1) }}"}, ModelCatalogue.packaged()
    )
    assert (finding.line, finding.severity, finding.code) == (5, "error", "broken-file")
    assert "'append'" in finding.message


def test_a_message_shows_no_more_of_a_name_than_fits_in_a_line() -> None:
    with pytest.raises(PromptSyntaxError) as broken:
        parsed("{{ a | " + "x" * 10_000 + " }}")
    assert len(broken.value.reason) < 200


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("{% macro m(a) %}<{{ a }}>{% endmacro %}{% set fs = {'f': m} %}{{ fs['f'](1) }}", "<1>"),
        ("{% macro m(f) %}{{ f() }}{% endmacro %}{% macro n() %}n{% endmacro %}{{ m(n) }}", "n"),
        ("{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}c{% endcall %}", "c"),
        ("{% for a in [1] %}{% set o = loop %}{{ o.cycle('x') }}{{ o.changed(1) }}{% endfor %}", "xTrue"),
        ("{% block b %}b{% endblock %}{{ self.b() }}", "bb"),
        ("{{ o.items }} {{ o.items() }} {{ o.get('items') }}", "5 [('items', 5)] 5"),
        ("{{ o['items'] }} {{ o|attr('items') }} {{ [o]|map(attribute='items')|list }}", "5 5 [5]"),
        ("{{ o.upper is defined }} {{ 'a'.upper is defined }} {{ 'a'.upper() }}", "False False A"),
        (
            "{% for g in [o]|groupby('items') %}{{ g.grouper }}{{ g.list|length }}{{ g }}{% endfor %}",
            "51(5, [{'items': 5}])",
        ),
        ("{{ range(3) }} {{ range(3)|tojson }} {{ range(3) + [9] }}", "[0, 1, 2] [0, 1, 2] [0, 1, 2, 9]"),
        ("{{ '{} {x.items} {0[0]}'.format([7], x=o) }}", "[7] 5 7"),
        ("{{ '%(items)s' % o }} {{ '%s'|format(o) }}", "5 {'items': 5}"),
        ("{{ ('<b>'|safe ~ '<i>')|e }} {{ '<'|tojson|e }}", "&lt;b&gt;&lt;i&gt; &#34;\\u003c&#34;"),
    ],
)
def test_what_is_in_a_table_works(body: str, text: str) -> None:
    assert rendered(body, {"o": {"items": 5}})[0].content == text


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ("Filters", FILTERS),
        ("Tests", TESTS),
        ("Methods of a text", OF_TEXTS),
        (
            "Methods of a mapping, a list, a number, `loop`",
            {**OF_MAPPINGS, **OF_LISTS, **OF_NUMBERS, **OF_LOOPS},
        ),
    ],
)
def test_the_documentation_lists_the_tables(row: str, names: Mapping[str, object]) -> None:
    page = (Path(__file__).parents[4] / "docs" / "prompt-format.md").read_text()
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {row} |"))
    listed = set(re.findall(r"`([^`]+)`", line.removeprefix(f"| {row} |")))
    assert set(names) <= listed
    assert listed - set(names) <= {"select"}
