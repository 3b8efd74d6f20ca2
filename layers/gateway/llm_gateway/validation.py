"""From what a caller sent to a checked model, and pydantic's findings in the gateway's own words.

Answers name fields and rules, never values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

import jiter
from pydantic import BaseModel, ValidationError

from llm_gateway.errors import InvalidParameter, InvalidRequest, MalformedJson, RequestError, UnknownField
from llm_gateway.json_schema.value_bounds import MAX_VALUES, TooManyValues, check_text
from llm_gateway.json_schema.values import Json
from llm_gateway.suggestions import did_you_mean, written_as

Model = TypeVar("Model", bound=BaseModel)

_ESCAPE = re.compile(
    r"\\u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|(?P<half>\\u[dD][89a-fA-F][\da-fA-F]{2})|\\."
)  # a pair, a half, any other escape

MAX_PROBLEMS = 20
"""Most findings that an error lists; a body may hold a hundred thousand, and an answer has 6 MB at most."""

# Pydantic's error types that mean "the right kind, the wrong value", and what to tell about them.
_RULES = {
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "string_too_long": "must not be longer than {max_length}",
    "too_long": "must not be longer than {max_length}",
    "string_too_short": "must not be shorter than {min_length}",
    "too_short": "must not be shorter than {min_length}",
    "too_many_bytes": "must not be longer than {max_bytes} bytes as JSON",
    "string_pattern_mismatch": "holds a character that is not allowed there",
    "string_unicode": "holds half a character (U+D800 to U+DFFF)",
    "literal_error": "must be {expected}",
    "finite_number": "must be a finite number",
    "not_json": "holds a number or a text that JSON cannot hold: not finite, or half a character",
    "too_many_values": "{problem}",
    "recursion_loop": "is nested too deeply",
}
_KINDS = {
    "string": "text",
    "float": "number",
    "int": "whole number",
    "bool": "true or false",
    "dict": "JSON object",
    "model": "JSON object",
    "list": "list",
    "datetime": "ISO 8601 time",
    "timezone": "ISO 8601 time with a zone",
}


def decode_json(body: bytes | str) -> Mapping[str, Any]:
    """One JSON object, in which no name is there twice: readers differ in which of the two they take.

    Raises:
        MalformedJson: Saying where reading stopped; the body itself is not repeated.
        InvalidRequest: It holds more values than the gateway reads.
    """
    try:
        data = body.encode(errors="surrogatepass") if isinstance(body, str) else body
        check_text(data)
    except TooManyValues as error:
        raise InvalidRequest(f"The body {error}; send less.", details={"maximum": MAX_VALUES}) from None
    try:
        value = jiter.from_json(data, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        what, _, where = str(error).rpartition(" at ")
        problem = "names a field twice" if what.startswith("Detected duplicate key") else "is not valid JSON"
        raise MalformedJson(f"The body {problem} (stopped at {where}).") from error
    if not isinstance(value, dict):
        raise MalformedJson("The body must be one JSON object.")
    return value


def has_half_character(text: str) -> bool:
    """True if a text holds half of a surrogate pair, which UTF-8 cannot hold and so no store and no wire."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def whole_characters(text: str) -> str:
    """The text with each pair of halves joined, and U+FFFD in place of each half that is left alone."""
    if not has_half_character(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def whole_escapes(text: str) -> str:
    """JSON in which the escape of a half character that is left alone is that of U+FFFD."""
    return _ESCAPE.sub(lambda found: "\\ufffd" if found["half"] else found[0], text)


def validated(model: type[Model], value: object) -> Model:
    """`value` as `model`.

    Raises:
        InvalidRequest: Naming the first field at fault, and all of them in the details.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise explained(error.errors(include_url=False, include_input=False), model) from None


def explained(problems: Sequence[Any], model: type[BaseModel] | None = None) -> RequestError:
    """The gateway's error for pydantic's findings.

    Args:
        problems: What pydantic found.
        model: What was to be made of the request; its fields are suggested for those there are not.
    """
    found = [(_field(problem["loc"]), problem) for problem in problems[:MAX_PROBLEMS]]
    field, first = found[0]
    listed: list[Json] = [{"param": name, "problem": _rule(problem)} for name, problem in found]
    details: dict[str, Json] = {"problems": listed}
    if first["type"] == "extra_forbidden":
        message = f"There is no field '{field}'; remove it or mend its name.{_meant(first['loc'], model)}"
        return UnknownField(message, param=field, details=details)
    kind = InvalidParameter if first["type"] in _RULES else InvalidRequest
    hint = _misspelt(first["loc"], problems) if first["type"] == "missing" else ""
    return kind(f"'{field}' {_rule(first)}.{hint}", param=field, details=details)


def _field(location: Sequence[int | str]) -> str:
    parts = [str(part) for part in location if part not in ("body", "query", "path")]
    return ".".join(parts)[:200] or "body"


def _meant(location: Sequence[int | str], model: type[BaseModel] | None) -> str:
    """The field beside the one at `location` that is most like it, as a sentence to append."""
    *steps, name = [part for part in location if part not in ("body", "query", "path")]
    for step in steps:
        annotation = (
            model.model_fields[str(step)].annotation if model and str(step) in model.model_fields else None
        )
        inner = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        model = next((kind for kind in inner if issubclass(kind, BaseModel)), None)
    return did_you_mean(str(name), model.model_fields) if model else ""


def _misspelt(missing: Sequence[int | str], problems: Sequence[Any]) -> str:
    """The unknown field beside a missing one that is most like it, as a sentence to append."""
    beside = [
        str(problem["loc"][-1])
        for problem in problems[:MAX_PROBLEMS]
        if problem["type"] == "extra_forbidden" and problem["loc"][:-1] == missing[:-1]
    ]
    return written_as(str(missing[-1]), beside)


def _rule(problem: Mapping[str, Any]) -> str:
    kind: str = problem["type"]
    if kind in _RULES:
        return _RULES[kind].format(**problem.get("ctx", {}))
    if kind == "extra_forbidden":
        return "is not a field"
    if kind == "missing":
        return "is missing"
    return f"must be a valid {_KINDS.get(kind.partition('_')[0], 'value')}"
