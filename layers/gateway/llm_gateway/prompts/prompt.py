"""One version of one prompt file, ready to be rendered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm_gateway.errors import InvalidVariables, MissingVariables
from llm_gateway.models import Json, Message
from llm_gateway.prompts.composition import Source, compose, read_source
from llm_gateway.prompts.front_matter import FrontMatter, PromptSyntaxError, parse_front_matter
from llm_gateway.prompts.template import PromptTemplate, check_partial
from llm_gateway.prompts.yaml_mapping import line_of

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator


@dataclass(frozen=True, slots=True)
class Prompt:
    """A parsed prompt.

    Attributes:
        path: Its id, a relative path.
        version: The version this is.
        front: What its front matter says.
        template: Its compiled body.
        required_variables: Dotted names a caller must give.
        size_bytes: Size of the file and of its partials.
    """

    path: str
    version: str
    front: FrontMatter
    template: PromptTemplate
    validator: Validator | None
    required_variables: tuple[str, ...]
    size_bytes: int

    def render(self, variables: Mapping[str, Json], max_chars: int) -> tuple[Message, ...]:
        """The messages to send.

        Raises:
            MissingVariables: Naming every required variable that is absent.
            InvalidVariables: A value does not fit the input schema or the template.
            RenderLimitExceeded: The text would be longer than `max_chars`.
        """
        filled = merged(self.front.defaults, variables)
        missing = [name for name in self.required_variables if not _has(filled, name.split("."))]
        if missing:
            raise MissingVariables(missing)
        if self.validator is not None:
            _validate(self.validator, filled)
        return self.template.render(filled, max_chars)


def parse_prompt(path: str, version: str, data: bytes, partials: Mapping[str, bytes] | None = None) -> Prompt:
    """Read a prompt file.

    Args:
        path: Its id.
        version: The version of it that this is.
        data: The file.
        partials: The files it includes, directly or not, by path.

    Raises:
        PromptSyntaxError: It cannot be used; says why and, where known, on which line.
    """
    source = read_source(path, data)
    sources = {name: read_source(name, content) for name, content in (partials or {}).items()}
    return built_prompt(source, sources, version)


def built_prompt(source: Source, partials: Mapping[str, Source], version: str) -> Prompt:
    """As `parse_prompt`, from files that are taken apart already."""
    front = FrontMatter() if source.front is None else parse_front_matter(source.front)
    for partial in partials.values():
        check_partial(partial.body, partial.error)
    body = compose(source, partials)
    template = PromptTemplate.compile(body.text, body.error)
    if front.output_schema is not None:
        _validator(front.output_schema, "output", front)
    return Prompt(
        path=source.path,
        version=version,
        front=front,
        template=template,
        validator=None if front.input_schema is None else _validator(front.input_schema, "input", front),
        required_variables=_required(front, template),
        size_bytes=source.size_bytes + sum(partial.size_bytes for partial in partials.values()),
    )


def merged(defaults: Mapping[str, Json], given: Mapping[str, Json]) -> dict[str, Json]:
    """`given` over `defaults`, mapping by mapping; both stay as they are."""
    result = {**defaults, **given}
    for name in defaults.keys() & given.keys():
        below, above = defaults[name], given[name]
        if isinstance(below, dict) and isinstance(above, dict):
            result[name] = merged(below, above)
    return result


def _required(front: FrontMatter, template: PromptTemplate) -> tuple[str, ...]:
    """What the template uses and what the schema demands, less what has a default."""
    names = list(template.required)
    demanded = (front.input_schema or {}).get("required")
    for name in demanded if isinstance(demanded, list) else []:
        if (
            isinstance(name, str)
            and "." not in name
            and not any(n == name or n.startswith(f"{name}.") for n in names)
        ):
            names.append(name)
    return tuple(name for name in names if not _has(front.defaults, name.split(".")))


def _has(values: Json | Mapping[str, Json], steps: list[str]) -> bool:
    for step in steps:
        if not isinstance(values, Mapping) or step not in values:
            return False
        values = values[step]
    return True


def _validator(schema: Mapping[str, Json], section: str, front: FrontMatter) -> Validator:
    # Loaded only for prompts that have a schema: it costs a cold start about 60 ms.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError
    from referencing import Registry

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        line = line_of(front.lines, (section, "schema", *map(str, error.absolute_path)))
        raise PromptSyntaxError(f"'{section}.schema' is not a valid JSON Schema", line) from error
    registry: Registry[Any] = Registry()  # resolves nothing outside the schema itself
    return Draft202012Validator(schema, registry=registry)


def _validate(validator: Validator, variables: dict[str, Json]) -> None:
    problems = list(dict.fromkeys(_problems(validator, variables)))
    if problems:
        listed = "; ".join(f"{field} {rule}" for field, rule in problems)
        raise InvalidVariables(
            f"Variables do not fit the prompt's input schema: {listed}.",
            param=problems[0][0],
            details={"problems": [{"param": field, "problem": rule} for field, rule in problems]},
        )


def _problems(validator: Validator, variables: dict[str, Json]) -> Iterator[tuple[str, str]]:
    """Field and rule of each violation, never the value: jsonschema's own messages quote it."""
    try:
        errors = sorted(validator.iter_errors(variables), key=lambda error: str(error.absolute_path))
    except Exception as error:  # an unresolvable $ref surfaces only while validating
        raise InvalidVariables(
            "The prompt's input schema cannot be applied; its author has to mend it.", param="variables"
        ) from error
    for problem in errors:
        field = ".".join(["variables", *(str(part) for part in problem.absolute_path)])
        yield field, _rule(problem)


def _rule(error: ValidationError) -> str:
    wanted: Any = error.validator_value
    match error.validator:
        case "type":
            return f"must be of type {wanted if isinstance(wanted, str) else ' or '.join(wanted)}"
        case "required":
            given: Any = error.instance
            return f"lacks {', '.join(name for name in wanted if name not in given)}"
        case "additionalProperties":
            return "has a name that the schema does not know"
        case rule:
            return f"breaks the rule '{rule}'"
