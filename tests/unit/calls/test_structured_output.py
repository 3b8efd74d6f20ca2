"""JSON from a model: read, checked, asked for once more; on fakes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llm_gateway.api.calls import Output
from llm_gateway.calls.completer import Answer, Completer, RetryPolicy
from llm_gateway.calls.structured_output import OutputContract, complete_json, output_contract
from llm_gateway.calls.tally import Retry, Tally
from llm_gateway.deadline import Deadline
from llm_gateway.errors import InvalidParameter
from llm_gateway.json_schema.schema import JsonSchema
from llm_gateway.json_schema.values import Json
from llm_gateway.models.catalogue import ModelCatalogue
from llm_gateway.models.completion import Completion, TokenUsage
from llm_gateway.models.errors import (
    AnswerNotJson,
    AnswerTruncated,
    AnswerViolatesSchema,
    ProviderError,
    ProviderUnavailable,
)
from llm_gateway.models.messages import Message
from llm_gateway.models.options import ModelOptions
from llm_gateway.models.routing import Route
from llm_gateway.prompts.prompt import parse_prompt
from llm_gateway.usage.pricing import Spending
from tests.fakes import ScriptedProvider

MODELS = ModelCatalogue.packaged()
ROUTES = [Route(MODELS.find("openai", name), ModelOptions()) for name in ("gpt-4o", "gpt-4o-mini")]
MESSAGES = [Message("user", "Which queue?")]
SCHEMA = JsonSchema({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})
SECRET = "s3cr3t"


def said(text: str, reason: str = "stop") -> Completion:
    return Completion(text, reason, TokenUsage(10, 5, 0, 0), "m")  # type: ignore[arg-type]


def ask(contract: OutputContract, *script: Completion | Exception) -> tuple[Answer, Json, ScriptedProvider]:
    provider = ScriptedProvider(*script)
    completer = Completer({"openai": provider}, RetryPolicy(limit=0))
    work = complete_json(
        completer, ROUTES, MESSAGES, Deadline.after(60), contract, Tally(list[Retry]().append)
    )
    return (*asyncio.run(work), provider)


STRICT, LENIENT = OutputContract(SCHEMA, repair=True), OutputContract(SCHEMA, repair=False)
ANY_JSON = OutputContract(None, repair=False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"n": 1}', {"n": 1}),
        (' {"n": 1}\n', {"n": 1}),
        ('```json\n{"n": 1}\n```', {"n": 1}),
        ('```\n{"n": 1}\n```\n', {"n": 1}),
    ],
)
def test_an_answer_that_fits_is_given_as_a_value(text: str, value: Json) -> None:
    answer, parsed, _ = ask(LENIENT, said(text))
    assert (answer.completion.text, parsed) == (text, value)


@pytest.mark.parametrize("text", ["[1, 2]", "null", "3", '"x"'])
def test_without_a_schema_any_json_will_do(text: str) -> None:
    ask(ANY_JSON, said(text))


@pytest.mark.parametrize(
    ("completion", "error"),
    [
        (said(f"I would say {SECRET}"), AnswerNotJson),
        (said("NaN"), AnswerNotJson),
        (said("```"), AnswerNotJson),
        (said("[" * 10_000), AnswerNotJson),
        (said(f'{{"n": "{SECRET}', "length"), AnswerTruncated),
        (said(f'{{"n": "{SECRET}"}}'), AnswerViolatesSchema),
        (said("[]"), AnswerViolatesSchema),
        (said("{}"), AnswerViolatesSchema),
    ],
)
def test_an_answer_that_does_not_fit_is_an_error_that_was_paid_for_and_quotes_nothing(
    completion: Completion, error: type[ProviderError]
) -> None:
    with pytest.raises(error) as caught:
        ask(LENIENT, completion)
    assert caught.value.spent == (Spending(ROUTES[0].model, TokenUsage(10, 5, 0, 0)),)
    assert caught.value.attempts == 1
    assert SECRET not in repr(caught.value.to_wire("r"))


def test_a_violation_names_the_place_and_the_rule() -> None:
    with pytest.raises(AnswerViolatesSchema) as caught:
        ask(LENIENT, said('{"n": "x"}'))
    assert caught.value.details["problems"] == [{"path": "n", "problem": "must be of type integer"}]


def test_a_repair_tells_the_same_model_what_was_wrong_and_both_answers_are_paid_for() -> None:
    answer, parsed, provider = ask(STRICT, said('{"n": "x"}'), said('{"n": 2}'))
    assert parsed == {"n": 2}
    assert (answer.attempts, len(answer.spent)) == (2, 2)
    first, second = provider.asked
    assert (first[0].name, second[0].name) == ("gpt-4o", "gpt-4o")
    *before, wrong, request = second[1]
    assert before == MESSAGES
    assert wrong == Message("assistant", '{"n": "x"}')
    assert request.role == "user"
    assert "n must be of type integer" in request.content


def test_there_is_one_repair_and_no_second() -> None:
    with pytest.raises(AnswerViolatesSchema) as caught:
        ask(STRICT, said("{}"), said("{}"), said('{"n": 1}'))
    assert (caught.value.attempts, len(caught.value.spent)) == (2, 2)


def test_a_repair_that_fails_is_told_with_everything_that_was_paid() -> None:
    with pytest.raises(ProviderUnavailable) as caught:
        ask(STRICT, said("{}"), ProviderUnavailable("down"))
    assert (caught.value.attempts, len(caught.value.spent)) == (2, 1)
    assert caught.value.details["attempts"] == 2


def test_an_answer_that_was_cut_off_is_not_repaired() -> None:
    with pytest.raises(AnswerTruncated):
        ask(STRICT, said('{"n": ', "length"), said('{"n": 1}'))


def prompt(output: str) -> Any:
    return parse_prompt("a.md", "v1", f"---\n{output}\n---\nHi".encode())


@pytest.mark.parametrize(
    ("authored", "requested", "wanted"),
    [
        ("description: x", {}, None),
        ("description: x", {"format": "json"}, (None, False)),
        ("description: x", {"schema": {"type": "array"}}, ({"type": "array"}, False)),
        ("output: {format: json}", {}, (None, False)),
        ("output: {format: json}", {"format": "text"}, None),
        ("output: {format: json}\ngateway.repair: true", {}, (None, True)),
        ("output: {format: json}\ngateway.repair: true", {"repair": False}, (None, False)),
        ("output: {schema: {type: array}}", {}, ({"type": "array"}, False)),
        ("output: {schema: {type: array}}", {"repair": True}, ({"type": "array"}, True)),
        ("output: {schema: {type: array}}", {"schema": {"type": "object"}}, ({"type": "object"}, False)),
        ("output: {schema: {type: array}, format: text}", {}, None),
        ("output: {schema: {type: array}, format: text}", {"format": "json"}, (None, False)),
    ],
)
def test_the_request_decides_before_the_author(authored: str, requested: Any, wanted: Any) -> None:
    contract = output_contract(Output.model_validate(requested), prompt(authored))
    got = contract and (contract.schema.document if contract.schema else None, contract.repair)
    assert got == wanted


def test_a_schema_in_a_request_that_is_none_is_the_callers_mistake() -> None:
    bad = Output.model_validate({"schema": {"properties": {"a": {"type": "nope"}}}})
    with pytest.raises(InvalidParameter, match=r"output\.schema\.properties\.a\.type") as caught:
        output_contract(bad, prompt("description: x"))
    assert caught.value.param == "output.schema"
