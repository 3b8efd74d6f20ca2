"""The author's linter: everything about a prompt file that can be told without calling a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from jinja2 import nodes

from llm_gateway.errors import GatewayError, UnknownModel, UnknownProvider
from llm_gateway.models.catalogue import ModelCatalogue, ModelSpec
from llm_gateway.prompts.files.front_matter import KNOWN_KEYS, PromptSyntaxError
from llm_gateway.prompts.files.yaml_lines import KeyPath, reading, shown
from llm_gateway.prompts.lint.findings import Finding, Subject
from llm_gateway.prompts.lint.variables import variable_findings
from llm_gateway.prompts.rendering.sandbox import environment
from llm_gateway.prompts.rendering.template import role_lines
from llm_gateway.suggestions import nearest

_ROLE = r"(system|user|assistant)"
_EXACT = re.compile(rf"^[ \t]*{_ROLE}:[ \t]*$")
_NEAR = re.compile(rf"^[\s#*_]*{_ROLE}[\s*_]*[:\uff1a][\s*_]*$", re.I)
_INLINE = re.compile(rf"^{_ROLE}:[ \t]+\S", re.I)
_OFTEN_MEANT = {
    "max_tokens": "maxOutputTokens",
    "maxTokens": "maxOutputTokens",
    "stop": "stopSequences",
    "gateway": "gateway.timeoutMs",
}


def lint(path: str, files: Mapping[str, bytes], models: ModelCatalogue) -> tuple[Finding, ...]:
    """Everything to mend in one prompt, by line.

    Args:
        path: The prompt.
        files: Every file by path: the prompt and the partials it may include.
        models: The models there are.
    """
    try:
        with reading():
            found = _findings(Subject.read(path, files), models)
    except PromptSyntaxError as error:
        return (Finding(error.path or path, error.line, "error", "broken-file", error.reason),)
    return tuple(sorted(found, key=lambda finding: (finding.path, finding.line or 0)))


def _findings(subject: Subject, models: ModelCatalogue) -> list[Finding]:
    return [
        *_unknown_keys(subject),
        *_model_findings(subject, models),
        *variable_findings(subject),
        *_role_findings(subject),
        *_text_findings(subject, models),
        *_unread_front_matter(subject),
    ]


def _unknown_keys(subject: Subject) -> Iterator[Finding]:
    for keys in subject.prompt.front.unknown:
        known = KNOWN_KEYS[keys[:-1]]
        near = [n for n in [_OFTEN_MEANT.get(keys[-1])] if n in known] or nearest(keys[-1], known)
        hint = f"did you mean '{near[0]}'?" if near else "put data of your own under 'metadata'"
        message = f"unknown key '{shown('.'.join(keys))}'; {hint}"
        yield subject.at_key(keys, "error", "unknown-key", message)


def _unread_front_matter(subject: Subject) -> Iterator[Finding]:
    for source in dict.fromkeys(source for source, _ in subject.composition.origins):
        if source.path != subject.prompt.path and source.front is not None:
            message = "nobody reads the front matter of a partial; move it into the prompts that include it"
            yield Finding(source.path, 1, "warning", "front-matter-of-partial", message)


def _model_findings(subject: Subject, models: ModelCatalogue) -> Iterator[Finding]:
    front = subject.prompt.front
    named: list[tuple[KeyPath, str]] = [] if front.model is None else [(("model",), front.model)]
    named += [(("gateway.fallbacks", str(n)), name) for n, name in enumerate(front.fallbacks)]
    for keys, name in named:
        provider, _, model = name.partition("/")
        try:
            yield from _misfits(subject, models.find(provider, model))
        except UnknownProvider as error:
            yield subject.at_key(keys, "error", "unknown-provider", _model_problem(keys, error))
        except UnknownModel as error:
            yield subject.at_key(keys, "error", "unknown-model", _model_problem(keys, error))


def _model_problem(keys: KeyPath, error: GatewayError) -> str:
    return f"'{keys[0]}': {error.message.removesuffix('.')}"


def _misfits(subject: Subject, spec: ModelSpec) -> Iterator[Finding]:
    """Parameters that a model does not take as they are."""
    options = subject.prompt.front.options
    if options.max_tokens is not None and options.max_tokens > spec.max_output_tokens:
        message = (
            f"'maxOutputTokens' is above what {spec.name} allows, {spec.max_output_tokens}; calls will fail"
        )
        yield subject.at_key(("config", "maxOutputTokens"), "error", "too-many-output-tokens", message)
    given = {"temperature": options.temperature, "topP": options.top_p, "stopSequences": options.stop or None}
    for key, value in given.items():
        if value is not None and not spec.sampling:
            message = f"{spec.name} does not take '{key}'; it is left out"
            yield subject.at_key(("config", key), "warning", "parameter-not-taken", message)
    if options.output_format == "json" and not spec.json_mode:
        message = f"{spec.name} has no JSON mode; its answer may be anything"
        yield subject.at_key(("output", "format"), "warning", "no-json-mode", message)


def _role_findings(subject: Subject) -> Iterator[Finding]:
    """Lines that look like role lines and are sent as text."""
    roles = role_lines(environment(), subject.body)
    lines = subject.body.split("\n")
    for number in sorted(_text_lines(subject.body) - roles):
        line = lines[number - 1]
        if _EXACT.match(line):
            message = "this role line is inside a block and is sent as text; move it out of the block"
            yield subject.at_line(number, "warning", "role-line-in-block", message)
        elif _NEAR.match(line) or (not roles and _INLINE.match(line)):
            message = "this line is sent as text; a role line holds nothing but system:, user: or assistant:"
            yield subject.at_line(number, "warning", "nearly-a-role-line", message)
    if roles:
        # A role line counts outside every block only, so what stands before it is a whole template.
        before = environment().parse("\n".join(lines[: min(roles) - 1]))
        for part in list(_printed(before))[:1]:
            message = "text before the first role line is sent as a user message; give it a role line"
            yield subject.at_line(_line(part), "warning", "text-before-role-line", message)


def _text_lines(body: str) -> set[int]:
    """Numbers of the lines that hold text outside tags, comments and raw sections."""
    found: set[int] = set()
    raw = False
    for line, kind, value in environment().lex(body):
        if kind in ("raw_begin", "raw_end"):
            raw = kind == "raw_begin"
        elif kind == "data" and not raw:
            found.update(range(line, line + value.count("\n") + 1))
    return found


def _text_findings(subject: Subject, models: ModelCatalogue) -> Iterator[Finding]:
    roles = role_lines(environment(), subject.body)
    lines = subject.body.split("\n")
    without = "\n".join("" if n in roles else line for n, line in enumerate(lines, start=1))
    if next(_printed(environment().parse(without)), None) is None:
        yield subject.at_key(
            (), "warning", "empty-prompt", "the prompt has no text; every call of it will fail"
        )
    elif _asks_for_plain_json(subject, models) and "json" not in _texts(subject.tree).lower():
        message = "JSON output is asked for, but no message says the word JSON; vendors refuse such calls"
        keys = ("output", "format" if ("output", "format") in subject.prompt.front.lines else "schema")
        yield subject.at_key(keys, "warning", "json-not-mentioned", message)


def _asks_for_plain_json(subject: Subject, models: ModelCatalogue) -> bool:
    """True if the vendor is told that the answer is JSON, and not of which schema."""
    front = subject.prompt.front
    provider, _, name = (front.model or "").partition("/")
    model = models.get(provider, name)
    told = front.options.output_schema is not None and (model is None or model.json_schema)
    return front.options.output_format == "json" and not told


def _printed(node: nodes.Node) -> Iterator[nodes.Expr]:
    """What a template sends: its expressions and its texts that are not blank, macros aside."""
    for child in node.iter_child_nodes():
        if isinstance(child, nodes.Output):
            yield from (p for p in child.nodes if not isinstance(p, nodes.TemplateData) or p.data.strip())
        elif not isinstance(child, nodes.Macro | nodes.AssignBlock):
            yield from _printed(child)


def _line(part: nodes.Expr) -> int:
    """The line on which something can be seen, below the blank ones."""
    text = part.data if isinstance(part, nodes.TemplateData) else ""
    return part.lineno + text.count("\n", 0, len(text) - len(text.lstrip()))


def _texts(tree: nodes.Template) -> str:
    texts = [part.data for part in tree.find_all(nodes.TemplateData)]
    return " ".join([*texts, *(str(part.value) for part in tree.find_all(nodes.Const))])
