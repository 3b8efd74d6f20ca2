"""The YAML block on top of a prompt file, with Dotprompt's key names.

Source: the Dotprompt format's front matter reference (google/dotprompt); keys of our own are
dotted (`gateway.timeoutMs`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from llm_gateway.models import (
    MAX_STOP_SEQUENCES,
    TEMPERATURE_RANGE,
    TIMEOUT_RANGE_S,
    TOP_P_RANGE,
    Json,
    ModelOptions,
    OutputFormat,
)
from llm_gateway.prompts.picoschema import to_json_schema

_KNOWN = {
    "": {"name", "description", "model", "config", "input", "output", "metadata"},
    "input": {"schema", "default"},
    "output": {"format", "schema"},
    "config": {"temperature", "maxOutputTokens", "topP", "stopSequences"},
}
_GATEWAY_KEYS = {"gateway.timeoutMs"}
_MAX_DEPTH = 32
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ALIASES = {"max_output_tokens": "maxOutputTokens", "top_p": "topP", "stop_sequences": "stopSequences"}


class PromptSyntaxError(Exception):
    """A prompt file cannot be used as it is.

    Attributes:
        reason: What is wrong, for the author; it never quotes the file.
        line: Line of the file, counted from 1, or None.
        path: The partial at fault; None if it is the prompt's own file.
    """

    def __init__(self, reason: str, line: int | None = None, path: str | None = None) -> None:
        where = " ".join([*([path] if path else []), *([f"line {line}"] if line else [])])
        super().__init__(f"{where}: {reason}" if where else reason)
        self.reason = reason
        self.line = line
        self.path = path


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """What a prompt says about itself.

    Attributes:
        model: `provider/name`, or None.
        options: Parameters the author chose; a request's own come first.
        timeout_s: The author's deadline in seconds, or None.
        input_schema: JSON Schema of the variables, or None.
        defaults: Values of variables a caller may leave out.
        output_schema: JSON Schema of the answer, or None.
        warnings: Keys nobody reads.
    """

    description: str | None = None
    model: str | None = None
    options: ModelOptions = field(default_factory=ModelOptions)
    timeout_s: float | None = None
    input_schema: Mapping[str, Json] | None = None
    defaults: Mapping[str, Json] = field(default_factory=dict)
    output_schema: Mapping[str, Json] | None = None
    warnings: tuple[str, ...] = ()


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
    raw = _load_yaml(text)
    config = _with_canonical_keys(_section(raw, "config"))
    output = _section(raw, "output")
    schema = _schema(_section(raw, "input"), "input.schema")
    if schema is not None and schema.get("type", "object") != "object":
        raise PromptSyntaxError("'input.schema' must describe an object, whose fields are the variables")
    output_schema = _schema(output, "output.schema")
    return FrontMatter(
        description=_typed(raw, "description", str, "text"),
        model=_model(raw),
        options=ModelOptions(
            temperature=_number(config, "temperature", *TEMPERATURE_RANGE),
            top_p=_number(config, "topP", *TOP_P_RANGE),
            max_tokens=_max_tokens(config),
            stop=_stop(config),
            output_format=_output_format(output, output_schema),
        ),
        timeout_s=_timeout_s(raw),
        input_schema=schema,
        defaults=_typed(_section(raw, "input"), "default", dict, "a mapping") or {},
        output_schema=output_schema,
        warnings=tuple(_unknown_keys(raw, config)),
    )


def _load_yaml(text: str) -> dict[str, Any]:
    try:
        _refuse_explosives(text)
        raw = yaml.load(text, Loader=_LOADER)  # noqa: S506 (both choices are safe)
    except PromptSyntaxError:
        raise
    except yaml.MarkedYAMLError as error:
        raise PromptSyntaxError("the front matter is not valid YAML", _line(error.problem_mark)) from error
    except Exception as error:  # PyYAML builds `!!int ''` and the like with no checks of its own
        raise PromptSyntaxError("the front matter is not valid YAML", 2) from error
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise PromptSyntaxError("the front matter must be a mapping of names to values", 2)
    return _check_json(raw)


def _refuse_explosives(text: str) -> None:
    """Aliases grow a short text without end, and deep nesting overflows the stack of libyaml's loader."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise PromptSyntaxError("the front matter is nested too deeply", _line(event.start_mark))
        if isinstance(event, yaml.AliasEvent):
            reason = "the front matter uses a YAML alias; write the value out"
            raise PromptSyntaxError(reason, _line(event.start_mark))


def _line(mark: Any) -> int | None:
    """A mark's line in the file, of which the front matter begins on the second."""
    return None if mark is None else mark.line + 2


def _check_json(raw: dict[str, Any]) -> dict[str, Any]:
    """YAML knows dates, sets and infinity; a prompt holds JSON values only."""
    pending: list[tuple[str, object]] = [("front matter", raw)]
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise PromptSyntaxError(f"the names under '{name}' must be text; quote them")
            pending += value.items()
        elif isinstance(value, list):
            pending += [(name, child) for child in value]
        elif not _is_json_scalar(value):
            raise PromptSyntaxError(f"'{name}' must be plain JSON; quote dates and times")
    return raw


def _is_json_scalar(value: object) -> bool:
    return math.isfinite(value) if isinstance(value, float) else isinstance(value, str | int | None)


def _section(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    return _typed(raw, name, dict, "a mapping") or {}


def _typed(raw: Mapping[str, Any], name: str, kind: type[Any], kind_name: str) -> Any:
    value = raw.get(name)
    if value is not None and not isinstance(value, kind):
        raise PromptSyntaxError(f"'{name}' must be {kind_name}")
    return value


def _with_canonical_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    for alias, name in _ALIASES.items():
        if alias in config and name in config:
            raise PromptSyntaxError(f"'config' has both '{alias}' and '{name}'; keep one")
    return {_ALIASES.get(name, name): value for name, value in config.items()}


def _number(raw: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = raw.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise PromptSyntaxError(f"'{name}' must be a number from {low:g} to {high:g}")
    return float(value)


def _max_tokens(config: Mapping[str, Any]) -> int | None:
    value = config.get("maxOutputTokens")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PromptSyntaxError("'maxOutputTokens' must be a whole number from 1 up")
    return value


def _stop(config: Mapping[str, Any]) -> tuple[str, ...]:
    value = config.get("stopSequences")
    if value is None:
        return ()
    fits = isinstance(value, list) and 0 < len(value) <= MAX_STOP_SEQUENCES
    if not fits or not all(isinstance(item, str) and item for item in value):
        raise PromptSyntaxError(f"'stopSequences' must be 1 to {MAX_STOP_SEQUENCES} non-empty texts")
    return tuple(value)


def _timeout_s(raw: Mapping[str, Any]) -> float | None:
    low, high = TIMEOUT_RANGE_S
    milliseconds = _number(raw, "gateway.timeoutMs", low * 1000, high * 1000)
    return None if milliseconds is None else milliseconds / 1000


def _model(raw: Mapping[str, Any]) -> str | None:
    value: str | None = _typed(raw, "model", str, "text")
    if value is not None and not all(value.partition("/")[::2]):
        raise PromptSyntaxError("'model' must look like provider/name, for example openai/gpt-4o-mini")
    return value


def _schema(section: Mapping[str, Any], name: str) -> dict[str, Json] | None:
    value = section.get("schema")
    try:
        return None if value is None else to_json_schema(value)
    except ValueError as error:
        raise PromptSyntaxError(f"'{name}' {error}") from error


def _output_format(output: Mapping[str, Any], schema: object) -> OutputFormat | None:
    match output.get("format"):
        case None:
            return None if schema is None else "json"
        case "json":
            return "json"
        case "text":
            return "text"
    raise PromptSyntaxError("'output.format' must be json or text")


def _unknown_keys(raw: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    found = [key for key in raw if key not in _KNOWN[""] | _GATEWAY_KEYS]
    found += [f"config.{key}" for key in config if key not in _KNOWN["config"]]
    for section in ("input", "output"):
        found += [f"{section}.{key}" for key in raw.get(section) or {} if key not in _KNOWN[section]]
    return [f"unknown key '{key}' is ignored" for key in found]
