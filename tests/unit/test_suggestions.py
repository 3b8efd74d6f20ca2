"""What a caller is told who has mistyped a name."""

from __future__ import annotations

import difflib

import pytest

from llm_gateway.api.calls import CallRequest
from llm_gateway.api.prompts import ListQuery
from llm_gateway.errors import InvalidVariables, MissingVariables, UnknownField, UnknownModel, UnknownProvider
from llm_gateway.models.catalogue import ModelCatalogue
from llm_gateway.prompts.prompt import parse_prompt
from llm_gateway.suggestions import nearest
from llm_gateway.validation import validated
from llm_gateway.workers import NotQuick

MODELS = ModelCatalogue.packaged()


@pytest.mark.parametrize(
    ("body", "meant"),
    [
        ({"prompt": "a", "varaibles": {}}, "Did you mean 'variables'?"),
        ({"prompt": "a", "parameters": {"temprature": 1}}, "Did you mean 'temperature'?"),
        ({"prompt": "a", "Prompt": "a"}, "Did you mean 'prompt'?"),
        ({"prompt": "a", "xyzzy": 1}, None),
    ],
)
def test_a_field_there_is_not_is_met_with_the_nearest_beside_it(body: object, meant: str | None) -> None:
    with pytest.raises(UnknownField) as caught:
        validated(CallRequest, body)
    assert (meant or "There is no field") in caught.value.message
    assert ("Did you mean" in caught.value.message) is (meant is not None)


def test_a_query_field_as_well() -> None:
    with pytest.raises(UnknownField, match=r"Did you mean 'directory'\?"):
        validated(ListQuery, {"directry": "a"})


def test_a_dot_in_a_variables_name_is_met_with_how_to_nest_it() -> None:
    prompt = parse_prompt("a.md", "v1", b"{{ user.name }}")
    with pytest.raises(MissingVariables) as caught:
        prompt.render({"user.name": "Ada"}, 100)
    assert 'nest it: {"user": {"name": ...}}.' in caught.value.message
    assert "Ada" not in caught.value.message


def test_a_dotted_name_that_breaks_the_schema_as_well() -> None:
    schema = b"{type: object, additionalProperties: false, properties: {user: {}}}"
    text = b"---\ninput:\n  schema: " + schema + b"\n---\nx"
    with pytest.raises(InvalidVariables, match="nest it"):
        parse_prompt("a.md", "v1", text).render({"user.name": "Ada"}, 100)


@pytest.mark.parametrize("name", [".", "a.", ".a", "a..b", "x" * 200 + ".y", "a\n.b"])
def test_other_dots_are_no_attempt_to_nest(name: str) -> None:
    with pytest.raises(MissingVariables) as caught:
        parse_prompt("a.md", "v1", b"{{ user }}").render({name: 1}, 100)
    assert "nest it" not in caught.value.message


def test_a_mistyped_variable_is_named_beside_the_missing_one() -> None:
    with pytest.raises(MissingVariables, match="Did you mean 'ticket' by 'tickte'"):
        parse_prompt("a.md", "v1", b"{{ ticket }}").render({"tickte": 1}, 100)


def test_models_and_providers_are_suggested_from_what_the_key_may_use() -> None:
    with pytest.raises(UnknownModel) as caught:
        MODELS.find("openai", "gpt-4o-minii", lambda name: name == "openai/gpt-4o")
    assert caught.value.details == {"nearest": ["gpt-4o"]}
    with pytest.raises(UnknownProvider) as refused:
        MODELS.find("opnai", "gpt-4o", lambda _: False)
    assert refused.value.details == {"known": []}


def test_comparing_is_bounded() -> None:
    assert nearest("a" * 10_000, ["a" * 10_000]) == []
    assert nearest("zzz", (f"n{n}" for n in iter(int, 1))) == []


def test_few_names_are_compared_letter_by_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller may send hundreds that have the same letters in another order, each a slow comparison."""
    compared: list[str] = []
    ratio = difflib.SequenceMatcher.ratio

    def counted(matcher: difflib.SequenceMatcher[str]) -> float:
        compared.append("")
        return ratio(matcher)

    monkeypatch.setattr(difflib.SequenceMatcher, "ratio", counted)
    assert nearest("abcdefghij" * 10, ["jihgfedcba" * 10 + str(n) for n in range(200)]) == []
    assert 0 < len(compared) <= 5


def test_what_may_be_meant_by_missing_names_is_never_looked_for_on_the_event_loop() -> None:
    prompt = parse_prompt("a.md", "v1", b"{{ name }}")
    with pytest.raises(NotQuick):
        prompt.render_quickly({"nmae": "Ada"}, 100)
