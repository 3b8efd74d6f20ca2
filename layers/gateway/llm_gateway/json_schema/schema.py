"""JSON Schema: compiled once, applied in time linear in the value, and never quoting it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_gateway.json_schema.schema_bounds import SchemaBounds, dialect_of
from llm_gateway.json_schema.schema_graph import InvalidSchema
from llm_gateway.json_schema.value_bounds import TooManyValues, extent_of
from llm_gateway.json_schema.values import Json

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, ValidationErrorKind

__all__ = ["MAX_VIOLATIONS", "InvalidSchema", "JsonSchema", "Violation"]

MAX_VIOLATIONS = 20
"""Most violations that are told: a value may have a hundred thousand, and each is a line for the caller."""
MAX_WORK = 20_000_000
"""Most rules that are applied to one value; a fifth of a second."""
_QUICK_WORK = 200_000
_MAX_LISTED = 5_000
_MAX_COPIED = 1_000_000
_MAX_NAME = 100
_PATTERN_BYTES = 1_000_000  # of one compiled pattern


@dataclass(frozen=True, slots=True)
class Violation:
    """A part of a value that does not fit.

    Attributes:
        path: Names and indexes that lead to it, from the outside in.
        keyword: Keyword of the schema that it breaks.
        rule: The same in words that follow a name: `must be of type integer`.
        names: Names that are missing, or too many.
    """

    path: tuple[str, ...]
    keyword: str
    rule: str
    names: tuple[str, ...] = ()


class JsonSchema:
    """A compiled schema of the dialect that it names, 2020-12 if it names none.

    Nothing is fetched: a `$ref` leads inside the document or nowhere. Patterns have no look-around and no
    back-references, so that no value can make one of them slow. What the schema asks for is bounded before
    it is compiled, and so is the work for each value before it is checked.

    Raises:
        InvalidSchema: Saying where.
    """

    def __init__(self, document: Mapping[str, Json]) -> None:
        self.document = document
        self.bounds = SchemaBounds(document)
        # Loaded only for prompts that have a schema: it costs a cold start about 20 ms.
        import jsonschema_rs

        compiled = getattr(jsonschema_rs, dialect_of(document))
        options = jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES, dfa_size_limit=_PATTERN_BYTES)
        try:
            self._validator = compiled(
                dict(document), pattern_options=options, offline=True, validate_formats=False
            )
        except jsonschema_rs.ValidationError as error:
            raise InvalidSchema([str(step) for step in error.instance_path]) from None
        except (jsonschema_rs.ReferencingError, ValueError):
            raise InvalidSchema([]) from None

    @property
    def light(self) -> bool:
        """True if a small value is checked in a few milliseconds: few rules, none of which repeats itself."""
        return self.bounds.light

    def quickly_fits(self, value: Json | Mapping[str, Json]) -> bool:
        """True if a value fits and that is known in a few milliseconds."""
        if not self.bounds.light:
            return False
        try:
            extent = extent_of(value)
        except TooManyValues:
            return False
        return self.bounds.work(extent) <= _QUICK_WORK and self._validator.is_valid(value)

    def violations(self, value: Json | Mapping[str, Json]) -> Sequence[Violation]:
        """What does not fit, at most MAX_VIOLATIONS, in the order of the paths; empty if the value does.

        All violations are made before the first can be looked at. So they are listed if there cannot be
        too many of them; of a larger value the first one is told.
        """
        try:
            extent = extent_of(value)
        except TooManyValues as error:
            return [Violation((), "size", str(error))]
        if self.bounds.work(extent) > MAX_WORK:
            return [Violation((), "size", "is too large to be checked against this schema")]
        if self._validator.is_valid(value):
            return []
        count, copied = self.bounds.violations(extent)
        if count <= _MAX_LISTED and copied <= _MAX_COPIED:
            return self._listed(value)
        if self.bounds.explained_at_length:
            return [Violation((), "schema", "does not fit the schema, and is too large to say where")]
        return self._first(value)

    def _listed(self, value: Json | Mapping[str, Json]) -> Sequence[Violation]:
        found: dict[tuple[tuple[str, ...], str], list[ValidationError]] = {}
        for error in self._validator.iter_errors(value):
            key = tuple(str(step)[:_MAX_NAME] for step in error.instance_path), error.kind.name
            if len(found) == MAX_VIOLATIONS and key not in found:
                break
            found.setdefault(key, []).append(error)
        made = [_violation(path, errors) for (path, _), errors in found.items()]
        return sorted(made, key=lambda violation: violation.path)

    def _first(self, value: Json | Mapping[str, Json]) -> Sequence[Violation]:
        from jsonschema_rs import ValidationError

        try:
            self._validator.validate(value)
        except ValidationError as error:
            return [_violation(tuple(str(step)[:_MAX_NAME] for step in error.instance_path), [error])]
        return []


def _violation(path: tuple[str, ...], errors: Sequence[ValidationError]) -> Violation:
    """The violation of one rule at one place; a name that is missing is an error of its own."""
    kind = errors[0].kind
    names = tuple(name for error in errors for name in _names(error.kind))
    return Violation(path, kind.name, _rule(kind, names), names)


def _names(kind: ValidationErrorKind) -> tuple[str, ...]:
    return tuple(_listed(kind.value)) if kind.name in ("required", "additionalProperties") else ()


def _rule(kind: ValidationErrorKind, names: tuple[str, ...]) -> str:
    """What is broken, without the value, which the library's own messages quote."""
    match kind.name:
        case "type":
            return f"must be of type {' or '.join(_listed(kind.value))}"
        case "required":
            return f"lacks {_shortened(names)}"
        case "additionalProperties":
            return "has a name that the schema does not know"
        case name:
            return f"breaks the rule '{name}'"


def _shortened(names: Sequence[str]) -> str:
    told = [name[:_MAX_NAME] for name in names[:MAX_VIOLATIONS]]
    rest = len(names) - len(told)
    return ", ".join([*told, *([f"and {rest} more"] if rest else [])])


def _listed(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]
