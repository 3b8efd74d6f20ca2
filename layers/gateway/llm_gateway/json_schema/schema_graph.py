"""The schemas of a JSON Schema document, and which of them each one applies.

Every bound that can be read off one place of the document is checked here, before anything native sees it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from llm_gateway.json_schema.pattern_size import breadth_of, states_of

MAX_NAMES = 1_000
MAX_CHOICES = 5_000
MAX_PATTERNS = 100
MAX_PATTERN_CHARS = 1_000
MAX_STATES = 10_000
MAX_BREADTH = 2_000

_SAME = ("not", "if", "then", "else")
_SAME_LISTS = ("allOf", "anyOf", "oneOf")
_SAME_MAPPINGS = ("dependentSchemas", "dependencies")
_EVERY = (
    "additionalProperties",
    "unevaluatedProperties",
    "items",
    "contains",
    "additionalItems",
    "unevaluatedItems",
)
_DEFINITIONS = ("$defs", "definitions")
_ANCHORS = {"$anchor", "$dynamicAnchor"}
_INDEX = re.compile("[0-9]{1,9}")
_UNBOUNDED = {"$dynamicRef", "$recursiveRef"}
_EXPLAINED_AT_LENGTH = {"anyOf", "oneOf", "propertyNames"}

_APPLY = {
    *("$ref", "properties", "patternProperties", "prefixItems", "propertyNames"),
    *(*_SAME, *_SAME_LISTS, *_SAME_MAPPINGS, *_EVERY),
}
_HOLD = {*_APPLY, *_DEFINITIONS, "contentSchema"}

Schema = Mapping[str, Any]
Path = tuple[str, ...]


class InvalidSchema(ValueError):
    """The document is no JSON Schema, or one that asks for too much.

    Attributes:
        path: Where in the document.
    """

    def __init__(self, path: Sequence[str], reason: str = "is not a valid JSON Schema") -> None:
        super().__init__(reason)
        self.path = tuple(path)


@dataclass(frozen=True, slots=True)
class Applied:
    """The schemas that one schema applies, by what they are applied to.

    Attributes:
        same: To the value itself.
        alternatives: To its parts, of which each part meets one at most.
        every: To its parts, of which each part may meet every one.
        names: To the names of its parts.
    """

    same: tuple[Schema, ...]
    alternatives: tuple[Schema, ...]
    every: tuple[Schema, ...]
    names: tuple[Schema, ...]

    @property
    def parts(self) -> tuple[Schema, ...]:
        """Those that are applied further in."""
        return (*self.alternatives, *self.every, *self.names)


_NONE = Applied((), (), (), ())


class SchemaGraph:
    """The schemas of a document.

    Attributes:
        schemas: Each schema of the document, by its `id`.
        states: States of all its patterns.
        explained_at_length: True if a violation may hold the violations of each branch.

    Raises:
        InvalidSchema: A bound is broken, or a reference leads nowhere or out of the document.
    """

    def __init__(self, document: Schema) -> None:
        self.schemas: dict[int, Schema] = {}
        self.states = 0
        self.explained_at_length = False
        self._document = document
        self._patterns = 0
        self._breadth = 0
        self._paths: dict[int, Path] = {}
        self._anchors: dict[str, Schema] = {}
        self._unfollowed: list[Schema] = []
        self._collect(document)
        while (
            self._unfollowed
        ):  # a reference may lead beside all keywords, to schemas with references as well
            self._target(self._unfollowed.pop())

    def applied(self, schema: Schema) -> Applied:
        """The schemas that `schema` applies."""
        if not _APPLY & schema.keys():
            return _NONE
        target = self._target(schema)
        same = [schema.get(name) for name in _SAME] + ([] if target is None else [target])
        for name in _SAME_LISTS:
            same += _list(schema.get(name))
        for name in _SAME_MAPPINGS:
            same += _mapping(schema.get(name)).values()
        properties = _mapping(schema.get("properties")).values()
        alternatives = [*properties, *_list(schema.get("prefixItems")), *_list(schema.get("items"))]
        every = [schema.get(name) for name in _EVERY]
        every += _mapping(schema.get("patternProperties")).values()
        return Applied(*map(_schemas, (same, alternatives, every, [schema.get("propertyNames")])))

    def fault(self, schema: Schema, reason: str, *steps: str) -> InvalidSchema:
        """An error about a schema of this document."""
        return InvalidSchema((*self._paths.get(id(schema), ()), *steps), reason)

    def _target(self, schema: Schema) -> Schema | None:
        """What its `$ref` refers to; None without one, and if that is true or false."""
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return None
        if not reference.startswith("#"):
            raise self.fault(schema, "refers to another document; a '$ref' begins with '#'", "$ref")
        found = self._at(reference[1:])
        if isinstance(found, bool):
            return None
        if not isinstance(found, dict):
            raise self.fault(schema, "refers to what is not in it", "$ref")
        self._collect(found)
        return found

    def _at(self, fragment: str) -> object:
        if fragment and not fragment.startswith("/"):
            return self._anchors.get(fragment)
        found: object = self._document
        for step in unquote(fragment).split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list):
                found = found[int(name)] if _INDEX.fullmatch(name) and int(name) < len(found) else None
            else:
                found = _mapping(found).get(name)
        return found

    def _collect(self, top: Schema) -> None:
        """Look at a schema and those inside it, once each; a reference may lead beside all keywords."""
        waiting: list[tuple[Path, object]] = [((), top)]
        while waiting:
            path, schema = waiting.pop()
            if not isinstance(schema, dict) or id(schema) in self.schemas:
                continue
            self.schemas[id(schema)], self._paths[id(schema)] = schema, path
            self._unfollowed.append(schema)
            self._check(schema)
            waiting += [((*path, *steps), inner) for steps, inner in _inside(schema)]

    def _check(self, schema: Schema) -> None:
        for keyword in _UNBOUNDED & schema.keys():
            raise self.fault(schema, f"has '{keyword}', which is not supported; use '$ref'", keyword)
        if "$id" in schema and schema is not self._document:
            raise self.fault(schema, "has an '$id' inside; only the whole schema may have one", "$id")
        for keyword in _ANCHORS & schema.keys():
            name = str(schema[keyword])
            if self._anchors.setdefault(name, schema) is not schema:
                raise self.fault(schema, "has a name in it that another schema has, too", keyword)
        for keyword, most in (("required", MAX_NAMES), ("enum", MAX_CHOICES)):
            if len(_list(schema.get(keyword))) > most:
                raise self.fault(schema, f"has more than {most:,} entries in '{keyword}'", keyword)
        self.explained_at_length |= bool(schema.keys() & _EXPLAINED_AT_LENGTH)
        for steps, pattern in patterns_of(schema):
            self._check_pattern(schema, steps, pattern)

    def _check_pattern(self, schema: Schema, steps: Path, pattern: str) -> None:
        self._patterns += 1
        if self._patterns > MAX_PATTERNS:
            raise self.fault(schema, f"has more than {MAX_PATTERNS} patterns", *steps)
        if len(pattern) > MAX_PATTERN_CHARS:
            raise self.fault(schema, f"has a pattern of more than {MAX_PATTERN_CHARS:,} characters", *steps)
        self._breadth += breadth_of(pattern)
        if self._breadth > MAX_BREADTH:
            reason = r"has patterns with too many classes such as '\w' once repetitions are written out"
            raise self.fault(schema, reason, *steps)
        self.states += states_of(pattern)
        if self.states > MAX_STATES:
            reason = f"has patterns of more than {MAX_STATES:,} characters once repetitions are written out"
            raise self.fault(schema, reason, *steps)


def patterns_of(schema: Schema) -> Iterator[tuple[Path, str]]:
    """Every pattern of one schema, that for values first."""
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        yield ("pattern",), pattern
    for name in _mapping(schema.get("patternProperties")):
        yield ("patternProperties", name), name


def _inside(schema: Schema) -> Iterator[tuple[Path, object]]:
    if not schema.keys() & _HOLD:
        return
    for name in (*_SAME, *_EVERY, "propertyNames", "contentSchema"):
        yield (name,), schema.get(name)
    for name in (*_SAME_LISTS, "prefixItems", "items"):
        yield from (((name, str(n)), inner) for n, inner in enumerate(_list(schema.get(name))))
    for name in (*_SAME_MAPPINGS, *_DEFINITIONS, "properties", "patternProperties"):
        yield from (((name, key), inner) for key, inner in _mapping(schema.get(name)).items())


def _schemas(found: Sequence[object]) -> tuple[Schema, ...]:
    """Those that can hold rules: true and false cost nothing."""
    return tuple(schema for schema in found if isinstance(schema, dict))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
