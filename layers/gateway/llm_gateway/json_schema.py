"""JSON Schema: compiled once, applied in time linear in the value, and never quoting it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_gateway.models import Json

if TYPE_CHECKING:
    from jsonschema_rs import ValidationErrorKind

MAX_VIOLATIONS = 20
"""Most violations that are told: a value may have a hundred thousand, and each is a line for the caller."""
_MAX_NAME = 100


class InvalidSchema(ValueError):
    """The document is no JSON Schema.

    Attributes:
        path: Where in the document.
    """

    def __init__(self, path: Sequence[str]) -> None:
        super().__init__("is not a valid JSON Schema")
        self.path = tuple(path)


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
    """A compiled schema, draft 2020-12.

    Nothing is fetched: a `$ref` leads inside the document or nowhere. Patterns have no look-around and no
    back-references, so that no value can make one of them slow.

    Raises:
        InvalidSchema: Saying where.
    """

    def __init__(self, document: Mapping[str, Json]) -> None:
        # Loaded only for prompts that have a schema: it costs a cold start about 20 ms.
        from jsonschema_rs import Draft202012Validator, ReferencingError, RegexOptions, ValidationError

        self.document = document
        try:
            self._validator = Draft202012Validator(
                dict(document), pattern_options=RegexOptions(), offline=True
            )
        except ValidationError as error:
            raise InvalidSchema([str(step) for step in error.instance_path]) from None
        except (ReferencingError, ValueError):
            raise InvalidSchema([]) from None

    def violations(self, value: Json | Mapping[str, Json]) -> Sequence[Violation]:
        """What does not fit, at most MAX_VIOLATIONS, in the order of the paths; empty if the value does."""
        found: dict[tuple[tuple[str, ...], str], Violation] = {}
        for error in self._validator.iter_errors(value):
            path, kind = tuple(str(step)[:_MAX_NAME] for step in error.instance_path), error.kind
            if len(found) == MAX_VIOLATIONS and (path, kind.name) not in found:
                break
            earlier = found.get((path, kind.name))
            names = (*(earlier.names if earlier else ()), *_names(kind))
            found[path, kind.name] = Violation(path, kind.name, _rule(kind, names), names)
        return sorted(found.values(), key=lambda violation: violation.path)


def _names(kind: ValidationErrorKind) -> tuple[str, ...]:
    return tuple(_listed(kind.value)) if kind.name in ("required", "additionalProperties") else ()


def _rule(kind: ValidationErrorKind, names: tuple[str, ...]) -> str:
    """What is broken, without the value, which the library's own messages quote."""
    match kind.name:
        case "type":
            return f"must be of type {' or '.join(_listed(kind.value))}"
        case "required":
            return f"lacks {', '.join(names)}"
        case "additionalProperties":
            return "has a name that the schema does not know"
        case name:
            return f"breaks the rule '{name}'"


def _listed(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]
