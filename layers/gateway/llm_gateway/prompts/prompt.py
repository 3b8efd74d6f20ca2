"""One version of one prompt file, ready to be rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llm_gateway.errors import InvalidVariables, MissingVariables, RenderLimitExceeded
from llm_gateway.json_schema.schema import InvalidSchema, JsonSchema
from llm_gateway.json_schema.value_bounds import is_small
from llm_gateway.json_schema.values import Json
from llm_gateway.models.messages import Message
from llm_gateway.prompts.files.front_matter import FrontMatter, PromptSyntaxError, parse_front_matter
from llm_gateway.prompts.files.includes import Source, compose, included, read_source
from llm_gateway.prompts.files.yaml_lines import line_of, reading
from llm_gateway.prompts.rendering.metering import QUICK_TIME_S, TIME_LIMIT_S
from llm_gateway.prompts.rendering.template import PromptTemplate, check_partial
from llm_gateway.suggestions import nesting_hint, variable_hint
from llm_gateway.workers import LIGHT_BYTES, LIGHT_VALUES, NotQuick


@dataclass(frozen=True, slots=True)
class Prompt:
    """A parsed prompt.

    Attributes:
        path: Its id, a relative path.
        version: The version this is.
        front: What its front matter says.
        template: Its compiled body.
        input_schema: What variables have to fit.
        output_schema: What answers have to fit.
        required_variables: Dotted names a caller must give.
        size_bytes: Size of the file and of its partials.
    """

    path: str
    version: str
    front: FrontMatter
    template: PromptTemplate
    input_schema: JsonSchema | None
    output_schema: JsonSchema | None
    required_variables: tuple[str, ...]
    size_bytes: int

    def render(
        self, variables: Mapping[str, Json], max_chars: int, time_limit_s: float = TIME_LIMIT_S
    ) -> tuple[Message, ...]:
        """The messages to send.

        Raises:
            MissingVariables: Naming every required variable that is absent.
            InvalidVariables: A value does not fit the input schema or the template.
            RenderLimitExceeded: The text would be longer than `max_chars`, or takes too much to make.
        """
        filled = self._filled(variables)
        if self.input_schema is not None:
            _check(filled, self.input_schema, variables)
        return self.template.render(filled, max_chars, min(time_limit_s, TIME_LIMIT_S))

    def render_quickly(self, variables: Mapping[str, Json], max_chars: int) -> tuple[Message, ...]:
        """The same, given up at once if it takes more than a few milliseconds.

        Raises:
            NotQuick: It does, or a value is missing or does not fit, which takes longer to explain.
            InvalidVariables: As `render`.
        """
        if not is_small(variables, LIGHT_VALUES, LIGHT_BYTES):
            raise NotQuick
        filled = merged(self.front.defaults, variables)
        if self._missing(filled):
            raise NotQuick
        if self.input_schema is not None and not self.input_schema.quickly_fits(filled):
            raise NotQuick
        try:
            return self.template.render(filled, max_chars, QUICK_TIME_S, quick=True)
        except RenderLimitExceeded:
            raise NotQuick from None

    def _filled(self, variables: Mapping[str, Json]) -> dict[str, Json]:
        filled = merged(self.front.defaults, variables)
        if missing := self._missing(filled):
            raise MissingVariables(missing, variable_hint(missing, variables))
        return filled

    def _missing(self, filled: Mapping[str, Json]) -> list[str]:
        return [name for name in self.required_variables if not _has(filled, name.split("."))]


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
    return built_prompt(source, included(source, partials or {}), version)


def built_prompt(source: Source, partials: Mapping[str, Source], version: str) -> Prompt:
    """As `parse_prompt`, from files that are taken apart already."""
    with reading():
        return _built(source, partials, version)


def _built(source: Source, partials: Mapping[str, Source], version: str) -> Prompt:
    body = compose(source, partials)
    front = FrontMatter() if source.front is None else parse_front_matter(source.front)
    for partial in partials.values():
        check_partial(partial.body, partial.error)
    template = PromptTemplate.compile(body.text, body.error)
    return Prompt(
        path=source.path,
        version=version,
        front=front,
        template=template,
        input_schema=_schema(front.input_schema, "input", front),
        output_schema=_schema(front.options.output_schema, "output", front),
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
    known = {name.partition(".")[0] for name in names}
    demanded = (front.input_schema or {}).get("required")
    for name in demanded if isinstance(demanded, list) else []:
        if isinstance(name, str) and "." not in name and name not in known:
            names.append(name)
            known.add(name)
    return tuple(name for name in names if not _has(front.defaults, name.split(".")))


def _has(values: Json | Mapping[str, Json], steps: list[str]) -> bool:
    for step in steps:
        if not isinstance(values, Mapping) or step not in values:
            return False
        values = values[step]
    return True


def _schema(document: Mapping[str, Json] | None, section: str, front: FrontMatter) -> JsonSchema | None:
    if document is None:
        return None
    try:
        return JsonSchema(document)
    except InvalidSchema as error:
        line = line_of(front.lines, (section, "schema", *error.path))
        raise PromptSyntaxError(f"'{section}.schema' {error}", line) from error


def _check(variables: dict[str, Json], schema: JsonSchema, given: Mapping[str, Json]) -> None:
    problems = [
        (".".join(["variables", *violation.path]), violation.rule)
        for violation in schema.violations(variables)
    ]
    if problems:
        listed = "; ".join(f"{field} {rule}" for field, rule in problems)
        raise InvalidVariables(
            f"Variables do not fit the prompt's input schema: {listed}.{nesting_hint(given)}",
            param=problems[0][0],
            details={"problems": [{"param": field, "problem": rule} for field, rule in problems]},
        )
