"""Which variables a prompt requires, found without running it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.errors import MissingVariables
from llm_gateway.json_schema.values import Json
from tests.unit.prompts.parsed_prompts import modest, parsed, rendered


@pytest.mark.parametrize(
    ("template", "required"),
    [
        ("no variables", ""),
        ("{{ b }} {{ a }} {{ b }}", "b a"),
        ("{{ user.name }}", "user.name"),
        ("{{ user['name'] }}", "user.name"),
        ("{{ user }} {{ user.name }} {{ user.address.city }}", "user.name user.address.city"),
        ("{{ items[0].name }} {{ table[key] }}", "items table key"),
        ("{{ user['first.name'] }}", "user"),
        ("{{ user.name.upper() }} {{ order.items() }}", "user.name order"),
        ("{{ a ~ b + c|join(d) }} {{ e if e else f }}", "a b c d e f"),
        ("{{ [a, {'x': b}] }} {{ c is divisibleby(d) }}", "a b c d"),
        ("{% raw %}{{ a }}{% endraw %}{# {{ b }} #}", ""),
        ("{{ range(3)|list }} {{ dict(a=1) }}", ""),
        ("{% block b %}x{% endblock %}{{ self.b() }}", ""),
    ],
)
def test_what_the_template_uses_is_required(template: str, required: str) -> None:
    assert list(parsed(template).required_variables) == required.split()


@pytest.mark.parametrize(
    ("template", "required"),
    [
        ("{% for x in xs %}{{ x.y }}{{ loop.index }}{% endfor %}", "xs"),
        ("{% for k, v in m.items() %}{{ k }}{{ v }}{% endfor %}{{ v }}", "m v"),
        ("{% for x in xs if x.ok %}{% else %}{{ x }}{% endfor %}", "xs x"),
        ("{% set a = b %}{{ a }}", "b"),
        ("{{ a }}{% set a = 1 %}", "a"),
        ("{% set a %}{{ b }}{% endset %}{{ a }}", "b"),
        ("{% if c %}{% set a = 1 %}{% endif %}{{ a }}", "c"),
        ("{% set ns = namespace(n=a) %}{% set ns.n = b %}{{ ns.n }}", "a b"),
        ("{% with a = b %}{{ a }}{% endwith %}{{ a }}", "b a"),
        ("{% macro m(a, b=c) %}{{ a }}{{ b }}{{ d }}{% endmacro %}{{ m(e) }}", "c d e"),
        ("{% macro m() %}{{ caller(1) }}{% endmacro %}{% call(a) m() %}{{ a }}{{ b }}{% endcall %}", "b"),
        ("{% filter indent(width=a) %}{{ b }}{% endfilter %}", "b a"),
    ],
)
def test_what_the_template_sets_itself_is_not_required(template: str, required: str) -> None:
    assert list(parsed(template).required_variables) == required.split()


@pytest.mark.parametrize(
    ("template", "required"),
    [
        ("{{ a|default('x') }} {{ b|d(c) }}", "c"),
        ("{{ user.name|default('x') }}", "user"),
        ("{{ a|trim|default('x') }}", "a"),
        ("{% if a is defined %}{{ a }}{{ a.b }}{% endif %}", ""),
        ("{% if a is defined %}{% else %}{{ a }}{% endif %}", "a"),
        ("{% if a is undefined %}{% else %}{{ a }}{% endif %}", ""),
        ("{% if a is not defined %}{% elif a %}{{ a }}{% endif %}", ""),
        ("{% if a is defined %}{% elif b is undefined %}{% else %}{{ b }}{% endif %}", ""),
        ("{% if a is defined and a > 1 and b %}{{ a }}{% endif %}", "b"),
        ("{% if a is undefined or a == '' or b %}{% endif %}", "b"),
        ("{% if a is defined or b is defined %}{{ a }}{% endif %}", "a"),
        ("{% if not (a is undefined or b is undefined) %}{{ a }}{{ b }}{% endif %}", ""),
        ("{% if user.name is defined %}{{ user.name }}{% endif %}", "user"),
        ("{{ a if a is defined else 'x' }} {{ 'x' if b is undefined else b }}", ""),
        ("{% if a is defined %}{% endif %}{{ a }}", "a"),
        ("{% if a %}{{ a }}{% endif %}", "a"),
    ],
)
def test_a_default_or_a_guard_makes_a_variable_optional(template: str, required: str) -> None:
    assert list(parsed(template).required_variables) == required.split()


_FRAGMENTS = [
    "{{ a }}",
    "{{ b|upper }}",
    "{{ u.n }}",
    "{{ u['m'] }}",
    "{{ w.x.y }}",
    "{{ c|default('-') }}",
    "{{ d.e|default('-') }}",
    "{% if f is defined and f == 'x' %}{{ f }}{% endif %}",
    "{% if g is undefined or g %}{% else %}{{ g }}{% endif %}",
    "{% if a %}{{ h }}{% else %}{{ i }}{% endif %}",
    "{% set j = k %}{{ j }}",
    "{% for x in l %}{{ x }}{{ loop.index }}{% endfor %}",
    "{% with o = p %}{{ o }}{{ q }}{% endwith %}",
    "{% macro m(r) %}{{ r }}{{ s }}{% endmacro %}{{ m(t) }}",
    "\nuser:\n",
    " text ",
]


def _strings_for(names: tuple[str, ...]) -> dict[str, Json]:
    """Every required name as a text, dotted ones inside mappings."""
    variables: dict[str, Json] = {}
    for name in names:
        *parents, last = name.split(".")
        level = variables
        for parent in parents:
            below = level.setdefault(parent, {})
            assert isinstance(below, dict)
            level = below
        level[last] = "x"
    return variables


@modest
@given(st.lists(st.sampled_from(_FRAGMENTS), max_size=8))
def test_the_required_variables_are_enough(fragments: list[str]) -> None:
    text = "text " + "".join(fragments)
    assert rendered(text, _strings_for(parsed(text).required_variables))


@modest
@given(st.lists(st.sampled_from(_FRAGMENTS), min_size=1, max_size=8), st.data())
def test_leaving_out_any_required_variables_names_exactly_those(
    fragments: list[str], data: st.DataObject
) -> None:
    text = "{{ z }}" + "".join(fragments)
    required = parsed(text).required_variables
    missing = data.draw(st.sets(st.sampled_from(required), min_size=1))
    with pytest.raises(MissingVariables) as refusal:
        rendered(text, _strings_for(tuple(name for name in required if name not in missing)))
    assert refusal.value.details == {"missing": [name for name in required if name in missing]}
