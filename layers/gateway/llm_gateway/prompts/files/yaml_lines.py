"""YAML read as plain JSON, with the line of every key, so that whoever finds fault can point at it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.reader import ReaderError

from llm_gateway.json_schema.values import Json
from llm_gateway.validation import has_half_character

KeyPath = tuple[str, ...]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_FRONT_BYTES = 65_536
"""Of the front matter as UTF-8: what it says is in the index, an item of which has 400 KB at most."""
MAX_VALUES = 5_000
"""Names and values of the front matter, at 40 µs each from text to JSON Schema."""
_MAX_DEPTH = 32
_MAX_NUMBER = 100
_PANIC = "PanicException"  # what a library written in Rust raises for a defect; no Exception, to Python
_MAX_NAME = 64
_FIRST_LINE = 2  # the front matter begins below the file's first `---`
_MAPPING, _SEQUENCE, _TEXT = (f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str"))


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


class UnreadablePrompt(PromptSyntaxError):
    """A prompt file on which the gateway itself failed: a defect, of which the file is only the occasion."""


@contextmanager
def reading(path: str | None = None) -> Iterator[None]:
    """Whatever goes wrong inside is a fault of the file that is read, so that no other file suffers from it.

    Args:
        path: The partial that is read; None if it is the prompt's own file.

    Raises:
        UnreadablePrompt: Instead of any exception that is no PromptSyntaxError.
    """
    try:
        yield
    except PromptSyntaxError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        reason = (
            f"the gateway cannot read this file ({type(error).__name__}); report it, or write it otherwise"
        )
        raise UnreadablePrompt(reason, path=path) from error


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping of the front matter that knows where it stands.

    Attributes:
        values: Its keys and JSON values.
        lines: Line of the file of every key and list item of the front matter, by path from its top.
        path: Where the mapping itself is.
    """

    values: Mapping[str, Any]
    lines: Mapping[KeyPath, int]
    path: KeyPath = ()

    def fault(self, key: str, reason: str) -> PromptSyntaxError:
        """`'key' reason`, at the line of the key."""
        return self.fault_at((key,), f"'{key}' {reason}")

    def fault_at(self, keys: KeyPath, reason: str) -> PromptSyntaxError:
        """`reason`, at the line of the last of these keys that is in the file."""
        return PromptSyntaxError(reason, line_of(self.lines, (*self.path, *keys)))

    def section(self, key: str) -> Section:
        """The mapping below a key; an empty one if there is none."""
        return Section(self.mapping(key), self.lines, (*self.path, key))

    def mapping(self, key: str) -> dict[str, Json]:
        """The mapping below a key as it is; an empty one if there is none."""
        return self._typed(key, dict, "a mapping") or {}

    def text(self, key: str) -> str | None:
        """The text below a key, None if there is none."""
        value: str | None = self._typed(key, str, "text")
        return value

    def number(self, key: str, low: float, high: float) -> float | None:
        """The number below a key, from `low` to `high`, None if there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.fault(key, f"must be a number from {low:g} to {high:g}")
        return float(value)

    def texts(self, key: str, at_most: int, rule: str) -> tuple[str, ...]:
        """The 1 to `at_most` non-empty texts below a key, none if there is no such key."""
        value = self.values.get(key)
        if value is None:
            return ()
        fits = isinstance(value, list) and 0 < len(value) <= at_most
        if not fits or not all(isinstance(item, str) and item for item in value):
            raise self.fault(key, rule)
        return tuple(value)

    def _typed(self, key: str, kind: type[Any], kind_name: str) -> Any:
        value = self.values.get(key)
        if value is not None and not isinstance(value, kind):
            raise self.fault(key, f"must be {kind_name}")
        return value


def load_mapping(text: str) -> Section:
    """Read the text between the `---` lines.

    Raises:
        PromptSyntaxError: It is not YAML, not a mapping, names a key twice, or holds more than JSON can.
    """
    _check_length(text)
    try:
        _refuse_explosives(text)
        loader = _LOADER(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise PromptSyntaxError("the front matter is not valid YAML", _line(error.problem_mark)) from error
    except ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + _FIRST_LINE
        raise PromptSyntaxError("YAML does not allow a character in the front matter", line) from error
    except (yaml.YAMLError, ValueError) as error:
        raise PromptSyntaxError("the front matter is not valid YAML", _FIRST_LINE) from error
    reader = _Reader(loader)
    values = {} if root is None else reader.value(root, ())
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise PromptSyntaxError("the front matter must be a mapping of names to values", _FIRST_LINE)
    return Section(values, reader.lines)


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int | None:
    """Line of the key at `path`, or of the nearest key above it that is in the file."""
    return next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)


def _check_length(text: str) -> None:
    read = 0
    for line, content in enumerate(text.split("\n"), start=_FIRST_LINE):
        read += len(content.encode(errors="surrogatepass")) + 1
        if read > MAX_FRONT_BYTES:
            raise PromptSyntaxError(f"the front matter is longer than {MAX_FRONT_BYTES} bytes", line)


def _refuse_explosives(text: str) -> None:
    """Aliases grow a short text without end, and deep nesting overflows the stack of libyaml's loader."""
    depth = values = 0
    for event in yaml.parse(text, Loader=_LOADER):
        values += isinstance(event, yaml.NodeEvent)
        if values > MAX_VALUES:
            reason = f"the front matter has more than {MAX_VALUES} names and values"
            raise PromptSyntaxError(reason, _line(event.start_mark))
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise PromptSyntaxError("the front matter is nested too deeply", _line(event.start_mark))
        if isinstance(event, yaml.AliasEvent):
            reason = "the front matter uses a YAML alias; write the value out"
            raise PromptSyntaxError(reason, _line(event.start_mark))


class _Reader:
    """Builds JSON values from YAML's nodes; YAML knows dates, sets, merges and infinity as well."""

    def __init__(self, loader: Any) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._loader = loader

    def value(self, node: yaml.Node, path: KeyPath) -> Json:
        match node:
            case yaml.MappingNode(tag=tag) if tag == _MAPPING:
                return self._mapping(node, path)
            case yaml.SequenceNode(tag=tag) if tag == _SEQUENCE:
                return [self._item(child, (*path, str(n))) for n, child in enumerate(node.value)]
            case yaml.ScalarNode():
                return self._scalar(node, path)
        raise _not_json(node, path)

    def _item(self, node: yaml.Node, path: KeyPath) -> Json:
        self.lines[path] = _line(node.start_mark)
        return self.value(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Json]:
        result: dict[str, Json] = {}
        for key, child in node.value:
            line = _line(key.start_mark)
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TEXT:
                above = f"under '{_name(path)}'" if path else "in the front matter"
                raise PromptSyntaxError(f"the names {above} must be text; quote them", line)
            if has_half_character(key.value):
                raise PromptSyntaxError("a name holds half a character; write the character itself", line)
            below = (*path, key.value)
            if below in self.lines:
                first = self.lines[below]
                raise PromptSyntaxError(
                    f"'{_name(below)}' is there twice, first on line {first}; keep one", line
                )
            self.lines[below] = line
            result[key.value] = self.value(child, below)
        return result

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Json:
        if node.tag != _TEXT and len(node.value) > _MAX_NUMBER:  # `1:59:59:…` is a number in base 60
            reason = (
                f"'{_name(path)}' is a number longer than {_MAX_NUMBER} characters; quote it if it is text"
            )
            raise PromptSyntaxError(reason, _line(node.start_mark))
        try:
            value: object = self._loader.construct_object(node)
        except Exception as error:  # PyYAML builds `!!int ''` and the like with no checks of its own
            reason = f"'{_name(path)}' has a value that YAML cannot read"
            raise PromptSyntaxError(reason, _line(node.start_mark)) from error
        match value:
            case float() if math.isfinite(value):
                return value
            case bool() | int() | None:
                return value
            case str() if not has_half_character(value):
                return value
        raise _not_json(node, path)


def _not_json(node: yaml.Node, path: KeyPath) -> PromptSyntaxError:
    reason = f"'{_name(path)}' must be plain JSON; quote dates and times"
    return PromptSyntaxError(reason, _line(node.start_mark))


def _name(path: KeyPath) -> str:
    """The nearest key's name, short enough for a line of a log."""
    name = next((step for step in reversed(path) if not step.isdecimal()), "front matter")
    return shown(name)


def shown(name: str) -> str:
    """A key's name as a message can show it: one short line."""
    plain = "".join(character if character.isprintable() else "?" for character in name)
    return plain if len(plain) <= _MAX_NAME else f"{plain[: _MAX_NAME - 1]}…"


def _line(mark: Any) -> int:
    """A mark's line in the file; PyYAML leaves some marks out."""
    return _FIRST_LINE + (0 if mark is None else int(mark.line))
