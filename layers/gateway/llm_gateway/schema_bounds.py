"""What a JSON Schema may ask for, known before it is compiled and before a value is checked against it.

A short schema can be endless work: two references to the next definition, twenty times over, are a
million rules for one value. So the rules that meet a value are counted level by level, in the way a
validator applies them, and both the schema and each value have to stay within a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from llm_gateway.json_bounds import Extent, TooManyValues, extent_of
from llm_gateway.pattern_size import states_of
from llm_gateway.schema_graph import InvalidSchema, Schema, SchemaGraph, patterns_of

MAX_VALUES = 10_000
MAX_CHARS = 131_072
MAX_DEPTH = 64
MAX_RULES = 20_000
MAX_RECURSIVE = 500
_LIGHT_RULES = 1_000
_LIGHT_RECURSION = 30

DIALECTS: Mapping[str, str] = {
    "json-schema.org/draft/2020-12/schema": "Draft202012Validator",
    "json-schema.org/draft/2019-09/schema": "Draft201909Validator",
    "json-schema.org/draft-07/schema": "Draft7Validator",
}
"""The dialects that `$schema` may name, and jsonschema-rs's class for each."""

_UNEVALUATED = {"unevaluatedProperties", "unevaluatedItems"}
_LOOKED_AT_AGAIN = 3  # times that a schema's neighbours are applied where one of those keywords is
_CHARS_PER_RULE = 32  # that are compared, or copied, in the time of one rule
_STATES_PER_RULE = 2


def dialect_of(document: Schema) -> str:
    """Name of jsonschema-rs's class for the document's dialect; that of 2020-12 if it names none.

    Raises:
        InvalidSchema: The dialect is none of DIALECTS.
    """
    named = document.get("$schema", "https://json-schema.org/draft/2020-12/schema")
    known = DIALECTS.get(named.partition("://")[2].rstrip("#")) if isinstance(named, str) else None
    if known is None:
        raise InvalidSchema(("$schema",), "names an unknown dialect; there are 2020-12, 2019-09 and draft-07")
    return known


@dataclass(frozen=True, slots=True)
class Costs:
    """What meets one value of a level.

    Attributes:
        rules: Rules, the entries of `required`, `enum` and the like counted one by one.
        states: States of patterns, each of which looks at every character.
    """

    rules: int = 0
    states: int = 0


_CostsOf = Callable[[int], Costs]


class SchemaBounds:
    """The rules of a schema that is within its bounds, ready to be counted for any value.

    Attributes:
        rules: Rules of the whole schema with its references followed, a recursion once.
        patterned: True if it has a pattern.
        explained_at_length: True if a violation may hold the violations of each branch.

    Raises:
        InvalidSchema: It is not; names the bound and the place.
    """

    def __init__(self, document: Schema) -> None:
        _check_extent(document)
        dialect_of(document)
        graph = SchemaGraph(document)
        self.patterned = graph.patterned
        self.explained_at_length = graph.explained_at_length
        nodes = _nodes(graph)
        self._nodes, self._top = [*nodes.values()], [*nodes].index(id(document))
        self._recursive = any(node.recursive for node in self._nodes)
        self._once = self._levels_once()
        self.rules = sum(costs.rules for costs in self._once)
        if self._recursive and len(self._nodes) > MAX_RECURSIVE:
            raise InvalidSchema((), f"has more than {MAX_RECURSIVE:,} schemas, some of which hold themselves")

    @property
    def light(self) -> bool:
        """True if the rules that meet a value are counted at once: they are few."""
        return self.rules <= _LIGHT_RULES and (not self._recursive or len(self._nodes) <= _LIGHT_RECURSION)

    def work(self, extent: Extent) -> int:
        """Rules that are applied at most when a value of this extent is checked."""
        met = zip(self._levels(len(extent.values)), extent.values, extent.chars, strict=False)
        return sum(
            values * costs.rules + chars * costs.states // _STATES_PER_RULE for costs, values, chars in met
        )

    def violations(self, extent: Extent) -> tuple[int, int]:
        """Violations of a value of this extent at most, and the weight of the parts that they hold."""
        count, copied, left = 0, 0, extent.weight
        met = zip(self._levels(len(extent.values)), extent.values, extent.chars, strict=False)
        for costs, values, chars in met:
            count += values * costs.rules
            copied += left * costs.rules
            left -= values + chars // _CHARS_PER_RULE
        return count, copied

    def _levels(self, depth: int) -> Sequence[Costs]:
        """What meets one value, level by level, the outermost first; what holds itself is followed."""
        if not self._recursive:
            return self._once
        found, below = list[Costs](), [Costs()] * len(self._nodes)
        for level in range(depth):
            here = [Costs()] * len(self._nodes)
            for n, node in enumerate(self._nodes):
                here[n] = node.costs(level, here.__getitem__, below.__getitem__)
            found.append(here[self._top])
            below = here
        return found

    def _levels_once(self) -> Sequence[Costs]:
        """The same for the schema as it stands: what leads back into itself is left out.

        Raises:
            InvalidSchema: There are too many rules or levels.
        """
        made: list[list[Costs]] = []
        for node in self._nodes:
            kept = [n for n in (*node.alternatives, *node.every, *node.names) if n not in node.recursive]
            depth = max([0, *(len(made[n]) for n in node.same), *(1 + len(made[n]) for n in kept)])
            if depth > MAX_DEPTH:
                raise InvalidSchema((), f"has more than {MAX_DEPTH} levels once its references are followed")
            made.append(_node_levels(node, made, depth))
            if sum(costs.rules for costs in made[-1]) > MAX_RULES:
                raise InvalidSchema((), f"has more than {MAX_RULES:,} rules once its references are followed")
        return made[self._top]


@dataclass(frozen=True, slots=True)
class _Node:
    """One schema: its own costs, and the numbers of the schemas that it applies; see Applied.

    Attributes:
        own: Costs of its own keywords.
        name_states: States of the patterns that names are held against.
        times: How often the schemas for the same value are applied.
        recursive: Numbers of those that lead back here.
    """

    own: Costs
    name_states: int
    times: int
    same: tuple[int, ...]
    alternatives: tuple[int, ...]
    every: tuple[int, ...]
    names: tuple[int, ...]
    recursive: frozenset[int]

    def costs(self, level: int, here: _CostsOf, below: _CostsOf) -> Costs:
        """What meets a value `level` levels in.

        Args:
            level: 0 is the value that this schema is applied to.
            here: Costs of the schemas for the same value, on this level.
            below: Costs of the schemas for its parts, which are one level nearer to them.
        """
        same = [here(n) for n in self.same]
        rules = self.times * sum(costs.rules for costs in same)
        states = self.times * sum(costs.states for costs in same)
        if level == 0:
            return Costs(rules + self.own.rules, states + self.own.states)
        one = [below(n) for n in self.alternatives]
        rules += max((costs.rules for costs in one), default=0)
        states += max((costs.states for costs in one), default=0)
        every = [below(n) for n in (*self.every, *(self.names if level == 1 else ()))]
        names = self.name_states if level == 1 else 0
        return Costs(
            rules + sum(costs.rules for costs in every), states + names + sum(costs.states for costs in every)
        )


def _node_levels(node: _Node, made: Sequence[Sequence[Costs]], depth: int) -> list[Costs]:
    """Costs of a node on each level, from those of the nodes before it."""

    def on(level: int) -> _CostsOf:
        return lambda n: made[n][level] if n not in node.recursive and level < len(made[n]) else Costs()

    return [node.costs(level, on(level), on(level - 1)) for level in range(max(1, depth))]


def _check_extent(document: Schema) -> None:
    try:
        extent = extent_of(document, MAX_VALUES)
    except TooManyValues as error:
        raise InvalidSchema((), str(error)) from None
    if len(extent.values) > MAX_DEPTH:
        raise InvalidSchema((), f"is nested more than {MAX_DEPTH} levels deep")
    if sum(extent.chars) > MAX_CHARS:
        raise InvalidSchema((), f"has more than {MAX_CHARS:,} characters")


def _nodes(graph: SchemaGraph) -> dict[int, _Node]:
    """A node for each schema, by its `id`, behind those that it applies to the same value."""
    applied = {key: graph.applied(schema) for key, schema in graph.schemas.items()}
    group = _groups({k: [id(s) for s in (*found.same, *found.parts)] for k, found in applied.items()})
    recursive = {k: {id(s) for s in found.parts if group[id(s)] == group[k]} for k, found in applied.items()}
    leads_to = {
        k: [id(s) for s in (*found.same, *found.parts) if id(s) not in recursive[k]]
        for k, found in applied.items()
    }
    try:
        order = list(TopologicalSorter(leads_to).static_order())
    except CycleError as error:
        looping = graph.schemas[error.args[1][0]]
        raise graph.fault(looping, "refers to itself without going into the value") from None
    number = {key: n for n, key in enumerate(order)}
    nodes = {}
    for key in order:
        schema, found = graph.schemas[key], applied[key]
        name_states = sum(states_of(name) for steps, name in patterns_of(schema) if len(steps) > 1)
        nodes[key] = _Node(
            own=Costs(
                _own_rules(schema), sum(states_of(p) for steps, p in patterns_of(schema) if len(steps) == 1)
            ),
            name_states=name_states,
            times=_LOOKED_AT_AGAIN if _UNEVALUATED & schema.keys() else 1,
            same=tuple(number[id(s)] for s in found.same),
            alternatives=tuple(number[id(s)] for s in found.alternatives),
            every=tuple(number[id(s)] for s in found.every),
            names=tuple(number[id(s)] for s in found.names),
            recursive=frozenset(number[k] for k in recursive[key]),
        )
    return nodes


def _own_rules(schema: Schema) -> int:
    """Rules of a schema's own keywords; a list of names or choices is compared entry by entry."""
    total = 1
    for keyword in ("required", "enum", "const", "dependentRequired", "dependencies"):
        if keyword in schema:
            total += extent_of(schema[keyword]).weight
    return total


def _groups(leads_to: Mapping[int, list[int]]) -> dict[int, int]:
    """For each schema a name of the recursion it is part of: those that lead to one another share it."""
    reverse: dict[int, list[int]] = {key: [] for key in leads_to}
    for key, found in leads_to.items():
        for target in found:
            reverse[target].append(key)
    group: dict[int, int] = {}
    for first in reversed(_finished(leads_to)):
        waiting = [first]
        while waiting:
            key = waiting.pop()
            if key not in group:
                group[key] = first
                waiting += reverse[key]
    return group


def _finished(leads_to: Mapping[int, list[int]]) -> list[int]:
    """All schemas, each behind those that it leads to, recursions aside."""
    seen, finished = set[int](), list[int]()
    for start in leads_to:
        waiting = [(start, False)]
        while waiting:
            key, done = waiting.pop()
            if done:
                finished.append(key)
            elif key not in seen:
                seen.add(key)
                waiting += [(key, True), *((target, False) for target in leads_to[key])]
    return finished
