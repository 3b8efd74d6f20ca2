"""JSON from a model: asked for, read, checked, and once asked for again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic_core import from_json

from llm_gateway.api.calls import Output
from llm_gateway.calls.completer import Answer, Completer
from llm_gateway.calls.tally import Tally
from llm_gateway.deadline import Deadline
from llm_gateway.errors import InvalidParameter
from llm_gateway.json_schema.schema import InvalidSchema, JsonSchema
from llm_gateway.json_schema.value_bounds import TooManyValues, check_text, is_small
from llm_gateway.json_schema.values import Json
from llm_gateway.models.completion import Completion
from llm_gateway.models.errors import (
    AnswerNotJson,
    AnswerTruncated,
    AnswerViolatesSchema,
    ProviderError,
    ProviderTimeout,
)
from llm_gateway.models.messages import Message
from llm_gateway.models.routing import Route
from llm_gateway.prompts.prompt import Prompt
from llm_gateway.validation import whole_escapes
from llm_gateway.workers import INLINE, Workers

_FENCE = "```"
_LIGHT_CHARS = 4_096  # of an answer that is read and checked at once
_LIGHT_VALUES = 300  # of a schema that is read at once


@dataclass(frozen=True, slots=True)
class OutputContract:
    """What an answer has to be.

    Attributes:
        schema: What its JSON has to fit; None takes any JSON.
        repair: True if the model may be asked once more, told what was wrong.
    """

    schema: JsonSchema | None
    repair: bool

    def parsed(self, completion: Completion) -> Json:
        """The answer as a value.

        Raises:
            AnswerTruncated, AnswerNotJson, AnswerViolatesSchema: Never quoting the answer.
        """
        try:
            check_text(completion.text.encode())
        except TooManyValues as error:
            raise AnswerViolatesSchema(f"The answer {error}.", details={"problems": []}) from None
        try:
            value: Json = from_json(whole_escapes(_unfenced(completion.text)), allow_inf_nan=False)
        except ValueError:
            if completion.finish_reason == "length":
                raise AnswerTruncated(
                    "The JSON ran into its token limit; allow more with 'parameters.max_tokens'."
                ) from None
            raise AnswerNotJson("The model was asked for JSON and answered something else.") from None
        violations = self.schema.violations(value) if self.schema else ()
        if violations:
            problems = [
                (".".join(violation.path) or "the answer", violation.rule) for violation in violations
            ]
            listed = "; ".join(f"{place} {rule}" for place, rule in problems)
            raise AnswerViolatesSchema(
                f"The answer does not fit the output schema: {listed}.",
                details={"problems": [{"path": place, "problem": rule} for place, rule in problems]},
            )
        return value

    def is_light(self, text: str) -> bool:
        """True if such an answer is read and checked in a few milliseconds."""
        return len(text) <= _LIGHT_CHARS and (self.schema is None or self.schema.light)


def quickly_read(requested: Output) -> bool:
    """True if a request's schema is read in a few milliseconds: it is small, and has no patterns."""
    document = requested.json_schema
    if document is None:
        return True
    return is_small(document, _LIGHT_VALUES, _LIGHT_CHARS) and '"pattern' not in json.dumps(document)


def output_contract(requested: Output, prompt: Prompt) -> OutputContract | None:
    """What the request asks for, else what the author does; None if any text will do.

    Raises:
        InvalidParameter: The request's schema is none.
    """
    schema = prompt.output_schema
    if requested.json_schema is not None:
        schema = _requested_schema(requested.json_schema)
    authored = prompt.front.options.output_format
    wanted = requested.format or ("json" if requested.json_schema is not None else authored)
    if wanted != "json":
        return None
    return OutputContract(schema, prompt.front.repair if requested.repair is None else requested.repair)


def _requested_schema(document: Mapping[str, Json]) -> JsonSchema:
    try:
        return JsonSchema(document)
    except InvalidSchema as error:
        place = ".".join(["output.schema", *error.path])[:200]
        raise InvalidParameter(f"'output.schema' {error}; see '{place}'.", param="output.schema") from error


async def complete_json(
    completer: Completer,
    routes: Sequence[Route],
    messages: Sequence[Message],
    deadline: Deadline,
    contract: OutputContract,
    tally: Tally,
    workers: Workers = INLINE,
    owner: str = "",
) -> tuple[Answer, Json]:
    """An answer that keeps the contract, and its value.

    Raises:
        ProviderError: As Completer.complete, or the answer and its repair are of no use; with everything
            that was billed.
    """

    async def parsed(answer: Answer) -> Json:
        def work() -> Json:
            return contract.parsed(answer.completion)

        first = work if contract.is_light(answer.completion.text) else None
        return await workers.run(work, deadline, owner=owner, first=first, paid=True)

    answer = await completer.complete(routes, messages, deadline, tally)
    try:
        return answer, await parsed(answer)
    except ProviderError as problem:
        if not contract.repair or isinstance(problem, AnswerTruncated | ProviderTimeout):
            raise problem.after(answer.attempts, answer.spent) from None
        asked = [*messages, *_request_for_repair(answer.completion, problem)]
    repaired = await completer.complete([answer.route], asked, deadline, tally)
    try:
        return repaired, await parsed(repaired)
    except ProviderError as problem:
        raise problem.after(repaired.attempts, repaired.spent) from None


def _request_for_repair(completion: Completion, problem: ProviderError) -> Sequence[Message]:
    return (
        Message("assistant", completion.text),
        Message("user", f"{problem.message} Answer again, with nothing but the corrected JSON."),
    )


def _unfenced(text: str) -> str:
    """The JSON inside a Markdown fence, in which models without a JSON mode like to wrap it."""
    stripped = text.strip()
    if stripped.startswith(_FENCE) and stripped.endswith(_FENCE) and "\n" in stripped:
        return stripped.partition("\n")[2].removesuffix(_FENCE)
    return stripped
