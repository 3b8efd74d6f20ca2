"""What a JSON Schema may ask for, known before it is compiled and before a value is checked against it.

A short schema can be endless work: two references to the next definition, twenty times over, are a
million rules for one value. So the rules that meet a value are counted level by level, in the way a
validator applies them, and both the schema and each value have to stay within a bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_gateway.json_schema.schema_graph import InvalidSchema, Schema, SchemaGraph
from llm_gateway.json_schema.schema_rules import Costs, CostsOf, Node, nodes_of
from llm_gateway.json_schema.value_bounds import Extent, TooManyValues, extent_of

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


class SchemaBounds:
    """The rules of a schema that is within its bounds, ready to be counted for any value.

    Attributes:
        rules: Rules of the whole schema with its references followed, a recursion once.
        explained_at_length: True if a violation may hold the violations of each branch.

    Raises:
        InvalidSchema: It is not; names the bound and the place.
    """

    def __init__(self, document: Schema) -> None:
        _check_extent(document)
        dialect_of(document)
        graph = SchemaGraph(document)
        self.explained_at_length = graph.explained_at_length
        nodes = nodes_of(graph)
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


def _node_levels(node: Node, made: Sequence[Sequence[Costs]], depth: int) -> list[Costs]:
    """Costs of a node on each level, from those of the nodes before it."""

    def on(level: int) -> CostsOf:
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
