"""The rules of a schema, one node for each schema object, in an order in which they can be added up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from llm_gateway.json_schema.pattern_size import states_of
from llm_gateway.json_schema.schema_graph import Schema, SchemaGraph, patterns_of
from llm_gateway.json_schema.value_bounds import extent_of

_UNEVALUATED = {"unevaluatedProperties", "unevaluatedItems"}
_LOOKED_AT_AGAIN = 3  # times that a schema's neighbours are applied where one of those keywords is


@dataclass(frozen=True, slots=True)
class Costs:
    """What meets one value of a level.

    Attributes:
        rules: Rules, the entries of `required`, `enum` and the like counted one by one.
        states: States of patterns, each of which looks at every character.
    """

    rules: int = 0
    states: int = 0


CostsOf = Callable[[int], Costs]
"""Gives the costs of the schema of a number."""


@dataclass(frozen=True, slots=True)
class Node:
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

    def costs(self, level: int, here: CostsOf, below: CostsOf) -> Costs:
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


def nodes_of(graph: SchemaGraph) -> dict[int, Node]:
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
        nodes[key] = Node(
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
