"""The most that one call of a prompt can take, as far as its file says.

Only the input schema bounds variables (`maxLength`, `enum`, `maxItems`, ...). What nothing bounds is
unknown, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import nodes

from llm_gateway.json_schema.values import Json
from llm_gateway.models.catalogue import ModelSpec
from llm_gateway.models.completion import TokenUsage
from llm_gateway.models.tokens import TOKENS_PER_MESSAGE, estimated_tokens
from llm_gateway.prompts.lint.findings import Subject
from llm_gateway.prompts.rendering.sandbox import environment
from llm_gateway.prompts.rendering.template import role_lines

_NUMBER = 25  # the longest a double is written with
_PUNCTUATION = 4  # quotes, colon, comma
_ESCAPED = 4  # one character as `\ud83d\ude00`
_NO_LARGER = {
    *("upper", "lower", "trim", "title", "capitalize", "string", "list", "sort", "unique", "reverse"),
    *("select", "reject", "selectattr", "rejectattr", "first", "last", "min", "max"),
}
_NUMERIC = {"length", "count", "wordcount", "int", "float", "round", "abs", "sum"}
_LOOP: dict[str, Json] = {
    "properties": {
        name: {"type": "integer"} for name in ("index", "index0", "revindex", "revindex0", "length")
    }
}

_MOST = 10**12  # above it a bound bounds nothing


@dataclass(frozen=True, slots=True)
class _Scope:
    """Schemas of the names that are known at a place of the template, and the sizes that were worked out."""

    names: Mapping[str, Json]
    sizes: dict[int, int | None]

    def size(self, schema: Json) -> int | None:
        """`_size`, once for each schema however often the template uses it."""
        if id(schema) not in self.sizes:
            self.sizes[id(schema)] = _size(schema)
        return self.sizes[id(schema)]


@dataclass(frozen=True, slots=True)
class WorstCase:
    """Tokens of one call.

    Attributes:
        template_tokens: Estimate for the prompt's own text, every message included.
        input_tokens: The same with the largest variables the input schema allows, one token for each
            character of a text; None if the schema does not bound them.
        output_tokens: Most the answer may have; exact, reasoning included.
    """

    template_tokens: int
    input_tokens: int | None
    output_tokens: int

    @property
    def usage(self) -> TokenUsage:
        """For pricing: without its variables if they are unbounded."""
        known = self.template_tokens if self.input_tokens is None else self.input_tokens
        return TokenUsage(input_tokens=known, output_tokens=self.output_tokens)


def worst_case(subject: Subject, model: ModelSpec) -> WorstCase:
    """What a call of this prompt takes at most with this model."""
    messages = TOKENS_PER_MESSAGE * max(1, len(role_lines(environment(), subject.body)))
    text = sum(estimated_tokens(part.data) for part in subject.tree.find_all(nodes.TemplateData))
    largest = _all(subject.tree.body, _scope(subject))
    return WorstCase(
        template_tokens=messages + text,
        input_tokens=None if largest is None or largest > _MOST else messages + largest,
        output_tokens=subject.prompt.front.options.max_tokens or model.max_output_tokens,
    )


def _scope(subject: Subject) -> _Scope:
    """Schemas of the variables, less the names the template gives a value of its own."""
    own = {name.name for name in subject.tree.find_all(nodes.Name) if name.ctx != "load"}
    properties = _mapping((subject.prompt.front.input_schema or {}).get("properties"))
    return _Scope({name: schema for name, schema in properties.items() if name not in own}, {})


def _all(parts: Iterable[nodes.Node], scope: _Scope) -> int | None:
    return _sum(_tokens(part, scope) for part in parts)


def _tokens(node: nodes.Node, scope: _Scope) -> int | None:
    """Most tokens that a node sends; None if nothing bounds them."""
    match node:
        case nodes.TemplateData():
            return estimated_tokens(node.data)
        case nodes.Const():
            return estimated_tokens(str(node.value))
        case nodes.Output() | nodes.Concat():
            return _all(node.nodes, scope)
        case nodes.Assign() | nodes.AssignBlock() | nodes.Macro():
            return 0
        case nodes.If() | nodes.CondExpr() | nodes.Or():
            return _largest(_all(branch, scope) for branch in _branches(node))
        case nodes.For():
            return _repeated(node, scope)
        case nodes.Filter():
            return _filtered(node, scope)
    return scope.size(_schema(node, scope))


def _branches(node: nodes.If | nodes.CondExpr | nodes.Or) -> Iterator[Sequence[nodes.Node]]:
    match node:
        case nodes.If():
            yield from (node.body, *(branch.body for branch in node.elif_), node.else_)
        case nodes.CondExpr():
            yield from ([node.expr1], [node.expr2] if node.expr2 else [])
        case nodes.Or():
            yield from ([node.left], [node.right])


def _repeated(node: nodes.For, scope: _Scope) -> int | None:
    items = _mapping(_schema(node.iter, scope))
    count = items.get("maxItems")
    names = {**scope.names, "loop": _LOOP, **{name.name: None for name in node.target.find_all(nodes.Name)}}
    if isinstance(node.target, nodes.Name):
        names[node.target.name] = items.get("items")
    body = _all(node.body, _Scope(names, scope.sizes))
    if body is None or not isinstance(count, int | float):
        return 0 if body == 0 else None
    return _largest((int(count) * body, _all(node.else_, scope)))


def _filtered(node: nodes.Filter, scope: _Scope) -> int | None:
    given = nodes.Const(None) if node.node is None else node.node
    inner = _tokens(given, scope)
    if node.name in _NUMERIC:
        return _NUMBER
    if node.name in ("default", "d"):
        return _largest((inner, _all(node.args, scope)))
    if inner is None or node.name in _NO_LARGER:
        return inner
    if node.name == "tojson":
        return _ESCAPED * inner
    return _joined(_mapping(_schema(given, scope)), node, scope) if node.name == "join" else None


def _joined(items: Mapping[str, Json], node: nodes.Filter, scope: _Scope) -> int | None:
    count, item, between = items.get("maxItems"), scope.size(items.get("items")), _all(node.args, scope)
    if item is None or between is None or not isinstance(count, int | float):
        return None
    return int(count) * (item + between)


def _schema(node: nodes.Node, scope: _Scope) -> Json:
    """Schema of a path into the variables; None if it leads elsewhere."""
    match node:
        case nodes.Name():
            return scope.names.get(node.name)
        case nodes.Getattr():
            return _mapping(_mapping(_schema(node.node, scope)).get("properties")).get(node.attr)
        case nodes.Getitem(arg=nodes.Const(value=str() as key)):
            return _mapping(_mapping(_schema(node.node, scope)).get("properties")).get(key)
        case nodes.Getitem(arg=nodes.Const(value=int())):
            return _mapping(_schema(node.node, scope)).get("items")
        case nodes.Filter() if node.name in _NO_LARGER | {"default", "d"} and node.node is not None:
            return _schema(node.node, scope)
    return None


def _size(schema: Json) -> int | None:
    """Most tokens of a value as it is rendered; a text may take one for each character."""
    match schema:
        case {"enum": list() as values}:
            return _largest(estimated_tokens(str(value)) for value in values)
        case {"const": value}:
            return estimated_tokens(str(value))
        case {"anyOf": list() as choices} | {"oneOf": list() as choices}:
            return _largest(_size(choice) for choice in choices)
        case {"type": list() as kinds}:
            return _largest(_size_of_type(kind, _mapping(schema)) for kind in kinds)
        case {"type": kind}:
            return _size_of_type(kind, _mapping(schema))
    return None


def _size_of_type(kind: Json, schema: Mapping[str, Json]) -> int | None:
    match kind, schema:
        case "string", {"maxLength": int() | float() as length}:
            return int(length)
        case "integer" | "number", _:
            return _NUMBER
        case "boolean" | "null", _:
            return 1
        case "array", {"maxItems": int() | float() as count}:
            item = _size(schema.get("items"))
            return None if item is None else _PUNCTUATION + int(count) * (_ESCAPED * item + _PUNCTUATION)
        case "object", {"additionalProperties": False}:
            fields = _mapping(schema.get("properties"))
            names = sum(estimated_tokens(name) + _PUNCTUATION for name in fields)
            values = _sum(_size(field) for field in fields.values())
            return None if values is None else _PUNCTUATION + names + _ESCAPED * values
    return None


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _sum(parts: Iterable[int | None]) -> int | None:
    total = 0
    for part in parts:
        if part is None:
            return None
        total += part
    return total


def _largest(parts: Iterable[int | None]) -> int | None:
    found = [0, *parts]
    return None if None in found else max(part for part in found if part is not None)
