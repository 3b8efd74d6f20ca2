"""The most that a call of a prompt can take."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from llm_gateway.models.catalogue import ModelPrice, ModelSpec
from llm_gateway.models.tokens import estimated_tokens, first_tokens
from llm_gateway.prompts.lint.findings import Subject
from llm_gateway.prompts.lint.worst_case import WorstCase, worst_case
from llm_gateway.usage.pricing import cost_usd
from tests.unit.prompts.parsed_prompts import modest

MODEL = ModelSpec(
    provider="openai",
    name="model",
    context_tokens=10_000,
    max_output_tokens=500,
    max_tokens_field="max_tokens",
    price=ModelPrice(input=Decimal(1), output=Decimal(2)),
)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "text": {"type": "string", "maxLength": 30},
        "free": {"type": "string"},
        "size": {"enum": ["s", "extra large"]},
        "count": {"type": ["integer", "null"]},
        "flag": {"type": "boolean"},
        "tags": {"type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 8}},
        "any": {"type": "array", "items": {"type": "string", "maxLength": 8}},
        "orders": {
            "type": "array",
            "maxItems": 2,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"id": {"type": "string", "maxLength": 6}, "days": {"type": "integer"}},
                "required": ["id", "days"],
            },
        },
    },
}


def subject(body: str, front: str = "") -> Subject:
    text = f"---\n{front}\ninput: {{schema: {json.dumps(SCHEMA)}}}\n---\n{body}"
    return Subject.read("a.prompt", {"a.prompt": text.encode()})


def bound(body: str) -> int | None:
    """Most tokens of the input, less what the one message costs."""
    whole = worst_case(subject(body), MODEL).input_tokens
    return None if whole is None else whole - 4


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ("Hello there", 2),
        ("{{ text }}", 30),
        ("{{ text }}{{ text | upper }}", 60),
        ("{{ size }}", 2),
        ("{{ flag }}", 1),
        ("{% if flag %}{{ text }}{% elif size %}Hello{% else %}{{ size }}{% endif %}", 30),
        ("{{ text if flag else size }}", 30),
        ("{{ size | default('one two three') }}", 3),
        ("{{ tags | length }}", 25),
        ("{{ tags | join(', ') }}", 3 * (8 + 1)),
        ("{% for tag in tags %}- {{ tag }}{% endfor %}", 3 * (1 + 8)),
        ("{% for tag in tags | sort %}{{ tag }}{% endfor %}", 24),
        ("{% for order in orders %}{{ order.id }}{% endfor %}", 12),
        ("{% for order in orders if order.days %}{{ order['id'] }}{% else %}None{% endfor %}", 12),
        ("{{ orders[0].id }}", 6),
        ("{% set own = 1 %}Hello", 1),
    ],
)
def test_the_schema_bounds_what_variables_add(body: str, tokens: int) -> None:
    assert bound(body) == tokens


@pytest.mark.parametrize(
    "body",
    [
        "{{ free }}",
        "{{ any | join }}",
        "{% for x in any %}x{% endfor %}",
        "{{ text | replace('a', text) }}",
        "{% set text = free %}{{ text }}",
        "{% for text in any %}{{ text }}{% endfor %}",
        "{{ text * 100 }}",
        "{{ free or text }}",
    ],
)
def test_what_nothing_bounds_is_unknown(body: str) -> None:
    assert bound(body) is None


def test_without_a_bound_the_template_alone_is_priced() -> None:
    found = worst_case(subject("Hello there {{ free }}"), MODEL)
    assert found == WorstCase(template_tokens=6, input_tokens=None, output_tokens=500)
    assert cost_usd(found.usage, MODEL.price) == (Decimal(6) + 2 * Decimal(500)) / 1_000_000


def test_the_prompts_own_maximum_bounds_the_answer_and_each_message_costs_tokens() -> None:
    found = worst_case(subject("system:\nBe kind.\nuser:\n{{ text }}", "config: {maxOutputTokens: 7}"), MODEL)
    alone = worst_case(subject("system:\nBe kind.\n{{ text }}", "config: {maxOutputTokens: 7}"), MODEL)
    assert found.output_tokens == 7
    assert found.input_tokens is not None
    assert alone.input_tokens is not None
    assert found.input_tokens > alone.input_tokens + 4


_BODIES = [
    "({{ text }}) {{ size }}, {{ count }}. {{ flag }}",
    "{% for order in orders %}[{{ loop.index }}/{{ order.id }}/{{ order.days }}]{% endfor %}",
    "{{ tags | join(' and ') }}:{{ tags }}:{{ orders }}",
    "{{ text | tojson }}{{ tags | tojson }}{{ orders | tojson }}",
    "{{ orders | map(attribute='id') | join }}",
]
_INTEGERS = st.integers(-(10**20), 10**20)


def _texts(longest: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), max_size=longest)


_VARIABLES = st.fixed_dictionaries(
    {
        "text": _texts(30),
        "size": st.sampled_from(["s", "extra large"]),
        "count": _INTEGERS | st.none(),
        "flag": st.booleans(),
        "tags": st.lists(_texts(8), max_size=3),
        "orders": st.lists(st.fixed_dictionaries({"id": _texts(6), "days": _INTEGERS}), max_size=2),
    }
)


@modest
@given(st.sampled_from(_BODIES), _VARIABLES)
def test_no_call_takes_more_than_the_worst_case(body: str, variables: dict[str, Any]) -> None:
    prompt = subject(f"x{body}")
    most = worst_case(prompt, MODEL).input_tokens
    (message,) = prompt.prompt.render(variables, 100_000)
    assert most is None or 4 + estimated_tokens(message.content) <= most


def test_the_beginning_of_a_text_has_the_number_of_tokens_asked_for() -> None:
    text = "Internationalisation, they said: twice!"
    assert estimated_tokens(first_tokens(text, 5)) == 5
    assert text.startswith(first_tokens(text, 5))
    assert first_tokens(text, 10_000) == text


def test_a_bound_that_bounds_nothing_is_no_bound() -> None:
    nested = "{type: array, maxItems: 1.0e+300, items: " * 8 + "{type: string, maxLength: 1000}" + "}" * 8
    text = f"---\ninput: {{schema: {{type: object, properties: {{x: {nested}}}}}}}\n---\n{{{{ x }}}}"
    case = worst_case(Subject.read("a.prompt", {"a.prompt": text.encode()}), MODEL)
    assert case.input_tokens is None


class Counted(dict[str, Any]):
    """A schema that counts how often it is looked at."""

    looks = 0

    @override
    def get(self, key: str, default: Any = None) -> Any:
        self.looks += 1
        return super().get(key, default)


def test_a_large_schema_is_measured_once_however_often_its_variable_is_used() -> None:
    fields = "\n".join(f"      f{n}: boolean" for n in range(100))
    text = f"---\ninput:\n  schema:\n    x(object):\n{fields}\n---\n" + "{{ x }}" * 50
    read = Subject.read("a.prompt", {"a.prompt": text.encode()})
    schema: Any = read.prompt.front.input_schema
    counted = Counted(schema["properties"]["x"])
    schema["properties"]["x"] = counted
    assert worst_case(read, MODEL).input_tokens is not None
    assert counted.looks < 50  # several for one measurement, not several for each use
