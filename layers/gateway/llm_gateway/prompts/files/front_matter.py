"""The YAML block on top of a prompt file, with Dotprompt's key names.

Source: the Dotprompt format's front matter reference (google/dotprompt); keys of our own are
dotted (`gateway.timeoutMs`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_gateway.json_schema.values import Json
from llm_gateway.models.errors import ProviderError
from llm_gateway.models.options import (
    MAX_STOP_SEQUENCES,
    TEMPERATURE_RANGE,
    TIMEOUT_RANGE_S,
    TOP_P_RANGE,
    Mock,
    ModelOptions,
    OutputFormat,
)
from llm_gateway.prompts.files.picoschema import SchemaError, to_json_schema
from llm_gateway.prompts.files.yaml_lines import KeyPath, PromptSyntaxError, Section, load_mapping, shown

__all__ = ["FrontMatter", "Mock", "PromptSyntaxError", "parse_front_matter", "split_front_matter"]

KNOWN_KEYS: Mapping[KeyPath, frozenset[str]] = {
    (): frozenset(
        {"name", "description", "model", "config", "input", "output", "metadata"}
        | {"gateway.timeoutMs", "gateway.fallbacks", "gateway.mock", "gateway.repair"}
    ),
    ("input",): frozenset({"schema", "default"}),
    ("output",): frozenset({"format", "schema"}),
    ("config",): frozenset({"temperature", "maxOutputTokens", "topP", "stopSequences"}),
    ("gateway.mock",): frozenset({"answer", "delayMs", "errors"}),
}
_ALIASES = {"max_output_tokens": "maxOutputTokens", "top_p": "topP", "stop_sequences": "stopSequences"}
_MAX_FALLBACKS = 4
_MAX_MOCK_DELAY_MS = 120_000
_MAX_MOCK_ERRORS = 8
_MAX_WARNINGS = 20


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """What a prompt says about itself.

    Attributes:
        model: `provider/name`, or None.
        fallbacks: `provider/name` of the models to try after `model`, in order.
        options: Parameters the author chose; a request's own come first.
        timeout_s: The author's deadline in seconds, or None.
        input_schema: JSON Schema of the variables, or None.
        defaults: Values of variables a caller may leave out.
        output_schema: JSON Schema of the answer, or None; without effect if it is to be text.
        repair: True if the model may be asked once more for an answer that does not fit.
        mock: What test mode answers, or None.
        unknown: Keys nobody reads.
        lines: Line of the file of every key, by path.
    """

    description: str | None = None
    model: str | None = None
    fallbacks: tuple[str, ...] = ()
    options: ModelOptions = field(default_factory=ModelOptions)
    timeout_s: float | None = None
    input_schema: Mapping[str, Json] | None = None
    defaults: Mapping[str, Json] = field(default_factory=dict)
    output_schema: Mapping[str, Json] | None = None
    repair: bool = False
    mock: Mock | None = None
    unknown: tuple[KeyPath, ...] = ()
    lines: Mapping[KeyPath, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd but harmless, as text; a long list is cut short."""
        told = [f"unknown key '{shown('.'.join(path))}' is ignored" for path in self.unknown[:_MAX_WARNINGS]]
        rest = len(self.unknown) - len(told)
        return (*told, f"and {rest} more") if rest else tuple(told)


def split_front_matter(text: str) -> tuple[str | None, str, int]:
    """Front matter, body, and the number of lines before the body.

    Without an opening `---` line, or without one that closes it, the whole text is body.
    """
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        return None, text, 0
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() == "---":
            return "\n".join(lines[1:number]), "\n".join(lines[number + 1 :]), number + 1
    return None, text, 0


def parse_front_matter(text: str) -> FrontMatter:
    """Read the YAML between the `---` lines.

    Raises:
        PromptSyntaxError: It is not YAML, not a mapping, or a known key has an unusable value.
    """
    top = load_mapping(text)
    config, output, mock = _config(top), top.section("output"), top.section("gateway.mock")
    output_schema = _schema(output)
    return FrontMatter(
        description=top.text("description"),
        model=_model(top),
        fallbacks=_fallbacks(top),
        options=ModelOptions(
            temperature=config.number("temperature", *TEMPERATURE_RANGE),
            top_p=config.number("topP", *TOP_P_RANGE),
            max_tokens=_max_tokens(config),
            stop=config.texts(
                "stopSequences", MAX_STOP_SEQUENCES, f"must be 1 to {MAX_STOP_SEQUENCES} non-empty texts"
            ),
            output_format=(output_format := _output_format(output, output_schema)),
            output_schema=output_schema if output_format == "json" else None,
        ),
        timeout_s=_timeout_s(top),
        input_schema=_input_schema(top.section("input")),
        defaults=top.section("input").mapping("default"),
        output_schema=output_schema,
        repair=_repair(top),
        mock=None if top.values.get("gateway.mock") is None else _mock(mock),
        unknown=tuple(_unknown((top, config, top.section("input"), output, mock))),
        lines=config.lines,
    )


def _config(top: Section) -> Section:
    """The model's parameters under their own names, whichever spelling the author chose."""
    given = top.section("config")
    lines = dict(given.lines)
    for alias, name in _ALIASES.items():
        if alias in given.values:
            if name in given.values:
                raise given.fault_at((alias,), f"'config' has both '{alias}' and '{name}'; keep one")
            lines["config", name] = lines["config", alias]
    return Section({_ALIASES.get(key, key): value for key, value in given.values.items()}, lines, given.path)


def _max_tokens(config: Section) -> int | None:
    value = config.values.get("maxOutputTokens")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise config.fault("maxOutputTokens", "must be a whole number from 1 up")
    return value


def _timeout_s(top: Section) -> float | None:
    low, high = TIMEOUT_RANGE_S
    milliseconds = top.number("gateway.timeoutMs", low * 1000, high * 1000)
    return None if milliseconds is None else milliseconds / 1000


def _model(top: Section) -> str | None:
    value = top.values.get("model")
    if value is None or (isinstance(value, str) and _names_a_model(value)):
        return value
    raise top.fault("model", "must look like provider/name, for example openai/gpt-4o-mini")


def _fallbacks(top: Section) -> tuple[str, ...]:
    rule = f"must be a list of 1 to {_MAX_FALLBACKS} models like provider/name"
    models = top.texts("gateway.fallbacks", _MAX_FALLBACKS, rule)
    for n, model in enumerate(models):
        if not _names_a_model(model):
            raise top.fault_at(("gateway.fallbacks", str(n)), f"'gateway.fallbacks' {rule}")
    return models


def _names_a_model(text: str) -> bool:
    return all(text.partition("/")[::2])


def _repair(top: Section) -> bool:
    value = top.values.get("gateway.repair")
    if value is None or isinstance(value, bool):
        return bool(value)
    raise top.fault("gateway.repair", "must be true or false")


def _mock(mock: Section) -> Mock:
    codes = sorted(ProviderError.kinds())
    rule = f"must be a list of 1 to {_MAX_MOCK_ERRORS} of: {', '.join(codes)}"
    errors = mock.texts("errors", _MAX_MOCK_ERRORS, rule)
    for n, code in enumerate(errors):
        if code not in codes:
            raise mock.fault_at(("errors", str(n)), f"'errors' {rule}")
    delay_ms = mock.number("delayMs", 0, _MAX_MOCK_DELAY_MS)
    delay_s = None if delay_ms is None else delay_ms / 1000
    return Mock(answer=_mock_answer(mock), delay_s=delay_s, errors=errors)


def _mock_answer(mock: Section) -> str | None:
    match mock.values.get("answer"):
        case None | str() as text:
            return text
        case dict() | list() as value:
            return json.dumps(value, ensure_ascii=False)
    raise mock.fault("answer", "must be text, a mapping or a list")


def _input_schema(section: Section) -> dict[str, Json] | None:
    schema = _schema(section)
    if schema is not None and schema.get("type", "object") != "object":
        reason = "'input.schema' must describe an object, whose fields are the variables"
        raise section.fault_at(("schema", "type"), reason)
    return schema


def _schema(section: Section) -> dict[str, Json] | None:
    value = section.values.get("schema")
    try:
        return None if value is None else to_json_schema(value)
    except SchemaError as error:
        reason = f"'{'.'.join(section.path)}.schema' {error}"
        raise section.fault_at(("schema", *error.path), reason) from error


def _output_format(output: Section, schema: object) -> OutputFormat | None:
    match output.values.get("format"):
        case None:
            return None if schema is None else "json"
        case "json":
            return "json"
        case "text":
            return "text"
    raise output.fault_at(("format",), "'output.format' must be json or text")


def _unknown(sections: tuple[Section, ...]) -> list[KeyPath]:
    return [
        (*section.path, key)
        for section in sections
        for key in section.values
        if key not in KNOWN_KEYS[section.path]
    ]
