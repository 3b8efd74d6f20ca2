"""Rewriting a template's syntax tree: what Jinja2 compiles to bare Python goes through functions of ours.

Loops, comparisons, `~`, slices, unpacked arguments and mappings with keys of any kind have no hook in
Jinja2. A call of `x.name(…)` becomes a call of the method of that name, so that a method is looked up
where it is called and nowhere else.
"""

from __future__ import annotations

from typing import TypeVar

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

# Names of filters; no tag can be written with them, and none is looked up by a name given as text.
ROUNDS = "~rounds"
CONCAT = "~concat"
COMPARE = "~compare"
COMPARED = "~compared"
SLICE = "~slice"
PAIRED = "~paired"
BODY = "~body"
METHOD = "~method"
UNPACKED = "~unpacked"
UNPACKED_NAMES = "~unpacked-names"
PRINTED = "~printed"

_NODES_PER_STEP = 4
_Body = TypeVar("_Body", nodes.Macro, nodes.CallBlock, nodes.Block, nodes.For)
_Called = TypeVar("_Called", nodes.Call, nodes.Filter, nodes.Test)


def metered(tree: nodes.Template) -> nodes.Template:
    """The tree with all of these sent through filters of ours; changes `tree`."""
    environment = tree.environment
    _Metering().visit(tree)
    if environment is not None:
        tree.set_environment(environment)
    return tree


class _Metering(NodeTransformer):
    """Visitors are named after the nodes they rewrite, as Jinja2 wants it."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """A round costs what its body holds; one of a loop that calls itself pays when it comes to it."""
        weight = _weight([*node.body, *([node.test] if node.test else [])])
        if node.recursive:
            self._paid(node)
        else:
            self.generic_visit(node)
        rounds = nodes.Const(1 if node.recursive else weight)
        node.iter = _through(ROUNDS, _expression(node.iter), rounds)
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._paid(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._paid(node)

    def visit_Block(self, node: nodes.Block) -> nodes.Node:
        return self._paid(node)

    def visit_FilterBlock(self, node: nodes.FilterBlock) -> nodes.Node:
        """What the filter makes is printed, as that of any other is."""
        self.generic_visit(node)
        node.filter = _through(PRINTED, node.filter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _through(CONCAT, nodes.Tuple(node.nodes, "load", lineno=node.lineno))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """Against a literal the effort is bounded by what stands in the template."""
        self.generic_visit(node)
        if len(node.ops) > 1:
            node.expr = _through(COMPARED, node.expr)
            for operand in node.ops:
                operand.expr = _through(COMPARED, operand.expr)
            return node
        operand = node.ops[0]
        if _literal(operand.expr):
            return node
        return _through(COMPARE, node.expr, nodes.Const(operand.op), operand.expr)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        """A slice is a copy; a single item is there already."""
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        bounds = (node.arg.start, node.arg.stop, node.arg.step)
        return _through(SLICE, node.node, *(bound or nodes.Const(None) for bound in bounds))

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        """Texts as keys are what most mappings have; any other key is looked at first."""
        self.generic_visit(node)
        if all(isinstance(pair.key, nodes.Const) and isinstance(pair.key.value, str) for pair in node.items):
            return node
        pairs: list[nodes.Expr] = [nodes.Tuple([pair.key, pair.value], "load") for pair in node.items]
        return _through(PAIRED, nodes.Tuple(pairs, "load", lineno=node.lineno))

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        self._unpacked(node)
        if isinstance(node.node, nodes.Getattr):
            node.node = _through(METHOD, node.node.node, nodes.Const(node.node.attr))
        return node

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        return self._unpacked(node)

    def visit_Test(self, node: nodes.Test) -> nodes.Node:
        return self._unpacked(node)

    def _unpacked(self, node: _Called) -> _Called:
        self.generic_visit(node)
        if node.dyn_args is not None:
            node.dyn_args = _through(UNPACKED, node.dyn_args)
        if node.dyn_kwargs is not None:
            node.dyn_kwargs = _through(UNPACKED_NAMES, node.dyn_kwargs)
        return node

    def _paid(self, node: _Body) -> _Body:
        weight = _weight(node.body)
        self.generic_visit(node)
        paid = _through(BODY, nodes.Const(weight, lineno=node.lineno))
        node.body.insert(0, nodes.ExprStmt(paid, lineno=node.lineno))
        return node


def _through(name: str, node: nodes.Expr, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)


def _expression(node: nodes.Node) -> nodes.Expr:
    assert isinstance(node, nodes.Expr)  # noqa: S101 (the parser takes nothing else there)
    return node


def _literal(node: nodes.Expr) -> bool:
    if isinstance(node, nodes.List | nodes.Tuple):
        return all(_literal(item) for item in node.items)
    return isinstance(node, nodes.Const)


def _weight(body: list[nodes.Node]) -> int:
    held = sum(1 for node in body for _ in node.find_all(nodes.Node))
    return 1 + (held + len(body)) // _NODES_PER_STEP
